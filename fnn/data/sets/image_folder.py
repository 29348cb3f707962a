"""Images in folders, one folder for each class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fnn import checks
from fnn.data.sets.dataset import REPLACE, Labeled
from fnn.errors import ConfigError, DatasetFormatError

# Formats that Pillow decodes without starting another program, as it does for EPS.
FORMATS = {
    ".bmp": "BMP",
    ".gif": "GIF",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".ppm": "PPM",
    ".webp": "WEBP",
}
MODES = {1: "L", 3: "RGB"}  # Pillow's mode by number of channels
WIDE_MODES = "IF"  # first letters of Pillow's modes with more than 8 bits a channel


def image_folder(
    directory: str | Path,
    *,
    size: int | Sequence[int],
    channels: int = 3,
    max_pixels: int = 50_000_000,
) -> Labeled:
    """Load the images below a directory whose folders are the classes.

    Each image is scaled bilinearly until it covers `size`, and its center is cropped. Files are
    found in nested folders too; files of other types than BMP, GIF, JPEG, PNG, PPM and WebP are
    skipped, and so are folders whose names begin with a dot. The package Pillow is needed:
    pip install '.[images]'.

    Args:
        directory: Directory that holds one folder for each class.
        size: Size of the loaded images in pixels, one int or (height, width).
        channels: 3 for RGB, 1 for gray.
        max_pixels: Largest number of pixels of a file. It is compared before the file is decoded,
            so that a small malicious file cannot fill the memory.

    Returns:
        Images uint8 (n, height, width, channels) and labels int32 (n,), and the names of the
        folders in sorted order: the name of label i is classes[i].

    Raises:
        ConfigError: The directory has no class folders, a class has no images, an option is
            invalid, or Pillow is missing.
        DatasetFormatError: A file is not an image, is damaged, has more than 8 bits a channel or
            more than `max_pixels` pixels. The error names the file.
    """
    # Pillow is imported when the first file is read, after all options are checked.
    height, width = checks.pair("image_folder size", size)
    checks.choice("image_folder channels", channels, tuple(MODES))
    mode = MODES[channels]
    limit = checks.whole("image_folder max_pixels", max_pixels)
    folders = _class_folders(Path(directory))
    paths = []
    labels = []
    for label, folder in enumerate(folders):
        class_paths = _image_paths(folder)
        paths.extend(class_paths)
        labels.extend([label] * len(class_paths))
    # One array for all, because a list of images and a copy would need twice the memory.
    images = np.empty((len(paths), height, width, channels), np.uint8)
    for image, path in zip(images, paths, strict=True):
        pixels = _read(path, (width, height), mode, limit)
        # (height, width) of a gray image to (height, width, 1)
        image[...] = pixels.reshape(image.shape)
    classes = tuple(folder.name for folder in folders)
    return Labeled((images, np.array(labels, np.int32)), classes)


def _class_folders(directory: Path) -> list[Path]:
    entries = sorted(directory.iterdir()) if directory.is_dir() else []
    # Folders such as .git or .ipynb_checkpoints are not classes.
    folders = [path for path in entries if path.is_dir() and not path.name.startswith(".")]
    if not folders:
        where = "image_folder directory"
        expected = "a directory of folders, one a class"
        advice = "give the folder that holds a folder for each class"
        raise ConfigError(where, expected, directory, advice)
    return folders


def _image_paths(folder: Path) -> list[Path]:
    # Sorted, because the order of a directory depends on the file system.
    entries = sorted(folder.rglob("*"))
    paths = [path for path in entries if path.suffix.lower() in FORMATS and path.is_file()]
    if not paths:
        where = "image_folder directory"
        expected = f"images ({', '.join(FORMATS)}) in each folder"
        advice = "remove the folder, or add images to it"
        raise ConfigError(where, expected, f"{folder} without images", advice)
    return paths


def _read(
    path: Path,
    size: tuple[int, int],
    mode: str,
    max_pixels: int,
) -> np.ndarray:
    """Decode one image to uint8 (height, width, channels), or (height, width) of mode L."""
    image_module, _ = _pillow()
    try:
        with image_module.open(path, formats=tuple(FORMATS.values())) as picture:
            _expect_decodable(f"image_folder {path}", picture, max_pixels)
            return _resize(picture, size, mode)
    except DatasetFormatError:
        raise
    except (
        # Pillow's errors for damaged files.
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        image_module.DecompressionBombError,
        image_module.DecompressionBombWarning,
    ) as error:
        where = f"image_folder {path}"
        got = f"{type(error).__name__}: {error}"
        raise DatasetFormatError(where, "a whole image", got, REPLACE) from error


def _expect_decodable(
    where: str,
    picture: Any,
    max_pixels: int,
) -> None:
    """Check size and mode, which the header of the file holds."""
    # Before anything is decoded.
    if picture.width * picture.height > max_pixels:
        got = f"{picture.width:,} x {picture.height:,}"
        advice = "make it smaller, or max_pixels larger"
        raise DatasetFormatError(
            where,
            f"at most {max_pixels:,} pixels",
            got,
            advice,
        )
    # Conversion to 8 bits would clip such levels silently.
    if picture.mode[0] in WIDE_MODES:
        got = f"mode {picture.mode}"
        raise DatasetFormatError(where, "8 bits a channel", got, "convert it")


def _resize(
    picture: Any,
    size: tuple[int, int],
    mode: str,
) -> np.ndarray:
    image_module, operations = _pillow()
    # Decode a large JPEG at a fraction of its size, but not below the size that is needed.
    picture.draft(mode, (max(size),) * 2)
    upright = operations.exif_transpose(picture)
    # A palette with transparency is converted to RGBA first, or Pillow warns.
    color = upright.convert("RGBA" if picture.mode == "P" else mode)
    fitted = operations.fit(color.convert(mode), size, image_module.Resampling.BILINEAR)
    return np.asarray(fitted)


def _pillow() -> Any:
    """Import Pillow on first use, because it is an optional dependency."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        advice = "pip install '.[images]' in the checkout of fnn"
        raise ConfigError(
            "image_folder",
            "the package Pillow",
            "ImportError",
            advice,
        ) from error
    return Image, ImageOps
