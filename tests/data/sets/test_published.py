"""The table of published files: well-formed, and sizes that fit what they hold."""

import re

import pytest

from fnn.data.sets.published import RELEASES

EXAMPLES = {
    "mnist": 784 + 1,
    "fashion_mnist": 784 + 1,
    "kmnist": 784 + 1,
    "cifar10": 3073,
    "cifar100": 3074,
}


@pytest.mark.parametrize("name", RELEASES)
def test_every_file_has_its_size_and_digest(name):
    release = RELEASES[name]
    assert re.fullmatch(r"https?://[^ ]+/", release.url)
    for file in release.files:
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256) and file.size > 4000 and file.holds
    digests = [file.sha256 for release in RELEASES.values() for file in release.files]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_files_hold_so_many_examples(name):
    held = sum(most for file in RELEASES[name].files for most in file.holds.values())
    headers = 2 * (16 + 8) if "mnist" in name else 0
    assert held - headers == EXAMPLES[name] * (70_000 if "mnist" in name else 60_000)


def test_only_where_there_is_no_https_is_it_open():
    assert [name for name, release in RELEASES.items() if release.url.startswith("http:")] == [
        "svhn"
    ]
