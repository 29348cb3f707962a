"""Figures of matplotlib that notebooks show, and files of them."""

import io
import os
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fnn.data.sets.dataset import file_path
from fnn.errors import ConfigError, printable
from fnn.lab.disk import replace_file, write_errors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FilePath = str | os.PathLike[str]

# Okabe & Ito's palette, whose colors color-blind readers can distinguish.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Fonts with the scripts that matplotlib's own lacks, as far as they are installed: of Chinese,
# Japanese, Korean, Thai, Hindi, Arabic and others, on Linux, Windows and macOS.
SCRIPT_FONTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans CJK KR",
    "Noto Sans JP",
    "Noto Sans SC",
    "Noto Sans KR",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Yu Gothic",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
    "Noto Sans Thai",
    "Noto Sans Devanagari",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Leelawadee UI",
    "Nirmala UI",
    "Thonburi",
    "Arial Unicode MS",
    "Unifont",
)
SEQUENTIAL = "cividis"  # a color map that looks the same to color-blind readers
DPI = 150


def create_figure(
    where: str, path: FilePath | None, **options: Any
) -> tuple["Figure", Path | None]:
    """Create an empty figure, and check the path that it will be written to.

    Args:
        where: Name of the plot, for errors.
        path: The file, whose suffix is its format, or None.
        options: Options of matplotlib's Figure.

    Raises:
        ConfigError: matplotlib is not installed, the suffix is not a format that it writes, or the
            folder does not exist.
    """
    # matplotlib is optional, and slow to import: only plots need it.
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError(
            where,
            "matplotlib to draw with",
            "no such package",
            "pip install '.[plot]' in the checkout of fnn",
        ) from None

    class NotebookFigure(Figure):
        """A figure that a notebook shows although pyplot did not create it."""

        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png", dpi=DPI)
            return file.getvalue()

        def draw(self, renderer: Any) -> None:
            with _plain_text(self):
                super().draw(renderer)

    figure = NotebookFigure(layout="constrained", **options)
    target = None if path is None else _expect_writable(file_path("path", path), figure)
    return figure, target


@contextmanager
def _plain_text(figure: "Figure") -> Iterator[None]:
    """Draw names as they are: with letters of any script, and $ as a character.

    matplotlib would read text between two $ as mathematics, and warn of each letter that its font
    lacks.
    """
    import matplotlib
    from matplotlib.font_manager import fontManager
    from matplotlib.text import Text

    installed = set(fontManager.get_font_names())
    family = [*matplotlib.rcParams["font.family"]]
    family += [name for name in SCRIPT_FONTS if name in installed]
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_fontfamily(family)
        # Control characters have no glyph, and matplotlib fails at half of a surrogate pair.
        text.set_text("\n".join(map(drawable, text.get_text().split("\n"))))
    # The labels of ticks are made while the figure is drawn.
    options: Any = {"text.parse_math": False, "font.family": family}
    with warnings.catch_warnings(record=True) as caught, matplotlib.rc_context(options):
        warnings.simplefilter("always")
        yield
    missing = [one for one in caught if "missing from font" in str(one.message)]
    for one in caught:
        if one not in missing:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if missing:
        warnings.warn(
            "no installed font has all letters of the names, so that some are drawn as boxes: "
            "install one, such as Noto Sans CJK, and delete matplotlib's font cache",
            stacklevel=2,
        )


def drawable(line: str) -> str:
    """Return a line of text with its control characters escaped."""
    # Invisible characters that matplotlib draws as such, as those of joined letters, are kept.
    is_plain = not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in line)
    return line if is_plain else printable(line)


def _expect_writable(target: Path, figure: "Figure") -> Path:
    formats = figure.canvas.get_supported_filetypes()
    if target.suffix[1:] not in formats:
        raise ConfigError(
            "path",
            f"a suffix among {', '.join(formats)}",
            target.name,
            "try .png",
        )
    if not target.parent.is_dir():
        raise ConfigError(
            "path",
            "a folder that exists",
            target.parent,
            "make it first",
        )
    return target


def save_figure(figure: "Figure", target: Path | None) -> "Figure":
    """Write the figure to the target, if there is one, and return the figure.

    Raises:
        WriteError: The disk refused it; a file of that name is as before.
    """
    if target is not None:
        file = io.BytesIO()
        figure.savefig(file, format=target.suffix[1:], dpi=DPI)
        with write_errors(f"picture {target.name}", target.parent):
            replace_file(target, [file.getvalue()])
    return figure
