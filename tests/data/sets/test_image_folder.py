"""Folders of images against Pillow; damaged images and decompression bombs."""

import re
import struct
import sys
import tracemalloc
import zlib
from itertools import chain

import numpy as np
import pytest
from crafting import damaged
from PIL import Image, ImageOps

from fnn import data
from fnn.errors import ConfigError, DatasetFormatError

DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (12, 20, 3), np.uint8)


def stored(path, pixels=PIXELS, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    stored(tmp_path / "dog" / "b.png")
    stored(tmp_path / "dog" / "a.bmp", PIXELS[::-1])
    stored(tmp_path / "cat" / "deep" / "c.PNG", PIXELS[:, ::-1])
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "readme.md").write_text("no class")
    return tmp_path


def test_sorted_folders_are_the_classes(folder):
    (images, labels), classes = data.image_folder(folder, size=(12, 20))
    assert classes == ("cat", "dog") and (images.dtype, labels.dtype) == (np.uint8, np.int32)
    np.testing.assert_array_equal(labels, [0, 1, 1])
    np.testing.assert_array_equal(images, [PIXELS[:, ::-1], PIXELS[::-1], PIXELS])


@pytest.mark.parametrize("size", [8, (5, 9), (30, 12)])
@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_images_are_scaled_to_cover_the_size_and_center_cropped(folder, size, channels, mode):
    (images, _), _ = data.image_folder(str(folder), size=size, channels=channels)
    height, width = size if isinstance(size, tuple) else (size, size)
    oracle = ImageOps.fit(
        Image.fromarray(PIXELS).convert(mode), (width, height), Image.Resampling.BILINEAR
    )
    np.testing.assert_array_equal(images[2], np.asarray(oracle).reshape(height, width, channels))


@pytest.mark.parametrize("ending", ["jpg", "webp", "gif", "ppm", "jpeg", "bmp", "tif", "tiff"])
def test_every_format_is_decoded_as_by_pillow(ending, tmp_path):
    path = stored(tmp_path / "class" / f"a.{ending}")
    (images, _), _ = data.image_folder(tmp_path, size=(12, 20))
    with Image.open(path) as picture:
        np.testing.assert_array_equal(images[0], picture.convert("RGB"))


def test_rarer_endings_are_read(tmp_path):
    gray = PIXELS[..., 0]
    for ending in ("pgm", "PNM", "pbm"):
        stored(tmp_path / "class" / f"a.{ending}", gray, format="PPM")
    for ending in ("jfif", "jpe", "JPG"):
        stored(tmp_path / "class" / f"b.{ending}", format="JPEG")
    (images, labels), _ = data.image_folder(tmp_path, size=(12, 20), channels=1)
    assert len(labels) == 6
    np.testing.assert_array_equal(images[:3, ..., 0], [gray] * 3)


def test_hidden_files_and_folders_are_skipped(folder):
    expected = data.image_folder(folder, size=8)
    for hidden in (".ipynb_checkpoints", "__MACOSX"):
        stored(folder / "cat" / hidden / "c-checkpoint.png")
        stored(folder / hidden / "c.png")
    for name in ("._c.png", ".DS_Store", "deep/._c.PNG"):
        (folder / "cat" / name).write_bytes(b"\0\5\x16\7")
    found = data.image_folder(folder, size=8)
    assert found.classes == expected.classes
    for array, same in zip(found.examples, expected.examples, strict=True):
        np.testing.assert_array_equal(array, same)


