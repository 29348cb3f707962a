"""The data sets that others published: which files they are, where they are, and what these hold."""

from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError

from fnn.data.sets.archives import unpack
from fnn.data.sets.downloads import cache, fetch
from fnn.errors import ConfigError, DatasetUnavailableError


class File(NamedTuple):
    """A file as it was published, and the files that it holds, each with the most bytes it may have."""

    name: str
    size: int  # bytes
    sha256: str
    holds: Mapping[str, int]


class Release(NamedTuple):
    """The files of a data set, and the folder on the web that they are in."""

    url: str
    files: tuple[File, ...]


def _idx(sizes: tuple[int, ...], digests: tuple[str, ...]) -> tuple[File, ...]:
    """The four files that all successors of MNIST have, of 60,000 and 10,000 examples."""
    holds = {
        "train-images-idx3-ubyte": 16 + 60_000 * 28 * 28,
        "train-labels-idx1-ubyte": 8 + 60_000,
    }
    holds |= {"t10k-images-idx3-ubyte": 16 + 10_000 * 28 * 28, "t10k-labels-idx1-ubyte": 8 + 10_000}
    files = zip(holds.items(), sizes, digests, strict=True)
    return tuple(
        File(f"{name}.gz", size, digest, {name: most}) for (name, most), size, digest in files
    )


BATCHES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
# Sizes and digests as tensorflow_datasets lists them in its url_checksums.
RELEASES = {
    "mnist": Release(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        _idx(
            (9_912_422, 28_881, 1_648_877, 4_542),
            (
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
    ),
    "fashion_mnist": Release(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        _idx(
            (26_421_880, 29_515, 4_422_102, 5_148),
            (
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ),
    ),
    "kmnist": Release(
        "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        _idx(
            (18_165_135, 29_497, 3_041_136, 5_120),
            (
                "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
                "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
                "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
                "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
            ),
        ),
    ),
    "cifar10": Release(
        "https://www.cs.toronto.edu/~kriz/",
        (
            File(
                "cifar-10-binary.tar.gz",
                170_052_171,
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                {f"cifar-10-batches-bin/{name}": 10_000 * 3073 for name in BATCHES},
            ),
        ),
    ),
    "cifar100": Release(
        "https://www.cs.toronto.edu/~kriz/",
        (
            File(
                "cifar-100-binary.tar.gz",
                168_513_733,
                "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
                {
                    "cifar-100-binary/train.bin": 50_000 * 3074,
                    "cifar-100-binary/test.bin": 10_000 * 3074,
                },
            ),
        ),
    ),
    "svhn": Release(
        "http://ufldl.stanford.edu/housenumbers/",  # no https there; the digests hold the content
        (
            File(
                "train_32x32.mat",
                182_040_794,
                "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
                {"train_32x32.mat": 182_040_794},
            ),
            File(
                "test_32x32.mat",
                64_275_384,
                "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
                {"test_32x32.mat": 64_275_384},
            ),
        ),
    ),
}


def contents(name: str, directory: str | Path | None) -> dict[str, bytes]:
    """What the files of a release hold, by name, from a directory, or from the cache, where they are fetched to.

    In a directory they may be packed, as published, or unpacked. A published file is held to its digest only where it
    was fetched, for a directory may hold a part of the data set.
    """
    release = RELEASES[name]
    folder = cache() / name if directory is None else Path(directory)
    if directory is None:
        _fetch(name, release, folder)
        held = [unpack(folder / file.name, file.holds) for file in release.files]
    else:
        for file in release.files:
            _expect(f"{name} directory", file, folder)
        held = [_held(file, folder) for file in release.files]
    return {Path(inner).name: found for part in held for inner, found in part.items()}


def _fetch(name: str, release: Release, folder: Path) -> None:
    try:
        for file in release.files:
            fetch(release.url + file.name, folder / file.name, size=file.size, sha256=file.sha256)
    except (OSError, HTTPException) as error:
        missing = [file.name for file in release.files if not (folder / file.name).is_file()]
        expected = f"{', '.join(missing)} in {folder}, or to fetch that from {release.url}"
        reason = f"HTTP {error.code} {error.reason}" if isinstance(error, HTTPError) else str(error)
        raise DatasetUnavailableError(
            name, expected, reason, "try again, or put it there by hand"
        ) from error


def _expect(where: str, file: File, folder: Path) -> None:
    missing = [path.name for path in _unpacked(file, folder).values() if not path.is_file()]
    if missing and not (folder / file.name).is_file():
        others = "" if missing == [file.name] else f", or {', '.join(missing)}"
        advice = "put it there, or leave the directory out to have it fetched"
        raise ConfigError(where, file.name + others, f"{folder} without", advice)


def _held(file: File, folder: Path) -> dict[str, bytes]:
    paths = _unpacked(file, folder)
    if not all(path.is_file() for path in paths.values()):
        return unpack(folder / file.name, file.holds)
    return {inner: unpack(path, {inner: file.holds[inner]})[inner] for inner, path in paths.items()}


def _unpacked(file: File, folder: Path) -> dict[str, Path]:
    """Where what the file holds is, or would be: in the folder that it was packed with, or in that one itself."""
    places = {inner: (folder / inner, folder / Path(inner).name) for inner in file.holds}
    return {
        inner: first if first.is_file() else second for inner, (first, second) in places.items()
    }
