"""What all pictures share: a blank figure where it may be written, and writing it whole."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fnn.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe & Ito's palette: told apart by color-blind eyes as well.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def blank(where: str, path: str | os.PathLike[str], **options: Any) -> tuple["Figure", Path]:
    """A figure, and where to write it; ConfigError where that cannot be, or without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError(where, "matplotlib to draw with", "no such package", "pip install 'fnn[plot]'") from None
    target, figure = Path(path), Figure(layout="constrained", **options)
    formats = figure.canvas.get_supported_filetypes()
    if target.suffix[1:] not in formats:
        raise ConfigError("path", f"a suffix among {', '.join(formats)}", target.name, "try .png")
    if not target.parent.is_dir():
        raise ConfigError("path", "a folder that exists", target.parent, "make it first")
    return figure, target


def write(figure: "Figure", target: Path) -> Path:
    """The path, with the figure there: a crash on the way leaves no half of it."""
    partial = target.with_name(f".{target.name}.partial")
    figure.savefig(partial, format=target.suffix[1:], dpi=150)
    return partial.replace(target)
