"""The error classes of fnn. Messages have the form: where: expected X, got Y; one way out."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Beginning of the note that names the layer of an error.
LAYER_NOTE = "in layer "


class FnnError(Exception):
    """Base class of all errors of fnn.

    Args:
        where: Argument, function or file that the error is about.
        expected: The values or types that are valid there.
        got: The value or type that was given.
        way_out: One way to fix it, in the imperative.
    """

    def __init__(
        self,
        where: str,
        expected: str,
        got: object,
        way_out: str,
    ):
        # All four are in args, so that the error can be pickled.
        super().__init__(where, expected, got, way_out)

    def __str__(self) -> str:
        where, expected, got, way_out = self.args
        # Names of files, columns and leaves can be in each of them; of these, `got` alone may also
        # be a value that is printed on several lines.
        lines = str(got).split("\n")
        shown = "\n".join(printable(line) for line in lines)
        where, expected, way_out = map(printable, (where, expected, way_out))
        return f"{where}: expected {expected}, got {shown}; {way_out}"


def printable(text: str) -> str:
    r"""Escape the characters that a terminal would act on, as in \x1b, and new lines.

    Names of files and names in files may hold any characters.
    """
    if text.isprintable():
        return text
    # repr without its quotes.
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


# Errors of arguments.


class ShapeError(FnnError, ValueError):
    """An array has a shape that the function does not accept."""


class LabelError(FnnError, ValueError):
    """A target is not a class, or not a distribution over the classes."""


class RangeError(FnnError, ValueError):
    """An integer input, such as a token or a length, is out of range."""


class ConfigError(FnnError, ValueError):
    """An option has an invalid value."""


class ArgumentError(FnnError, TypeError):
    """A call has an unknown argument, lacks one, or has too many."""


class TreeMismatchError(FnnError, ValueError):
    """Two pytrees differ in structure, or in the shape or dtype of a leaf."""


class DTypeError(FnnError, TypeError):
    """A value has a type or dtype that the function does not accept."""


class NonFiniteError(FnnError, FloatingPointError):
    """A loss, gradient or statistic in training is not finite.

    Attributes:
        step: Index of the step; -1 for data.
        train_state: Before the step; None for data. `diagnose.examine` replays from it.
    """

    step: int = -1
    train_state: Any = None


class ProcessError(FnnError, RuntimeError):
    """The processes of a run differ in code, data or calls, or one of them has failed."""


# Errors of files.


class WriteError(FnnError, OSError):
    """A checkpoint, log or picture could not be written; a file of that name is unchanged.

    Attributes:
        errno: The error number of the operating system.
    """

    def __init__(
        self,
        where: str,
        expected: str,
        got: object,
        way_out: str,
    ):
        # OSError would take the second argument for its message.
        OSError.__init__(self)
        self.args = (where, expected, got, way_out)


# Errors of checkpoints.


class CheckpointCorruptError(FnnError, ValueError):
    """A checkpoint is truncated, modified, incomplete, or not a checkpoint."""


class CheckpointMismatchError(FnnError, ValueError):
    """A valid checkpoint has other leaves, shapes or dtypes than requested."""


class CheckpointVersionError(FnnError, ValueError):
    """A checkpoint has a format that this version of fnn does not support."""


class CheckpointLockedError(FnnError, RuntimeError):
    """Another process is writing to the same directory of checkpoints."""


# Errors of data sets.


class DatasetFormatError(FnnError, ValueError):
    """A file of a data set does not have the expected format."""


class DatasetIntegrityError(FnnError, ValueError):
    """A file of a data set differs from the published one: truncated, modified or replaced."""


class DatasetUnavailableError(FnnError, RuntimeError):
    """A file of a data set is not stored locally and cannot be downloaded now."""


@contextmanager
def inside(name: str, **inputs: object) -> Iterator[None]:
    """Add a note to any error raised in a layer: the path of the layer and its inputs.

    The note grows from the inside out, so it ends as one path: `in layer body/conv_0: x
    float32[2,8,8,1]`. The inputs are those of the innermost layer.

    Args:
        name: Name of the layer within its parent.
        **inputs: Descriptions of the layer's inputs by name.
    """
    try:
        yield
    except Exception as error:
        notes = getattr(error, "__notes__", [])
        indices = [index for index, note in enumerate(notes) if note.startswith(LAYER_NOTE)]
        if indices:
            # An inner layer has added the note.
            inner_path = notes[indices[0]].removeprefix(LAYER_NOTE)
            notes[indices[0]] = f"{LAYER_NOTE}{name}/{inner_path}"
        else:
            described = ", ".join(f"{key} {value}" for key, value in inputs.items())
            error.add_note(f"{LAYER_NOTE}{name}: {described}")
        raise
