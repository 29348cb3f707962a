"""Damaged and malicious archives raise errors, write nothing and use bounded memory."""

import gzip
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from crafting import damaged, tar_gz

from fnn.data.sets.archives import SLACK, unpack
from fnn.errors import DatasetFormatError, DatasetIntegrityError

CONTENT = np.random.default_rng(0).integers(0, 4, 5000, np.uint8).tobytes()
MAX_SIZES = {"set/a.bin": len(CONTENT), "set/b.bin": 100}
PACKED = gzip.compress(CONTENT, mtime=0)
ARCHIVE = tar_gz([("set/readme", b"x" * 600), ("set/b.bin", CONTENT[:100]), ("set/a.bin", CONTENT)])


def stored(folder, content, name):
    path = folder / name
    path.write_bytes(content)
    return path


def test_contents_are_read(tmp_path):
    assert unpack(stored(tmp_path, PACKED, "a.gz"), {"a": len(CONTENT)}) == {"a": CONTENT}
    assert unpack(stored(tmp_path, PACKED, "a.gz"), {"a": len(CONTENT) + 9}) == {"a": CONTENT}
    assert unpack(stored(tmp_path, CONTENT, "a"), {"a": len(CONTENT)}) == {"a": CONTENT}
    found = unpack(stored(tmp_path, ARCHIVE, "set.tar.gz"), MAX_SIZES)
    assert found == {"set/a.bin": CONTENT, "set/b.bin": CONTENT[:100]}
    with pytest.raises(
        DatasetFormatError, match="a: expected at most 4,999 bytes, got at least 5,000"
    ):
        unpack(stored(tmp_path, CONTENT, "a"), {"a": len(CONTENT) - 1})


@pytest.mark.parametrize(
    ("content", "name", "max_sizes"),
    [(PACKED, "a.gz", {"a": 5000}), (ARCHIVE, "set.tar.gz", MAX_SIZES)],
)
def test_truncated_or_changed_files_raise(content, name, max_sizes, tmp_path):
    intact = unpack(stored(tmp_path, content, name), max_sizes)
    errors = 0
    message = f"{name}: expected a whole file, as published, got damage"
    for truncated, flipped in damaged(content, 150, np.random.default_rng(1), first=10):
        with pytest.raises(DatasetIntegrityError, match=message):
            unpack(stored(tmp_path, truncated, name), max_sizes)
        # Some bits of a deflated stream's last byte are padding, so not every flip is an error.
        try:
            assert unpack(stored(tmp_path, flipped, name), max_sizes) == intact
        except (DatasetIntegrityError, DatasetFormatError):
            errors += 1
    assert errors >= 148


def test_files_of_other_formats_raise(tmp_path):
    for content in (b"", b"<html>no</html>", CONTENT):
        with pytest.raises((DatasetIntegrityError, DatasetFormatError)):
            unpack(stored(tmp_path, content, "set.tar.gz"), MAX_SIZES)
    with pytest.raises(DatasetIntegrityError, match="Not a gzipped file"):
        unpack(stored(tmp_path, b"<html>no</html>", "a.gz"), {"a": 99})
    with pytest.raises(DatasetIntegrityError):
        unpack(stored(tmp_path, gzip.compress(b"no archive" * 300), "set.tar.gz"), MAX_SIZES)


def member(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


LINKS = [
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
    tarfile.DIRTYPE,
]


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("target", ["/etc/hostname", "../../etc/hostname", "set/b.bin"])
def test_links_and_devices_instead_of_a_file_raise(kind, target, tmp_path):
    members = [("set/b.bin", CONTENT[:100]), (member("set/a.bin", kind, target), b"")]
    with pytest.raises(
        DatasetFormatError, match=r"set/a.bin: expected a file .* got a link, a folder or a device"
    ):
        unpack(stored(tmp_path, tar_gz(members), "set.tar.gz"), MAX_SIZES)


def test_members_of_other_names_are_ignored_and_never_written(tmp_path):
    folder = tmp_path / "deep" / "in"
    folder.mkdir(parents=True)
    names = [
        "../out.bin",
        "/tmp/fnn-out.bin",
        "set/../../out.bin",
        "../set/a.bin",
        "/set/a.bin",
        "set/a.bin/",
    ]
    others = [(name, b"evil") for name in names]
    others += [(member(f"link{kind!r}", kind, "/etc"), b"") for kind in LINKS]
    good = [("set/b.bin", CONTENT[:100]), ("set/a.bin", CONTENT)]
    found = unpack(stored(folder, tar_gz(others + good), "set.tar.gz"), MAX_SIZES)
    assert found == {"set/a.bin": CONTENT, "set/b.bin": CONTENT[:100]}
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["set.tar.gz"]
    assert not Path("/tmp/fnn-out.bin").exists()
    with pytest.raises(
        DatasetFormatError, match=r"an archive with set/a\.bin, set/b\.bin, got one without"
    ):
        unpack(stored(folder, tar_gz(others), "set.tar.gz"), MAX_SIZES)


def test_too_large_members_raise(tmp_path):
    large = tar_gz([("set/b.bin", CONTENT[:101]), ("set/a.bin", CONTENT)])
    with pytest.raises(DatasetFormatError, match="a file of at most 100 bytes, got one of 101"):
        unpack(stored(tmp_path, large, "set.tar.gz"), MAX_SIZES)


def archive_with_false_size():
    """An archive whose header gives a member 2 ** 40 bytes."""
    info = tarfile.TarInfo("set/readme")
    info.size = 2**40
    return gzip.compress(info.tobuf() + ARCHIVE[:512])


BOMBS = {
    "gz": ("a.gz", lambda: gzip.compress(bytes(300_000_000), 1), {"a": 47_040_016}),
    "tar of zeros": ("set.tar.gz", lambda: gzip.compress(bytes(300_000_000), 1), MAX_SIZES),
    "tar with more": ("set.tar.gz", lambda: tar_gz([("more", bytes(300_000_000))]), MAX_SIZES),
    "tar of a false size": ("set.tar.gz", archive_with_false_size, MAX_SIZES),
    "tar of a long name": ("set.tar.gz", lambda: tar_gz([("n" * 100_000_000, b"")]), MAX_SIZES),
}
CHILD = """
import resource, sys
from pathlib import Path
from fnn.data.sets.archives import unpack
from fnn.errors import DatasetFormatError, DatasetIntegrityError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    unpack(Path(sys.argv[1]), MAX_SIZES)
except (DatasetFormatError, DatasetIntegrityError) as error:
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(type(error).__name__, (after - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_decompression_bombs_raise_in_bounded_memory(name, tmp_path):
    file, make, max_sizes = BOMBS[name]
    path = stored(tmp_path, make(), file)
    child = CHILD.replace("MAX_SIZES", repr(max_sizes))
    done = subprocess.run(
        [sys.executable, "-c", child, path], capture_output=True, text=True, check=True
    )
    error, grown = done.stdout.split()
    assert error.startswith("Dataset")
    assert int(grown) < 2 * (sum(max_sizes.values()) + SLACK)