def test_links_are_followed_without_loops(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    stored(elsewhere / "one.png", PIXELS // 2)
    (folder / "cat" / "more").symlink_to(elsewhere)
    (folder / "dog" / "linked.png").symlink_to(elsewhere / "one.png")
    (folder / "bird").symlink_to(elsewhere)
    (elsewhere / "deeper").mkdir()
    for name, goal in {"self": ".", "down": "deeper"}.items():
        (elsewhere / name).symlink_to(goal)
    (elsewhere / "deeper" / "up").symlink_to("..")
    (folder / "dog" / "all").symlink_to(folder)
    (folder / "dog" / "here").symlink_to(".")
    (images, labels), classes = data.image_folder(folder, size=(12, 20))
    assert classes == ("bird", "cat", "dog")
    np.testing.assert_array_equal(labels, [0, 1, 1, 2, 2, 2])
    for index in (0, 2, 5):
        np.testing.assert_array_equal(images[index], PIXELS // 2)


def test_a_link_to_no_file_raises(folder):
    (folder / "dog" / "gone.png").symlink_to(folder / "nowhere.png")
    with pytest.raises(DatasetFormatError, match=r"gone\.png: .*got a link to no file"):
        data.image_folder(folder, size=8)


def test_a_class_that_is_a_link_to_no_folder_raises(folder):
    (folder / "bird").symlink_to(folder / "nowhere")
    with pytest.raises(DatasetFormatError, match=r"bird: .*got a link to no file"):
        data.image_folder(folder, size=8)


def test_images_outside_of_the_folders_of_classes_are_counted(folder):
    stored(folder / "loose.png")
    with pytest.warns(UserWarning, match=r"1 images in no folder .* skipped, such as loose\.png"):
        data.image_folder(folder, size=8)


def test_classes_fix_the_labels(folder, tmp_path):
    (images, labels), classes = data.image_folder(folder, size=8, classes=("bird", "dog", "cat"))
    assert classes == ("bird", "dog", "cat")
    np.testing.assert_array_equal(labels, [1, 1, 2])
    (expected, _), _ = data.image_folder(folder, size=8)
    np.testing.assert_array_equal(images, expected[[1, 2, 0]])
    (folder / "empty").mkdir()
    (_, labels), _ = data.image_folder(folder, size=8, classes=["cat", "dog", "empty"])
    np.testing.assert_array_equal(labels, [0, 1, 1])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("cat",), "expected the name of each folder, got without dog, which"),
        (("cat", "dog", "cat"), "expected each name once"),
        ("cat", "expected names of folders, got 'cat'"),
        ((), "expected names of folders"),
        ((1, 2), "expected names of folders"),
    ],
)
def test_classes_that_do_not_fit_the_folders_raise(classes, message, folder):
    with pytest.raises(ConfigError, match=f"image_folder classes: {message}"):
        data.image_folder(folder, size=8, classes=classes)


def test_images_of_types_that_are_not_read_are_counted(folder):
    for name in ("cat/x.svg", "dog/x.svg", "dog/deep/y.ICO", "dog/.z.svg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    with pytest.warns(UserWarning, match=r"3 images .* skipped: \.ico \(1\), \.svg \(2\)$"):
        data.image_folder(folder, size=8)


def test_names_of_files_are_escaped_in_messages(tmp_path):
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "\x1b]0;title\x07\n.png").write_bytes(b"")
    with pytest.raises(DatasetFormatError) as caught:
        data.image_folder(tmp_path, size=8)
    assert r"class/\x1b]0;title\x07\n.png: expected" in str(caught.value)
    (tmp_path / "\x1b[2J\n").mkdir()
    with pytest.raises(ConfigError) as caught:
        data.image_folder(tmp_path, size=8)
    assert str(caught.value).isprintable()
    with pytest.raises(ConfigError) as caught:
        data.image_folder(tmp_path, size=8, classes=("class",))
    assert str(caught.value).isprintable()


def test_images_of_other_modes_become_rgb(tmp_path):
    flat = Image.fromarray(np.full((6, 6, 3), 200, np.uint8))
    transparent = flat.convert("P")
    for mode in ("1", "L", "LA", "RGBA", "P", "CMYK"):
        (tmp_path / mode).mkdir()
        flat.convert(mode).save(tmp_path / mode / ("a.jpg" if mode == "CMYK" else "a.png"))
    transparent.save(tmp_path / "P" / "b.png", transparency=bytes(range(256)))
    (images, _), _ = data.image_folder(tmp_path, size=6)
    assert images.shape == (7, 6, 6, 3)
    assert (np.delete(images, 0, axis=0) > 150).all()  # the palette lacks 200 and dithers it


def test_the_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored(tmp_path / "class" / "a.png", exif=exif)
    (images, _), _ = data.image_folder(tmp_path, size=(20, 12))
    np.testing.assert_array_equal(images[0], np.rot90(PIXELS, -1))


