"""What all pictures share: a blank figure where it may be written, and writing it whole."""

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fnn.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Place = str | os.PathLike[str]  # of a picture

# Okabe & Ito's palette: told apart by color-blind eyes as well.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SEQUENTIAL = "cividis"  # from less to more, told the same way by color-blind eyes
DPI = 150


def blank(where: str, path: Place | None, **options: Any) -> tuple["Figure", Path | None]:
    """A figure, and where to write it, if anywhere; ConfigError where that cannot be, or without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError(
            where, "matplotlib to draw with", "no such package", "pip install 'fnn[plot]'"
        ) from None

    class Picture(Figure):
        """A figure that a notebook shows, though nobody asked pyplot for it."""

        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png", dpi=DPI)
            return file.getvalue()

    figure = Picture(layout="constrained", **options)
    return figure, None if path is None else _expect_picture_place(Path(path), figure)


def _expect_picture_place(target: Path, figure: "Figure") -> Path:
    formats = figure.canvas.get_supported_filetypes()
    if target.suffix[1:] not in formats:
        raise ConfigError("path", f"a suffix among {', '.join(formats)}", target.name, "try .png")
    if not target.parent.is_dir():
        raise ConfigError("path", "a folder that exists", target.parent, "make it first")
    return target


def write(figure: "Figure", target: Path | None) -> "Figure":
    """The figure, which is then there, if it goes anywhere: a crash on the way leaves no half of it."""
    if target is not None:
        partial = target.with_name(f".{target.name}.partial")
        figure.savefig(partial, format=target.suffix[1:], dpi=DPI)
        partial.replace(target)
    return figure
