"""Brings a published file into the cache, once; what is there is what was published, or nothing is."""

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

TIMEOUT = 30.0  # seconds for which a server may say nothing
CHUNK = 1 << 20


def cache() -> Path:
    """Where data sets are kept: $FNN_DATA, or fnn in the folder that the platform has for what can be had again."""
    if own := os.environ.get("FNN_DATA"):
        return Path(own).expanduser()
    platform = {
        "darwin": Path.home() / "Library" / "Caches",
        "win32": Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"),
    }
    return (
        platform.get(sys.platform, Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"))
        / "fnn"
    )


def fetch(url: str, target: Path, *, size: int, sha256: str) -> None:
    """See to it that the target is the file of that size and digest, by a download if it is not there.

    What arrives is kept under another name until it is whole and right; a download that was cut is gone on with. Two
    processes may do so at once: both write the same bytes in the same places. OSError or HTTPException where it can't
    be had; DatasetIntegrityError where the server, or the cache, has another file.
    """
    if target.is_file():
        with target.open("rb") as file:
            _expect_digest(str(target), file, sha256, f"delete {target}, and it is fetched anew")
        return
    partial = target.with_name(target.name + ".part")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(
        os.open(partial, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)), "r+b"
    ) as file:
        _receive(url, file, size)
        try:
            _expect_digest(url, file, sha256, "try again, or get it elsewhere")
        except DatasetIntegrityError:
            file.truncate(0)  # the next try starts clean
            raise
    with suppress(FileNotFoundError):  # where another process was as far at the same time
        partial.replace(target)


def _receive(url: str, file: BufferedRandom, size: int) -> None:
    """Fill the file up to so many bytes; it may hold the first of them already."""
    have = file.seek(0, os.SEEK_END)
    if have >= size:
        return
    asked = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with build_opener(_Redirects).open(asked, timeout=TIMEOUT) as answer:
        have = have if answer.status == 206 and _begins_at(answer, have) else 0
        told = answer.headers.get("Content-Length")
        if told is not None and told != str(size - have):
            raise DatasetIntegrityError(
                url, f"{size - have:,} bytes", f"{told} to come", "get it elsewhere"
            )
        file.seek(have)
        while have <= size and (chunk := answer.read(min(CHUNK, size + 1 - have))):
            file.write(chunk)
            have += len(chunk)
    if have < size:
        raise ConnectionError(
            f"it was cut after {have:,} of {size:,} bytes; another try goes on from there"
        )


def _begins_at(answer: Any, have: int) -> bool:
    return answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")


class _Redirects(HTTPRedirectHandler):
    """Follows to another place of the web, but never from a safe connection to an open one."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        allowed = {"https"} if urlsplit(req.full_url).scheme == "https" else {"http", "https"}
        if urlsplit(newurl).scheme not in allowed:
            raise DatasetIntegrityError(
                req.full_url, "a redirect to https", newurl, "get it elsewhere"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _expect_digest(
    where: str, file: BufferedReader | BufferedRandom, sha256: str, way_out: str
) -> None:
    file.seek(0)
    found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise DatasetIntegrityError(where, f"the published file, SHA-256 {sha256}", found, way_out)
