"""A full disk, as far as a limit on the size of files can simulate it."""

import resource
from contextlib import contextmanager


@contextmanager
def full_disk(size):
    """Let writes beyond `size` bytes of a file fail within the block."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
