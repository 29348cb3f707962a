"""Published data sets: their files, URLs and digests, and how they are found or downloaded."""

from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError

from fnn.data.sets.archives import unpack
from fnn.data.sets.downloads import cache, fetch
from fnn.errors import ConfigError, DatasetUnavailableError


class File(NamedTuple):
    """A published file.

    Attributes:
        name: Name of the file, also in its URL.
        size: Size in bytes.
        sha256: Digest in hexadecimal digits.
        max_sizes: Names of the files that it contains, each with its largest size in bytes.
    """

    name: str
    size: int
    sha256: str
    max_sizes: Mapping[str, int]


class Release(NamedTuple):
    """A published data set.

    Attributes:
        url: URL of the folder that holds the files, with a slash at the end.
        files: The files.
    """

    url: str
    files: tuple[File, ...]


def _mnist_files(sizes: tuple[int, ...], digests: tuple[str, ...]) -> tuple[File, ...]:
    """Return the four files of MNIST and its successors, of 60,000 and 10,000 examples."""
    # An IDX file has a header of 4 bytes and 4 bytes for each axis.
    max_sizes = {
        "train-images-idx3-ubyte": 16 + 60_000 * 28 * 28,
        "train-labels-idx1-ubyte": 8 + 60_000,
        "t10k-images-idx3-ubyte": 16 + 10_000 * 28 * 28,
        "t10k-labels-idx1-ubyte": 8 + 10_000,
    }
    files = []
    for (name, max_size), size, digest in zip(max_sizes.items(), sizes, digests, strict=True):
        files.append(File(f"{name}.gz", size, digest, {name: max_size}))
    return tuple(files)


CIFAR10_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
CIFAR10_TEST = ("test_batch.bin",)
# Bytes of a record: the labels, and an image of 3 x 32 x 32.
CIFAR10_RECORD = 1 + 3072
CIFAR100_RECORD = 2 + 3072

# Sizes and digests as tensorflow_datasets lists them in its url_checksums.
RELEASES = {
    "mnist": Release(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        _mnist_files(
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
        _mnist_files(
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
        _mnist_files(
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
                {
                    f"cifar-10-batches-bin/{name}": 10_000 * CIFAR10_RECORD
                    for name in (*CIFAR10_TRAIN, *CIFAR10_TEST)
                },
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
                    "cifar-100-binary/train.bin": 50_000 * CIFAR100_RECORD,
                    "cifar-100-binary/test.bin": 10_000 * CIFAR100_RECORD,
                },
            ),
        ),
    ),
    "svhn": Release(
        # The server has no https; the digests protect the content.
        "http://ufldl.stanford.edu/housenumbers/",
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


def read_release(name: str, directory: str | Path | None) -> dict[str, bytes]:
    """Read all files of a published data set.

    Args:
        name: Name of the data set, a key of RELEASES.
        directory: Directory with the files, as published or unpacked. They are not compared with
            the published digests, because a directory may hold a part of the data set. None: the
            files are downloaded to the cache, and verified.

    Returns:
        The bytes of each unpacked file, by name without folder.

    Raises:
        ConfigError: The directory lacks a file.
        DatasetFormatError: A file has another format.
        DatasetIntegrityError: A file is damaged, or is not the published one.
        DatasetUnavailableError: The download fails.
    """
    release = RELEASES[name]
    if directory is None:
        folder = cache() / name
        _download(name, release, folder)
        parts = [unpack(folder / file.name, file.max_sizes) for file in release.files]
    else:
        folder = Path(directory)
        # A missing file is found before the others are read, which takes longer.
        for file in release.files:
            _expect_exists(f"{name} directory", file, folder)
        parts = [_read_file(file, folder) for file in release.files]
    # Archives have the files in a folder.
    contents: dict[str, bytes] = {}
    for part in parts:
        for path, content in part.items():
            contents[Path(path).name] = content
    return contents


def _download(
    name: str,
    release: Release,
    folder: Path,
) -> None:
    try:
        # Files that are in the cache already are only verified.
        for file in release.files:
            url = release.url + file.name
            fetch(url, folder / file.name, size=file.size, sha256=file.sha256)
    except (OSError, HTTPException) as error:
        names = [file.name for file in release.files]
        missing = [file_name for file_name in names if not (folder / file_name).is_file()]
        expected = f"{', '.join(missing)} in {folder}, or a download from {release.url}"
        reason = str(error)
        if isinstance(error, HTTPError):
            reason = f"HTTP {error.code} {error.reason}"
        advice = "try again, or put it there by hand"
        raise DatasetUnavailableError(name, expected, reason, advice) from error


def _expect_exists(
    where: str,
    file: File,
    folder: Path,
) -> None:
    """Raise ConfigError unless the file is there, packed or unpacked."""
    unpacked = _unpacked_paths(file, folder).values()
    missing = [path.name for path in unpacked if not path.is_file()]
    # Either form will do.
    if missing and not (folder / file.name).is_file():
        # A file that is published without compression has one name.
        others = ""
        if missing != [file.name]:
            others = f", or {', '.join(missing)}"
        advice = "put it there, or leave the directory out to have it downloaded"
        raise ConfigError(where, file.name + others, f"{folder} without", advice)


def _read_file(file: File, folder: Path) -> dict[str, bytes]:
    """Read the unpacked files if all are there, else the published file."""
    paths = _unpacked_paths(file, folder)
    if not all(path.is_file() for path in paths.values()):
        return unpack(folder / file.name, file.max_sizes)
    contents: dict[str, bytes] = {}
    for name, path in paths.items():
        contents |= unpack(path, {name: file.max_sizes[name]})
    return contents


def _unpacked_paths(file: File, folder: Path) -> dict[str, Path]:
    """Return the paths of the unpacked files: in the folder of the archive, or directly here."""
    paths = {}
    for name in file.max_sizes:
        nested = folder / name
        paths[name] = nested if nested.is_file() else folder / Path(name).name
    return paths
