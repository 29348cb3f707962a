"""The folders of a directory of checkpoints, and what a crash may have left among them.

step_000000120 is a checkpoint. Beside it may lie, for a moment: .partial, not yet whole; .replaced, which is good until
another has taken its place; .removed, on its way out.
"""

import re
from pathlib import Path

from fnn.lab.checkpoints.disk import remove, sync

CHECKPOINT = re.compile(r"step_(\d{9}|[1-9]\d{9,18})(\.replaced)?")
LEFTOVER = re.compile(r"step_\d{9,19}\.(partial|replaced|removed)")


def name_of(step: int) -> str:
    return f"step_{step:09d}"


def found(directory: Path) -> dict[int, Path]:
    """The folder of each step, in their order."""
    # Backwards, so that a step comes after what it replaces, and is the one that is kept.
    matches = map(
        CHECKPOINT.fullmatch, sorted((path.name for path in directory.iterdir()), reverse=True)
    )
    folders = {int(match[1]): directory / match[0] for match in matches if match}
    return dict(sorted(folders.items()))


def put(partial: Path, target: Path) -> None:
    """Give a whole folder its name, for good; at every moment, the step's old folder or its new one is found."""
    replaced = target.with_name(f"{target.name}.replaced")
    if target.exists():
        target.rename(replaced)
    partial.rename(target)
    sync(target.parent)
    remove(replaced)


def drop(folder: Path) -> None:
    """Remove a checkpoint: at every moment, it is there whole or not at all."""
    removed = folder.with_name(f"{folder.name}.removed")
    remove(removed)  # where it could not be before
    folder.rename(removed)
    remove(removed)


def sweep(directory: Path) -> None:
    """Remove what a crash left, and bring back what was to be replaced by what never came."""
    left = sorted(path for path in directory.iterdir() if LEFTOVER.fullmatch(path.name))
    for path in left:
        if path.suffix == ".replaced" and not path.with_suffix("").exists():
            path.rename(path.with_suffix(""))
    if left:
        sync(directory)
    for path in left:
        remove(path)
