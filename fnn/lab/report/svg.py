"""Figures of matplotlib as SVG within a page, and images as data of the page."""

import base64
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from fnn.lab.plots.figure import create_figure
from fnn.lab.plots.image_grid import to_displayable
from fnn.lab.report.markup import Markup, element, raw_element

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = (4.6, 3.1)  # inches: a panel fits the width of a phone with readable text
PIXELS = 96  # of CSS in an inch
WIDE = 6.0  # inches above which a figure takes a whole row
LEAST_SCALE = 0.6  # of such a figure
MAX_SIDE = 96  # pixels of an image; larger ones are reduced
COLORS = 128  # of an image within a figure, such as a heat map
# Text stays text, and ids depend on the content alone.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fnn",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "figure.dpi": 100,
    "savefig.dpi": 110,
}
REFERENCE = re.compile(r"url\(#([^)]*)\)")
COORDINATE = re.compile(r"-?\d+\.\d{3,}")
ROUNDED = ("d", "x", "y", "transform", "width", "height")  # attributes of coordinates
FONT = re.compile(r"font-family: [^;]*;? ?")
LINK = "{http://www.w3.org/1999/xlink}href"


@contextmanager
def report_style() -> Iterator[None]:
    """Draw with the options of reports, whatever those of the user's matplotlib are."""
    import matplotlib
    from matplotlib import style

    with style.context("default"), matplotlib.rc_context(STYLE):
        yield


def create_panel(height: float = PANEL[1]) -> tuple["Figure", "Axes"]:
    """Return a figure of one panel.

    Args:
        height: In inches.
    """
    figure, _ = create_figure("report", None, figsize=(PANEL[0], height))
    return figure, figure.subplots()


def figure_markup(name: str, figure: "Figure", text: str) -> Markup:
    """Return a figure as an element of the page.

    Args:
        name: Its name, which occurs once in a page.
        figure: Of matplotlib.
        text: Caption, which readers without the picture get too.
    """
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Letters that no font of this machine has are drawn by the browser.
        warnings.filterwarnings("ignore", message="no installed font")
        figure.savefig(file, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(file.getvalue())
    ids = dict.fromkeys(_references(root))
    # Ids occur once in a page.
    for index, one in enumerate(ids):
        ids[one] = f"{name}-{index}"
    picture = _convert(root, ids)
    inches = figure.get_size_inches()[0]
    width = round(inches * PIXELS)
    kind = None
    if inches > WIDE:
        # On a narrow screen it scrolls, since its text would be too small.
        kind = "wide"
        box = element("div", picture, style=f"min-width:{width * LEAST_SCALE:.0f}px")
        picture = element("div", box, class_="scroll")
    caption = element("figcaption", text)
    return element(
        "figure",
        picture,
        caption,
        class_=kind,
        style=f"max-width:{width}px",
    )


def _references(root: ElementTree.Element) -> Iterator[str]:
    """Yield the ids that elements refer to."""
    for node in root.iter():
        for name, value in node.attrib.items():
            yield from REFERENCE.findall(value)
            if name == LINK and value.startswith("#"):
                yield value[1:]


def _convert(node: ElementTree.Element, ids: dict[str, Any]) -> Markup:
    """Return a node of SVG without namespaces, metadata and ids that are not used."""
    tag = node.tag.partition("}")[2]
    if tag in ("metadata", "style"):
        return Markup()
    attributes: dict[str, object] = {}
    for name, value in node.attrib.items():
        if name == "id":
            if value in ids:
                attributes["id"] = ids[value]
            continue
        if name == LINK:
            name = "href"
            # An image as data is broken into lines.
            value = "".join(value.split())
            value = f"#{ids[value[1:]]}" if value.startswith("#") else _reduce_colors(value)
        elif name in ROUNDED:
            value = COORDINATE.sub(_round, " ".join(value.split()))
        else:
            value = REFERENCE.sub(lambda match: f"url(#{ids[match[1]]})", FONT.sub("", value))
        attributes[name.partition("}")[2] or name] = value
    if tag == "svg":
        for name in ("width", "height", "version"):
            attributes.pop(name)
        attributes |= {"role": "img", "aria-hidden": "true"}
    text = "" if node.text is None or not node.text.strip() else node.text
    return raw_element(
        tag,
        attributes,
        [text, *(_convert(child, ids) for child in node)],
    )


def _round(match: re.Match[str]) -> str:
    return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")


def _reduce_colors(url: str) -> str:
    """Return an image of a figure with few colors, which takes a fraction of the bytes."""
    from PIL import Image  # matplotlib needs it too

    head, _, data = url.partition(",")
    assert head == "data:image/png;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    lowest, _ = picture.convert("RGBA").getchannel("A").getextrema()
    if lowest == 255:
        # The better of the methods, which cannot handle transparent points.
        return _encode(picture.convert("RGB").quantize(COLORS, Image.Quantize.MEDIANCUT))
    return _encode(picture.quantize(COLORS, Image.Quantize.FASTOCTREE))


def images_markup(images: Any, titles: list[str]) -> Markup:
    """Return images with titles, in as many columns as fit.

    Args:
        images: (n, height, width, channels).
        titles: Of each.
    """
    tiles = []
    for image, title in zip(to_displayable(images), titles, strict=True):
        picture = element(
            "img",
            src=_data_url(image),
            alt=title,
            width=PIXELS,
        )
        tiles.append(element("figure", picture, element("figcaption", title)))
    return element("div", *tiles, class_="tiles")


def _data_url(image: np.ndarray) -> str:
    """Return a displayable image as data of a page."""
    from PIL import Image

    if image.dtype != np.uint8:
        image = (255 * image + 0.5).astype(np.uint8)
    if image.shape[-1] == 1:
        image = image[..., 0]
    picture = Image.fromarray(image)
    if max(picture.size) > MAX_SIDE:
        picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BOX)
    return _encode(picture)


def _encode(picture: Any) -> str:
    """Return an image of pillow as data of a page."""
    file = io.BytesIO()
    picture.save(file, format="png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
