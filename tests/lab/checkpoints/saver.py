"""A process that forks a child for each line of JSON on stdin; the children save checkpoints.

It imports JAX once and starts no device, so a child costs a millisecond. It prints the pid of the
child, then its exit code.
"""

import itertools
import json
import os
import resource
import sys
import time

from saving import tree_of

from fnn import lab
from fnn.errors import FnnError

CALLS = ("open", "write", "fsync", "mkdir", "rename", "unlink", "rmdir", "ftruncate")


def loop(directory, acks, first, asynchronous):
    """Save in an endless loop, and write each step that is on the disk."""
    with lab.checkpoint_store(directory, keep=2, asynchronous=asynchronous) as store:
        for step in itertools.count(first):
            store.save(step, tree_of(step, 30_000), score=1 / (step + 1))
            store.wait()
            os.write(acks, f"{step}\n".encode())


def crash(directory, acks, step, of, at):
    """Save one tree, and exit at the system call of an index; a write is done by half."""
    real, count = {name: getattr(os, name) for name in CALLS}, itertools.count()

    def dying(name):
        def call(*args, **options):
            if next(count) == at:
                if name == "write":
                    real["write"](args[0], bytes(args[1])[: len(args[1]) // 2])
                os._exit(137)
            return real[name](*args, **options)

        return call

    for name in CALLS:
        setattr(os, name, dying(name))
    with lab.checkpoint_store(directory, keep=1) as store:
        store.save(step, tree_of(of))
        real["write"](acks, f"{of}\n".encode())


def hold(directory, acks):
    """Hold the directory until killed, with a child that continues to run."""
    with lab.checkpoint_store(directory):
        if os.fork() == 0:
            # From the child, which has released its copy of the lock when fork returns in it.
            os.write(acks, b"held\n")
            time.sleep(2)
            os._exit(0)
        time.sleep(60)


def save_with_limits(directory, acks, step, bytes_at_most, user):
    """Save with a limit on file sizes, or as a user without permission, and write the error."""
    os.chdir(directory)
    if bytes_at_most:
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_at_most, bytes_at_most))
    if user:
        os.setuid(user)
    try:
        with lab.checkpoint_store(".") as store:
            store.save(step, tree_of(step))
    except FnnError as error:
        os.write(acks, f"{type(error).__name__} {error.errno} {error}\n".encode())


def main():
    for line in sys.stdin:
        spec = json.loads(line)
        child = os.fork()
        if child == 0:
            acks = os.open(spec.pop("acks"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            globals()[spec.pop("do")](spec.pop("directory"), acks, **spec)
            os._exit(0)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
