"""Files of data sets in the layouts they are published in, small and made here, and a server that misbehaves."""

import gzip
import hashlib
import io
import os
import struct
import tarfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from fnn.data.sets import published

os.environ["no_proxy"] = "127.0.0.1"  # the server is asked itself
IMAGES = np.arange(5 * 28 * 28).reshape(5, 28, 28).astype(np.uint8)
LABELS = np.array([3, 0, 9, 1, 3], np.uint8)


def idx(array):
    """The array of bytes as an IDX file."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def mnist_files(images=IMAGES, labels=LABELS):
    """The four files by name: all examples to train, the first two to test."""
    parts = {"train": slice(None), "t10k": slice(2)}
    files = {f"{part}-images-idx3-ubyte": idx(images[some]) for part, some in parts.items()}
    return files | {f"{part}-labels-idx1-ubyte": idx(labels[some]) for part, some in parts.items()}


def write(folder, files, pack=lambda held: held, suffix=""):
    folder.mkdir(parents=True, exist_ok=True)
    for name, held in files.items():
        (folder / f"{name}{suffix}").write_bytes(pack(held))
    return folder


def record(labels, place, value):
    """A record of CIFAR: its labels, then an image that is black but for one number, at (row, column, channel)."""
    image = np.zeros((3, 32, 32), np.uint8)
    row, column, channel = place
    image[channel, row, column] = value
    return bytes(labels) + image.tobytes()


def tar_gz(members):
    """An archive of (member or name, its bytes)."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for member, held in members:
            member = tarfile.TarInfo(member) if isinstance(member, str) else member
            member.size = len(held)
            archive.addfile(member, io.BytesIO(held))
    return packed.getvalue()


def release_of(url, files):
    """A release of gzipped files, as it would be published."""
    packed = {
        f"{name}.gz": (gzip.compress(held, mtime=0), name, held) for name, held in files.items()
    }
    entries = tuple(
        published.File(gz, len(held), hashlib.sha256(held).hexdigest(), {name: len(inner)})
        for gz, (held, name, inner) in packed.items()
    )
    return published.Release(url, entries), {gz: held for gz, (held, _, _) in packed.items()}


def damaged(whole, count, draw, first=0):
    """At so many random places, from the first on: the bytes cut off there, and whole but for one bit there."""
    for place in draw.integers(first, len(whole), count):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << draw.integers(8)
        yield whole[:place], bytes(flipped)


class Answer:
    """How the server answers: with which bytes, and what is wrong with that."""

    def __init__(
        self, body, *, status=200, headers=(), cut=None, told=None, ranges=True, wait=None
    ):
        self.body, self.status, self.headers, self.cut, self.told = (
            body,
            status,
            dict(headers),
            cut,
            told,
        )
        self.ranges, self.wait = ranges, wait


@contextmanager
def server(answers):
    """Serve answers by path, on this machine alone; gives the url and the list of (path, range) that were asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Range")))
            answer = answers[self.path]
            body, status, headers = answer.body, answer.status, answer.headers
            if answer.ranges and (span := self.headers.get("Range")) and status == 200:
                begin = int(span.removeprefix("bytes=").removesuffix("-"))
                status, headers = (
                    206,
                    headers | {"Content-Range": f"bytes {begin}-{len(body) - 1}/{len(body)}"},
                )
                body = body[begin:]
            self.send_response(status)
            if answer.told != "nothing":
                self.send_header(
                    "Content-Length", str(len(body) if answer.told is None else answer.told)
                )
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: answer.cut])
            self.wfile.flush()
            if answer.wait:
                answer.wait.wait(10)

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}", asked
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()
