"""One small hierarchy of errors. Every message reads: where: expected what, got what; one way out."""

from collections.abc import Iterator
from contextlib import contextmanager

NOTE = "in layer "


class FnnError(Exception):
    """An error that names where it arose, what was expected, what was got, and one way out."""

    def __init__(self, where: str, expected: str, got: object, way_out: str):
        super().__init__(where, expected, got, way_out)

    def __str__(self) -> str:
        where, expected, got, way_out = self.args
        return f"{where}: expected {expected}, got {got}; {way_out}"


class ShapeError(FnnError, ValueError):
    """An array has another shape than the function needs."""


class LabelError(FnnError, ValueError):
    """A target names no class, or is no distribution over the classes."""


class RangeError(FnnError, ValueError):
    """A whole number among the inputs, such as a token or a length, lies outside its range."""


class ConfigError(FnnError, ValueError):
    """An option lies outside what it may be."""


class TreeMismatchError(FnnError, ValueError):
    """A pytree has another structure, or a leaf another shape, than its counterpart."""


class DTypeError(FnnError, TypeError):
    """A value is of another kind than the function needs."""


class NonFiniteError(FnnError, FloatingPointError):
    """Training met a loss, gradient or statistic that is not a finite number; `step` says when."""

    step: int = -1


class CheckpointCorruptError(FnnError, ValueError):
    """A checkpoint is not what was written: cut, changed, incomplete, or no checkpoint at all."""


class CheckpointMismatchError(FnnError, ValueError):
    """A checkpoint is whole, but holds other leaves, shapes or dtypes than are asked for."""


class CheckpointVersionError(FnnError, ValueError):
    """A checkpoint was written in a format that this version of fnn does not know."""


class CheckpointLockedError(FnnError, RuntimeError):
    """Another process writes into this directory of checkpoints."""


class CheckpointWriteError(FnnError, OSError):
    """A checkpoint could not be put on the disk; what was there before still is. `errno` says why."""

    def __init__(self, where: str, expected: str, got: object, way_out: str):
        OSError.__init__(self)  # which takes more arguments than one for its own
        self.args = (where, expected, got, way_out)


class DatasetFormatError(FnnError, ValueError):
    """A file of a data set is not in its format."""


class DatasetIntegrityError(FnnError, ValueError):
    """A file of a data set is not the one that was published: cut, changed, or another."""


class DatasetUnavailableError(FnnError, RuntimeError):
    """A file of a data set is not here, and cannot be fetched now."""


@contextmanager
def inside(name: str, **saw: object) -> Iterator[None]:
    """Add to any error raised within where in the network it arose, and what the innermost layer saw.

    The note grows from the inside out, so it ends as one path: `in layer body/conv_0: x float32[2,8,8,1]`.
    """
    try:
        yield
    except Exception as error:
        notes = getattr(error, "__notes__", [])
        own = [index for index, note in enumerate(notes) if note.startswith(NOTE)]
        if own:
            notes[own[0]] = f"{NOTE}{name}/{notes[own[0]].removeprefix(NOTE)}"
        else:
            error.add_note(
                f"{NOTE}{name}: " + ", ".join(f"{what} {value}" for what, value in saw.items())
            )
        raise
