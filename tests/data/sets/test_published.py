"""The table of published files is well-formed, and its sizes fit the number of examples."""

import re

import pytest

from fnn.data.sets.published import RELEASES

RECORD_BYTES = {
    "mnist": 784 + 1,
    "fashion_mnist": 784 + 1,
    "kmnist": 784 + 1,
    "cifar10": 3073,
    "cifar100": 3074,
}


@pytest.mark.parametrize("name", RELEASES)
def test_every_file_has_a_size_and_a_digest(name):
    release = RELEASES[name]
    assert re.fullmatch(r"https?://[^ ]+/", release.url)
    for file in release.files:
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256) and file.size > 4000 and file.max_sizes
    digests = [file.sha256 for release in RELEASES.values() for file in release.files]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("name", RECORD_BYTES)
def test_sizes_fit_the_number_of_examples(name):
    total = sum(size for file in RELEASES[name].files for size in file.max_sizes.values())
    headers = 2 * (16 + 8) if "mnist" in name else 0
    examples = 70_000 if "mnist" in name else 60_000
    assert total - headers == RECORD_BYTES[name] * examples


def test_all_urls_but_one_are_https():
    insecure = [name for name, release in RELEASES.items() if release.url.startswith("http:")]
    assert insecure == ["svhn"]  # whose server has no https
