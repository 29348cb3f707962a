"""The folders in a directory of checkpoints, also those that a crash may leave.

step_000000120 is a checkpoint. For a moment there may also be step_000000120.partial, which is
incomplete; .replaced, which is valid until the new folder has its name; and .removed, which is
being deleted.
"""

import re
from pathlib import Path

from fnn.lab.disk import remove, sync

# Nine digits, or more without a leading zero, up to 2**63.
CHECKPOINT = re.compile(r"step_(\d{9}|[1-9]\d{9,18})(\.replaced)?")
LEFTOVER = re.compile(r"step_\d{9,19}\.(partial|replaced|removed)")


def folder_name(step: int) -> str:
    return f"step_{step:09d}"


def find_checkpoints(directory: Path) -> dict[int, Path]:
    """Return the folder of each step, ordered by step."""
    names = [path.name for path in directory.iterdir()]
    folders = {}
    # Backwards, so that step_1 comes after step_1.replaced, and is the one that is kept.
    for name in sorted(names, reverse=True):
        match = CHECKPOINT.fullmatch(name)
        if match:
            step = int(match[1])
            folders[step] = directory / name
    return dict(sorted(folders.items()))


def publish(partial: Path, target: Path) -> None:
    """Give a complete folder its final name; at every moment the old or the new one is found."""
    replaced = target.with_name(f"{target.name}.replaced")
    # Without a folder of the same step, one rename is enough.
    if target.exists():
        target.rename(replaced)
    partial.rename(target)
    # The new name has to be on the disk before the old folder is gone.
    sync(target.parent)
    remove(replaced)


def delete_checkpoint(folder: Path) -> None:
    """Remove a checkpoint; at every moment it is complete or not found."""
    removed = folder.with_name(f"{folder.name}.removed")
    # A crash may have left a folder of that name.
    remove(removed)
    folder.rename(removed)
    remove(removed)


def clean_up(directory: Path) -> None:
    """Remove the leftovers of a crash, and restore a folder whose replacement never came."""
    names = [path.name for path in directory.iterdir()]
    leftovers = [directory / name for name in sorted(names) if LEFTOVER.fullmatch(name)]
    for path in leftovers:
        target = path.with_suffix("")
        if path.suffix == ".replaced" and not target.exists():
            path.rename(target)
    if leftovers:
        # The restored names have to be on the disk before anything is removed.
        sync(directory)
    for path in leftovers:
        remove(path)
