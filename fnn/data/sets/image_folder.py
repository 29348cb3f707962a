"""Pictures in folders, a folder a class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fnn import checks
from fnn.data.sets.dataset import ANEW, Labeled
from fnn.errors import ConfigError, DatasetFormatError

# What Pillow reads by itself, and starts no other program for.
FORMATS = {
    ".bmp": "BMP",
    ".gif": "GIF",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".ppm": "PPM",
    ".webp": "WEBP",
}
MODES = {1: "L", 3: "RGB"}


def image_folder(
    directory: str | Path,
    *,
    size: int | Sequence[int],
    channels: int = 3,
    max_pixels: int = 50_000_000,
) -> Labeled:
    """The pictures below a directory, whose folders are the classes: images uint8 (n, height, width, channels).

    size is one int or (height, width): a picture is scaled until it covers that, bilinearly, and its middle is kept. In
    color, or with channels=1 in gray. The examples are (images, labels int32 (n,)); label i is classes[i], the folders'
    names in order. Files of other endings are passed over. Needs Pillow: fnn[images]. ConfigError for a directory
    without classes or a class without pictures; DatasetFormatError for a file that is no picture, and for one of more
    pixels than max_pixels, which is known before it is decoded.
    """
    height, width = checks.pair("image_folder size", size)
    mode = MODES[checks.choice("image_folder channels", channels, tuple(MODES))]
    most = checks.whole("image_folder max_pixels", max_pixels)
    folders = _classes(Path(directory))
    paths = [(path, label) for label, folder in enumerate(folders) for path in _pictures(folder)]
    images = np.empty((len(paths), height, width, channels), np.uint8)
    for image, (path, _) in zip(images, paths, strict=True):
        image[...] = _read(path, (width, height), mode, most).reshape(image.shape)
    labels = np.array([label for _, label in paths], np.int32)
    return Labeled((images, labels), tuple(folder.name for folder in folders))


def _classes(directory: Path) -> list[Path]:
    found = sorted(directory.iterdir()) if directory.is_dir() else []
    folders = [path for path in found if path.is_dir() and not path.name.startswith(".")]
    if not folders:
        advice = "give the folder that holds a folder for each class"
        raise ConfigError(
            "image_folder directory", "a directory of folders, one a class", directory, advice
        )
    return folders


def _pictures(folder: Path) -> list[Path]:
    found = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in FORMATS and path.is_file()
    )
    if not found:
        endings = ", ".join(FORMATS)
        advice = "take the folder away, or put some there"
        raise ConfigError(
            "image_folder directory",
            f"pictures ({endings}) in each folder",
            f"{folder}: none",
            advice,
        )
    return found


def _read(path: Path, size: tuple[int, int], mode: str, most: int) -> np.ndarray:
    image_module, operations = _pillow()
    where, bombs = (
        f"image_folder {path}",
        (image_module.DecompressionBombError, image_module.DecompressionBombWarning),
    )
    try:
        with image_module.open(path, formats=tuple(FORMATS.values())) as picture:
            if picture.width * picture.height > most:
                got, advice = (
                    f"{picture.width:,} x {picture.height:,}",
                    "make it smaller, or max_pixels larger",
                )
                raise DatasetFormatError(where, f"at most {most:,} pixels", got, advice)
            if picture.mode[0] in "IF":
                raise DatasetFormatError(
                    where, "8 bits a channel", f"mode {picture.mode}", "convert it"
                )
            picture.draft(mode, (max(size),) * 2)  # a large JPEG is decoded no larger than needed
            upright = (
                operations.exif_transpose(picture)
                .convert("RGBA" if picture.mode == "P" else mode)
                .convert(mode)
            )
            return np.asarray(operations.fit(upright, size, image_module.Resampling.BILINEAR))
    except DatasetFormatError:
        raise
    # Pillow tells of a damaged file in many ways.
    except (OSError, SyntaxError, ValueError, EOFError, *bombs) as error:
        raise DatasetFormatError(
            where, "a whole picture", f"{type(error).__name__}: {error}", ANEW
        ) from error


def _pillow() -> Any:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        advice = "pip install 'fnn[images]'"
        raise ConfigError(
            "image_folder", "Pillow to read with", "no such package", advice
        ) from error
    return Image, ImageOps
