"""Downloads of published files into a cache, verified by their SHA-256."""

import hashlib
import os
import sys
from contextlib import suppress
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from fnn.errors import DatasetIntegrityError

TIMEOUT = 30.0  # seconds without data from the server
CHUNK = 1 << 20  # bytes
PARTIAL_CONTENT = 206  # HTTP status


def cache() -> Path:
    """Return the folder of data sets: $FNN_DATA, or `fnn` in the user's cache of the platform."""
    folder = os.environ.get("FNN_DATA")
    if folder:
        return Path(folder).expanduser()
    return _platform_cache() / "fnn"


def _platform_cache() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    folder = os.environ.get("XDG_CACHE_HOME")
    return Path(folder) if folder else Path.home() / ".cache"


def fetch(
    url: str,
    target: Path,
    *,
    size: int,
    sha256: str,
) -> None:
    """Download a file to `target`, unless it is there, and verify its SHA-256.

    The bytes are written to target.part, which is renamed when it is complete and verified. An
    interrupted download is resumed. Two processes may download at once: they write the same bytes
    at the same offsets.

    Args:
        url: Address of the file.
        target: Path of the file on disk.
        size: Size of the file in bytes.
        sha256: Digest of the file, in hexadecimal digits.

    Raises:
        OSError: The connection fails or ends early.
        HTTPException: The server does not follow the protocol.
        DatasetIntegrityError: The file on the server, or the cached one, is not the published one.
    """
    # A cached file is verified as well: it may have been changed or truncated.
    if target.is_file():
        advice = f"delete {target}, so that it is downloaded again"
        with target.open("rb") as file:
            _verify_digest(str(target), file, sha256, advice)
        return
    partial = target.with_name(target.name + ".part")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with _open_for_update(partial) as file:
        _receive(url, file, size)
        try:
            _verify_digest(url, file, sha256, "try again, or get it elsewhere")
        except DatasetIntegrityError:
            file.truncate(0)  # the next attempt must not resume from wrong bytes
            raise
    # Another process may have renamed it at the same time.
    with suppress(FileNotFoundError):
        partial.replace(target)


def _open_for_update(path: Path) -> Any:
    """Open for reading and writing; create the file if missing, but keep its content."""
    # No mode of open() does this: "r+b" needs an existing file, "w+b" truncates, "a+b" appends.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags), "r+b")


def _receive(
    url: str,
    file: BufferedRandom,
    size: int,
) -> None:
    """Download to the file until it has `size` bytes; it may hold the first of them already."""
    received = file.seek(0, os.SEEK_END)
    if received >= size:
        return
    # A server that does not support ranges ignores this header.
    headers = {"Range": f"bytes={received}-"} if received else {}
    request = Request(url, headers=headers)
    with build_opener(_SafeRedirects).open(request, timeout=TIMEOUT) as response:
        if not _is_resumed(response, received):
            received = 0  # the server sends the whole file
        _verify_length(url, response, size - received)
        file.seek(received)
        # One byte more than `size` is read, so that the digest of a longer file differs.
        while received <= size:
            chunk = response.read(min(CHUNK, size + 1 - received))
            if not chunk:
                break
            file.write(chunk)
            received += len(chunk)
    if received < size:
        raise ConnectionError(
            f"{url} was cut after {received:,} of {size:,} bytes; another try resumes from there"
        )


def _is_resumed(response: Any, received: int) -> bool:
    """Whether the response holds the rest of the file, from this byte on."""
    content_range = response.headers.get("Content-Range", "")
    is_partial = response.status == PARTIAL_CONTENT
    return is_partial and content_range.startswith(f"bytes {received}-")


def _verify_length(
    url: str,
    response: Any,
    expected: int,
) -> None:
    """Compare the Content-Length, if there is one, before anything is read."""
    length = response.headers.get("Content-Length")
    if length is not None and length != str(expected):
        got = f"{length} to come"
        raise DatasetIntegrityError(
            url,
            f"{expected:,} bytes",
            got,
            "get it elsewhere",
        )


class _SafeRedirects(HTTPRedirectHandler):
    """Follow redirects on the web, but never from https to http or a local file."""

    def redirect_request(
        self,
        req: Request,
        fp: Any,
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> Request | None:
        is_secure = urlsplit(req.full_url).scheme == "https"
        allowed = {"https"} if is_secure else {"http", "https"}
        if urlsplit(newurl).scheme not in allowed:
            expected = "a redirect to https"
            raise DatasetIntegrityError(
                req.full_url,
                expected,
                newurl,
                "get it elsewhere",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _verify_digest(
    where: str,
    file: BufferedReader | BufferedRandom,
    sha256: str,
    advice: str,
) -> None:
    # The whole file, whichever part of it was downloaded now.
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        expected = f"the published file, SHA-256 {sha256}"
        raise DatasetIntegrityError(where, expected, digest, advice)
