"""Downloads from a server that truncates, stalls or sends other files: the cached file is right."""

import hashlib
import http.client
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from crafting import Answer, server

from fnn.data.sets import downloads
from fnn.data.sets.downloads import cache, fetch
from fnn.errors import DatasetIntegrityError

BODY = np.random.default_rng(0).bytes(3_000_000)
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "set" / "file.gz"


def get(url, target):
    fetch(f"{url}/file.gz", target, size=len(BODY), sha256=DIGEST)


def partial(target):
    return target.with_name("file.gz.part")


def test_a_file_is_downloaded_once_and_then_read_from_the_cache(target):
    with server({"/file.gz": Answer(BODY)}) as (url, asked):
        get(url, target)
        get(url, target)
    assert target.read_bytes() == BODY and asked == [("/file.gz", None)]
    assert [path.name for path in target.parent.iterdir()] == ["file.gz"]


@pytest.mark.parametrize("cut", [0, 1, 1_000_000, 2_999_999])
@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_is_resumed(target, cut, ranges):
    with (
        server({"/file.gz": Answer(BODY, cut=cut)}) as (url, _),
        pytest.raises(OSError, match=f"after {cut:,} of 3,0"),
    ):
        get(url, target)
    assert not target.exists() and partial(target).read_bytes() == BODY[:cut]
    with server({"/file.gz": Answer(BODY, ranges=ranges)}) as (url, asked):
        get(url, target)
    assert target.read_bytes() == BODY and not partial(target).exists()
    assert asked == [("/file.gz", f"bytes={cut}-" if cut else None)]


def test_a_complete_partial_file_is_not_downloaded(target):
    target.parent.mkdir()
    partial(target).write_bytes(BODY)
    get("http://127.0.0.1:9", target)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("length", [0, 2_999_999, 3_000_001, 10**12])
def test_another_content_length_raises_before_anything_is_read(target, length):
    answer = {"/file.gz": Answer(BODY, length=length)}
    with (
        server(answer) as (url, _),
        pytest.raises(DatasetIntegrityError, match=f"3,000,000 bytes, got {length} to come"),
    ):
        get(url, target)
    assert not target.exists() and partial(target).read_bytes() == b""


@pytest.mark.parametrize(
    "body",
    [b"<html>no such file</html>" * 120_000, BODY + b"x", BODY[:-1] + b"x"],
    ids=["page", "longer", "other"],
)
def test_another_file_raises_and_the_next_attempt_starts_from_zero(target, body):
    wrong, right = Answer(body, length="none"), Answer(BODY)
    with server({"/file.gz": wrong}) as (url, _), pytest.raises(DatasetIntegrityError) as caught:
        get(url, target)
    found = hashlib.sha256(body[: len(BODY) + 1]).hexdigest()
    assert all(word in str(caught.value) for word in (f"{url}/file.gz", DIGEST, found))
    assert not target.exists()
    with server({"/file.gz": right}) as (url, asked):
        get(url, target)
    assert target.read_bytes() == BODY and asked == [("/file.gz", None)]


def test_at_most_one_byte_beyond_the_size_is_read(target):
    begun = hashlib.sha256(BODY + BODY[:1]).hexdigest()
    endless = Answer(BODY * 4, length="none")
    with (
        server({"/file.gz": endless}) as (url, _),
        pytest.raises(DatasetIntegrityError, match=begun),
    ):
        get(url, target)


def test_http_404_raises_os_error(target):
    page = Answer(b"<html>404</html>", status=404)
    with server({"/file.gz": page}) as (url, _), pytest.raises(OSError, match="404"):
        get(url, target)
    assert not target.exists()


def test_a_stalled_server_times_out(target, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT", 0.2)
    wait = threading.Event()
    with server({"/file.gz": Answer(BODY, cut=1000, wait=wait)}) as (url, _):
        with pytest.raises(TimeoutError):
            get(url, target)
        wait.set()
    assert not target.exists()


def test_a_refused_connection_raises(target):
    with pytest.raises(OSError, match="refused"):
        get("http://127.0.0.1:9", target)


def test_a_redirect_from_http_to_http_is_followed(target):
    with server({"/there": Answer(BODY)}) as (there, _):
        moved = Answer(b"", status=302, headers={"Location": f"{there}/there"})
        with server({"/file.gz": moved}) as (url, _):
            get(url, target)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize(
    "address", ["http://other.example/file", "ftp://other.example/file", "file:///etc/hostname"]
)
def test_a_redirect_from_https_to_another_scheme_raises(address):
    asked = downloads.Request("https://safe.example/file")
    with pytest.raises(DatasetIntegrityError, match="expected a redirect to https, got"):
        downloads._SafeRedirects().redirect_request(
            asked, None, 302, "Found", http.client.HTTPMessage(), address
        )


def test_a_redirect_to_a_local_file_raises(target):
    moved = Answer(b"", status=302, headers={"Location": "file:///etc/hostname"})
    with server({"/file.gz": moved}) as (url, _), pytest.raises((DatasetIntegrityError, OSError)):
        get(url, target)


def test_concurrent_downloads_succeed(target):
    with server({"/file.gz": Answer(BODY)}) as (url, _):
        threads = [threading.Thread(target=get, args=(url, target)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert target.read_bytes() == BODY and not partial(target).exists()


@pytest.mark.parametrize("offset", [0, 1_500_000, 2_999_999])
def test_a_changed_file_in_the_cache_raises_with_both_digests(target, offset):
    target.parent.mkdir()
    changed = bytearray(BODY)
    changed[offset] ^= 1
    target.write_bytes(changed)
    with pytest.raises(DatasetIntegrityError) as caught:
        get("http://127.0.0.1:9", target)
    found = hashlib.sha256(changed).hexdigest()
    assert all(word in str(caught.value) for word in (str(target), DIGEST, found, "delete"))


def test_the_cache_follows_the_platform_and_the_environment(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in ("FNN_DATA", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    found = {}
    for platform in ("linux", "darwin", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        found[platform] = cache().relative_to(tmp_path).as_posix()
    assert found == {
        "linux": ".cache/fnn",
        "darwin": "Library/Caches/fnn",
        "win32": "AppData/Local/fnn",
    }
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    assert cache() == tmp_path / "own" / "fnn"
    monkeypatch.setenv("FNN_DATA", "~/sets")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache() == tmp_path / "sets"
