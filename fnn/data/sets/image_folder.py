"""Images in folders, one folder for each class."""

import mimetypes
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from fnn import checks
from fnn.data.sets.dataset import REPLACE, Labeled, file_path
from fnn.errors import ConfigError, DatasetFormatError, printable

# Formats that Pillow decodes without starting another program, as it does for EPS.
FORMATS = {
    ".bmp": "BMP",
    ".gif": "GIF",
    ".jfif": "JPEG",
    ".jpe": "JPEG",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".pbm": "PPM",
    ".pgm": "PPM",
    ".png": "PNG",
    ".pnm": "PPM",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
# Folders that programs make, not people: of archives from macOS. Names with a dot are hidden.
RESOURCE_FOLDER = "__MACOSX"
MODES = {1: "L", 3: "RGB"}  # Pillow's mode by number of channels
WIDE_MODES = "IF"  # first letters of Pillow's modes with more than 8 bits a channel
# Pillow's limit of pixels is a global variable.
PILLOW_LIMIT = threading.RLock()


def image_folder(
    directory: str | Path,
    *,
    size: int | Sequence[int],
    channels: int = 3,
    classes: Sequence[str] | None = None,
    max_pixels: int = 50_000_000,
) -> Labeled:
    """Load the images below a directory whose folders are the classes.

    Each image is scaled bilinearly until it covers `size`, and its center is cropped. Files are
    found in nested folders too, and behind links. Files of other types than BMP, GIF, JPEG, PNG,
    PPM, TIFF and WebP are skipped, with a warning that counts those of other image types. So are
    files and folders whose names begin with a dot, and the folders __MACOSX. The package Pillow is
    needed: pip install '.[images]'.

    Args:
        directory: Directory that holds one folder for each class.
        size: Size of the loaded images in pixels, one int or (height, width).
        channels: 3 for RGB, 1 for gray.
        classes: Names of the folders in the order of the labels, as `classes` of the training
            images, so that validation images get the same labels. A class may then have no images.
            If None, all folders in sorted order.
        max_pixels: Largest number of pixels of a file. It is compared before the file is decoded,
            so that a small malicious file cannot fill the memory.

    Returns:
        Images uint8 (n, height, width, channels) and labels int32 (n,), and the names of the
        folders: the name of label i is classes[i].

    Raises:
        ConfigError: The directory has no class folders, a class has no images, a folder is not
            among `classes` or cannot be read, an option is invalid, or Pillow is missing.
        DatasetFormatError: A file is not an image, is damaged, has more than 8 bits a channel or
            more than `max_pixels` pixels. The error names the file.
    """
    # Pillow is imported when the first file is read, after all options are checked.
    height, width = checks.pair("image_folder size", size)
    checks.choice("image_folder channels", channels, tuple(MODES))
    mode = MODES[channels]
    limit = checks.whole("image_folder max_pixels", max_pixels)
    directory = file_path("image_folder directory", directory)
    folders = _class_folders(directory, classes)
    paths: list[Path] = []
    labels: list[int] = []
    skipped: Counter[str] = Counter()
    for label, folder in enumerate(folders.values()):
        class_paths = _image_paths(folder, directory, skipped)
        if not class_paths and classes is None:
            _raise_without_images(folder, skipped)
        paths.extend(class_paths)
        labels.extend([label] * len(class_paths))
    if not paths:
        _raise_without_images(directory, skipped)
    _warn_of_loose_images(directory)
    images_skipped = {kind: skipped[kind] for kind in sorted(skipped) if _is_image_type(kind)}
    if images_skipped:
        message = (
            f"image_folder {directory}: {sum(images_skipped.values())} images of types that are "
            f"not read were skipped: {_list_types(images_skipped)}"
        )
        warnings.warn(printable(message), stacklevel=2)
    # One array for all, because a list of images and a copy would need twice the memory.
    images = np.empty((len(paths), height, width, channels), np.uint8)
    for image, path in zip(images, paths, strict=True):
        pixels = _read(path, (width, height), mode, limit)
        # (height, width) of a gray image to (height, width, 1)
        image[...] = pixels.reshape(image.shape)
    return Labeled((images, np.array(labels, np.int32)), tuple(folders))


def _class_folders(directory: Path, classes: Sequence[str] | None) -> dict[str, Path]:
    """Return the folders of the classes by name, in the order of the labels."""
    entries = sorted(directory.iterdir()) if directory.is_dir() else []
    visible = [path for path in entries if not _is_hidden(path.name)]
    for path in visible:
        _expect_target(path)
    found = {path.name: path for path in visible if path.is_dir()}
    if not found:
        where = "image_folder directory"
        expected = "a directory of folders, one a class"
        advice = "give the folder that holds a folder for each class"
        raise ConfigError(where, expected, directory, advice)
    if classes is None:
        return found
    where = "image_folder classes"
    is_names = isinstance(classes, Sequence) and not isinstance(classes, str)
    if not is_names or not all(isinstance(name, str) for name in classes) or not classes:
        advice = "give those of the training images"
        raise ConfigError(where, "names of folders", repr(classes), advice)
    if len(set(classes)) < len(classes):
        raise ConfigError(where, "each name once", repr(tuple(classes)), "leave out the copies")
    # A folder of another name would be left out silently, which is more likely a mistake.
    unknown = [name for name in found if name not in classes]
    if unknown:
        got = printable(f"without {', '.join(unknown)}, which {directory} has")
        advice = "name all folders, or remove those that are no classes"
        raise ConfigError(where, "the name of each folder", got, advice)
    return {name: directory / name for name in classes}


def _expect_target(path: Path) -> None:
    """Raise DatasetFormatError for a link to an image or a folder that does not exist."""
    is_wanted = not path.suffix or path.suffix.lower() in FORMATS
    if is_wanted and path.is_symlink() and not path.exists():
        where = f"image_folder {path}"
        expected = "an image or a folder"
        raise DatasetFormatError(where, expected, "a link to no file", "remove or restore it")


def _warn_of_loose_images(directory: Path) -> None:
    """Warn of images next to the folders of the classes, which have no class."""
    loose = [path.name for path in directory.iterdir() if path.suffix.lower() in FORMATS]
    visible = [name for name in loose if not _is_hidden(name) and (directory / name).is_file()]
    if visible:
        message = (
            f"image_folder {directory}: {len(visible)} images in no folder of a class were "
            f"skipped, such as {min(visible)}"
        )
        warnings.warn(printable(message), stacklevel=3)


def _is_hidden(name: str) -> bool:
    # Such as .git, .ipynb_checkpoints, and ._1.png, where macOS keeps the attributes of 1.png.
    return name.startswith(".") or name == RESOURCE_FOLDER


def _image_paths(folder: Path, directory: Path, skipped: Counter[str]) -> list[Path]:
    """Return the images in a folder and those below it, and count the types of other files."""
    paths = []
    # Links are followed, but no folder is read twice, so that loops end. One that leads to the
    # folder of all classes would mix them.
    for path in _files(folder, {directory.resolve()}):
        kind = path.suffix.lower()
        _expect_target(path)
        if kind not in FORMATS:
            skipped[kind] += 1
        elif path.is_file():
            paths.append(path)
    # Sorted, because the order of a directory depends on the file system.
    return sorted(paths)


def _files(folder: Path, visited: set[Path]) -> Iterator[Path]:
    """Yield all that is below a folder and is no folder, without hidden names.

    Args:
        folder: The folder, which need not exist.
        visited: The real paths of folders that are not entered again.
    """
    real = folder.resolve()
    if real in visited or not folder.is_dir():
        return
    visited.add(real)
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        where = f"image_folder {folder}"
        advice = "change its permissions, or remove it"
        raise ConfigError(where, "a folder that may be read", error.strerror, advice) from error
    for path in entries:
        if _is_hidden(path.name):
            continue
        if path.is_dir():
            yield from _files(path, visited)
        else:
            yield path


def _raise_without_images(folder: Path, skipped: Counter[str]) -> NoReturn:
    where = "image_folder directory"
    expected = f"images ({', '.join(FORMATS)}) in each folder"
    got = f"{printable(str(folder))} without images"
    if skipped:
        got += f", and others of types {_list_types(skipped)}"
    raise ConfigError(where, expected, got, "remove the folder, or add images to it")


def _is_image_type(suffix: str) -> bool:
    kind, _ = mimetypes.guess_type(f"name{suffix}")
    return kind is not None and kind.startswith("image/")


def _list_types(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{kind or 'none'} ({count})" for kind, count in counts.items())


def _read(
    path: Path,
    size: tuple[int, int],
    mode: str,
    max_pixels: int,
) -> np.ndarray:
    """Decode one image to uint8 (height, width, channels), or (height, width) of mode L."""
    image_module, _ = _pillow()
    where = f"image_folder {path}"
    formats = sorted(set(FORMATS.values()))
    try:
        with _without_pillow_limit(), image_module.open(path, formats=formats) as picture:
            _expect_decodable(where, picture, max_pixels)
            return _resize(picture, size, mode)
    except DatasetFormatError:
        raise
    except (
        # Pillow's errors for damaged files.
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
    ) as error:
        got = f"{type(error).__name__}: {error}"
        raise DatasetFormatError(where, "a whole image", got, REPLACE) from error


@contextmanager
def _without_pillow_limit() -> Iterator[None]:
    """Lift Pillow's own limit of pixels, so that `max_pixels` is the only one."""
    image_module, _ = _pillow()
    # One thread at a time, so that none restores the limit while another one decodes.
    with PILLOW_LIMIT:
        own_limit = image_module.MAX_IMAGE_PIXELS
        image_module.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            image_module.MAX_IMAGE_PIXELS = own_limit


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