def test_folders_without_classes_or_images_raise(folder, tmp_path):
    for directory in (folder / "nowhere", folder / "dog", folder / "readme.md"):
        with pytest.raises(
            ConfigError,
            match="image_folder directory: expected a directory of folders, one a class",
        ):
            data.image_folder(directory, size=8)
    (folder / "empty").mkdir()
    with pytest.raises(
        ConfigError, match=r"expected images .* in each folder, got .*empty without images"
    ):
        data.image_folder(folder, size=8)


@pytest.mark.parametrize(
    "options", [{"size": 0}, {"size": (1, 2, 3)}, {"size": 8, "channels": 4}, {"size": 8.0}]
)
def test_invalid_options_raise(folder, options):
    with pytest.raises(ConfigError, match=r"image_folder (size|channels): expected"):
        data.image_folder(folder, **options)


def png(width, height, rows=b""):
    """A PNG whose header has this size."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


@pytest.mark.parametrize(
    "shape", [(7100, 7100), (10_000, 9_000), (12_000, 12_000), (50_000, 50_000), (2**31 - 1, 1)]
)
def test_images_of_too_many_pixels_raise_before_decoding(shape, tmp_path):
    stored(tmp_path / "class" / "a.png").write_bytes(png(*shape, bytes(30_000_000)))
    tracemalloc.start()
    with pytest.raises(
        DatasetFormatError,
        match=r"a\.png: expected at most 50,000,000 pixels, got [\d,]+ x [\d,]+; make it",
    ):
        data.image_folder(tmp_path, size=8)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_max_pixels_is_inclusive(folder):
    with pytest.raises(
        DatasetFormatError,
        match=re.escape("c.PNG: expected at most 239 pixels, got 20 x 12; make it"),
    ):
        data.image_folder(folder, size=8, max_pixels=239)
    data.image_folder(folder, size=8, max_pixels=240)


def test_max_pixels_above_the_limit_of_pillow_is_the_only_one(folder, monkeypatch):
    for limit in (200, 100):  # where Pillow warns, and where it raises
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        data.image_folder(folder, size=8)
        assert limit == Image.MAX_IMAGE_PIXELS
        with pytest.raises(DatasetFormatError, match="expected at most 239 pixels, got 20 x 12"):
            data.image_folder(folder, size=8, max_pixels=239)
        assert limit == Image.MAX_IMAGE_PIXELS


def test_a_decompression_bomb_in_a_text_chunk_raises(tmp_path):
    content = b"zTXt" + b"Comment\0\0" + zlib.compress(bytes(200_000_000))
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    whole = png(4, 4, bytes(4 * 13))
    stored(tmp_path / "class" / "a.png").write_bytes(whole[:33] + chunk + whole[33:])
    with pytest.raises(
        DatasetFormatError,
        match="expected a whole image, got ValueError: Decompressed data too large",
    ):
        data.image_folder(tmp_path, size=4)


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "webp", "bmp"])
def test_damaged_images_raise_with_their_path_or_are_decoded(ending, tmp_path):
    path = stored(tmp_path / "class" / f"a.{ending}")
    for content in chain.from_iterable(damaged(path.read_bytes(), 60, DRAW)):
        path.write_bytes(content)
        try:
            (images, _), _ = data.image_folder(tmp_path, size=8)
        except DatasetFormatError as error:
            assert str(path) in str(error)
        else:
            assert images.shape == (1, 8, 8, 3)


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_files_of_other_formats_raise_despite_their_ending(content, tmp_path):
    stored(tmp_path / "class" / "a.png").write_bytes(content)
    with pytest.raises(
        DatasetFormatError, match=r"a\.png: expected a whole image, got UnidentifiedImageError"
    ):
        data.image_folder(tmp_path, size=8)


def test_images_of_16_bits_raise(tmp_path):
    stored(tmp_path / "class" / "a.png", np.full((6, 6), 40_000, np.uint16))
    with pytest.raises(DatasetFormatError, match="expected 8 bits a channel, got mode I"):
        data.image_folder(tmp_path, size=6)


def test_without_pillow_the_error_names_the_package(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[images\]'"):
        data.image_folder(folder, size=8)
