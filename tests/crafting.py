"""Small files in the formats of published data sets, and a server that misbehaves on request."""

import gzip
import hashlib
import io
import os
import struct
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from fnn.data.sets import published

os.environ["no_proxy"] = "127.0.0.1"  # requests to the server below bypass any proxy
IMAGES = np.arange(5 * 28 * 28).reshape(5, 28, 28).astype(np.uint8)
LABELS = np.array([3, 0, 9, 1, 3], np.uint8)


def idx(array):
    """The array of bytes as an IDX file."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def mnist_files(images=IMAGES, labels=LABELS):
    """The four files by name: all examples for training, the first two for testing."""
    files = {}
    for part, examples in {"train": slice(None), "t10k": slice(2)}.items():
        files[f"{part}-images-idx3-ubyte"] = idx(images[examples])
    for part, examples in {"train": slice(None), "t10k": slice(2)}.items():
        files[f"{part}-labels-idx1-ubyte"] = idx(labels[examples])
    return files


def write(folder, files, pack=lambda content: content, suffix=""):
    """Write files to a folder; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}{suffix}").write_bytes(pack(content))
    return folder


def record(labels, position, value):
    """A record of CIFAR: labels, then an image of zeros but for (row, column, channel)."""
    image = np.zeros((3, 32, 32), np.uint8)
    row, column, channel = position
    image[channel, row, column] = value
    return bytes(labels) + image.tobytes()


def tar_gz(members):
    """An archive of pairs (member or name, bytes)."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def release_of(url, files):
    """A release of gzipped files at the URL, and their bytes by name."""
    entries = []
    packed_files = {}
    for name, content in files.items():
        packed = gzip.compress(content, mtime=0)
        digest = hashlib.sha256(packed).hexdigest()
        max_sizes = {name: len(content)}
        entries.append(published.File(f"{name}.gz", len(packed), digest, max_sizes))
        packed_files[f"{name}.gz"] = packed
    return published.Release(url, tuple(entries)), packed_files


def damaged(content, count, draw, first=0):
    """Yield the content truncated at random positions, and with one bit flipped there."""
    for position in draw.integers(first, len(content), count):
        flipped = bytearray(content)
        flipped[position] ^= 1 << draw.integers(8)
        yield content[:position], bytes(flipped)


@dataclass
class Answer:
    """A response of the server.

    Attributes:
        body: The bytes to send.
        status: HTTP status.
        headers: Further headers.
        cut: Number of bytes after which the connection is closed; None: all are sent.
        length: Content-Length to send; None: the true one, "none": no such header.
        ranges: Whether a request for a range is honored.
        wait: Event to wait for before the connection is closed.
    """

    body: bytes
    status: int = 200
    headers: dict = field(default_factory=dict)
    cut: int | None = None
    length: int | str | None = None
    ranges: bool = True
    wait: threading.Event | None = None


@contextmanager
def server(answers):
    """Serve answers by path on localhost; gives the URL and the list of (path, range) requested."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            span = self.headers.get("Range")
            requests.append((self.path, span))
            answer = answers[self.path]
            body = answer.body
            status = answer.status
            headers = dict(answer.headers)
            if answer.ranges and span and status == 200:
                begin = int(span.removeprefix("bytes=").removesuffix("-"))
                status = 206
                headers["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
                body = body[begin:]
            if answer.length is None:
                headers["Content-Length"] = str(len(body))
            elif answer.length != "none":
                headers["Content-Length"] = str(answer.length)
            self.send_response(status)
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
        yield f"http://127.0.0.1:{httpd.server_port}", requests
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()
