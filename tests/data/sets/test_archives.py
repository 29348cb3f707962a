"""Damaged, lying and hostile archives: each is told, nothing is written, and memory stays bounded."""

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

INNER = np.random.default_rng(0).integers(0, 4, 5000, np.uint8).tobytes()
HOLDS = {"set/a.bin": len(INNER), "set/b.bin": 100}
PACKED = gzip.compress(INNER, mtime=0)
ARCHIVE = tar_gz([("set/readme", b"x" * 600), ("set/b.bin", INNER[:100]), ("set/a.bin", INNER)])


def stored(folder, held, name):
    path = folder / name
    path.write_bytes(held)
    return path


def test_what_is_inside_comes_out(tmp_path):
    assert unpack(stored(tmp_path, PACKED, "a.gz"), {"a": len(INNER)}) == {"a": INNER}
    assert unpack(stored(tmp_path, PACKED, "a.gz"), {"a": len(INNER) + 9}) == {"a": INNER}
    assert unpack(stored(tmp_path, INNER, "a"), {"a": len(INNER)}) == {"a": INNER}
    found = unpack(stored(tmp_path, ARCHIVE, "set.tar.gz"), HOLDS)
    assert found == {"set/a.bin": INNER, "set/b.bin": INNER[:100]}
    with pytest.raises(DatasetFormatError, match="a: expected at most 4,999 bytes, got more"):
        unpack(stored(tmp_path, INNER, "a"), {"a": len(INNER) - 1})


@pytest.mark.parametrize(
    ("held", "name", "holds"), [(PACKED, "a.gz", {"a": 5000}), (ARCHIVE, "set.tar.gz", HOLDS)]
)
def test_of_what_is_cut_or_flipped_nothing_is_taken(held, name, holds, tmp_path):
    good, told = unpack(stored(tmp_path, held, name), holds), 0
    for cut, flipped in damaged(held, 150, np.random.default_rng(1), first=10):
        with pytest.raises(
            DatasetIntegrityError, match=f"{name}: expected a whole file, as published, got damage"
        ):
            unpack(stored(tmp_path, cut, name), holds)
        try:  # of a deflated stream's last byte not every bit counts
            assert unpack(stored(tmp_path, flipped, name), holds) == good
        except (DatasetIntegrityError, DatasetFormatError):
            told += 1
    assert told >= 148


def test_what_is_no_gzip_at_all_is_told(tmp_path):
    for held in (b"", b"<html>no</html>", INNER):
        with pytest.raises((DatasetIntegrityError, DatasetFormatError)):
            unpack(stored(tmp_path, held, "set.tar.gz"), HOLDS)
    with pytest.raises(DatasetIntegrityError, match="Not a gzipped file"):
        unpack(stored(tmp_path, b"<html>no</html>", "a.gz"), {"a": 99})
    with pytest.raises(DatasetIntegrityError):
        unpack(stored(tmp_path, gzip.compress(b"no archive" * 300), "set.tar.gz"), HOLDS)


def member(name, kind, target=""):
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


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
def test_a_link_or_a_device_in_place_of_a_file_is_refused(kind, target, tmp_path):
    members = [("set/b.bin", INNER[:100]), (member("set/a.bin", kind, target), b"")]
    with pytest.raises(
        DatasetFormatError, match=r"set/a.bin: expected a file .* got a link, a folder or a device"
    ):
        unpack(stored(tmp_path, tar_gz(members), "set.tar.gz"), HOLDS)


def test_members_of_other_names_go_nowhere(tmp_path):
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
    strange = [(name, b"evil") for name in names]
    strange += [(member(f"link{kind!r}", kind, "/etc"), b"") for kind in LINKS]
    good = [("set/b.bin", INNER[:100]), ("set/a.bin", INNER)]
    found = unpack(stored(folder, tar_gz(strange + good), "set.tar.gz"), HOLDS)
    assert found == {"set/a.bin": INNER, "set/b.bin": INNER[:100]}
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["set.tar.gz"]
    assert not Path("/tmp/fnn-out.bin").exists()
    with pytest.raises(
        DatasetFormatError, match=r"an archive with set/a\.bin, set/b\.bin, got one without"
    ):
        unpack(stored(folder, tar_gz(strange), "set.tar.gz"), HOLDS)


def test_a_member_that_is_too_large_is_refused(tmp_path):
    large = tar_gz([("set/b.bin", INNER[:101]), ("set/a.bin", INNER)])
    with pytest.raises(DatasetFormatError, match="a file of at most 100 bytes, got one of 101"):
        unpack(stored(tmp_path, large, "set.tar.gz"), HOLDS)


def lying():
    """An archive whose member says it has 2 ** 40 bytes."""
    made = tarfile.TarInfo("set/readme")
    made.size = 2**40
    return gzip.compress(made.tobuf() + ARCHIVE[:512])


BOMBS = {
    "gz": ("a.gz", lambda: gzip.compress(bytes(300_000_000), 1), {"a": 47_040_016}),
    "tar of zeros": ("set.tar.gz", lambda: gzip.compress(bytes(300_000_000), 1), HOLDS),
    "tar with more": ("set.tar.gz", lambda: tar_gz([("more", bytes(300_000_000))]), HOLDS),
    "tar that lies": ("set.tar.gz", lying, HOLDS),
    "tar of a long name": ("set.tar.gz", lambda: tar_gz([("n" * 100_000_000, b"")]), HOLDS),
}
CHILD = """
import resource, sys
from pathlib import Path
from fnn.data.sets.archives import unpack
from fnn.errors import DatasetFormatError, DatasetIntegrityError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    unpack(Path(sys.argv[1]), HOLDS)
except (DatasetFormatError, DatasetIntegrityError) as error:
    print(type(error).__name__, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_bounded_memory(name, tmp_path):
    file, make, holds = BOMBS[name]
    path = stored(tmp_path, make(), file)
    child = CHILD.replace("HOLDS", repr(holds))
    done = subprocess.run(
        [sys.executable, "-c", child, path], capture_output=True, text=True, timeout=60, check=True
    )
    error, grown = done.stdout.split()
    assert error.startswith("Dataset")
    assert int(grown) < 2 * (sum(holds.values()) + SLACK)
