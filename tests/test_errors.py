"""The form of every message, and the path that grows around an error."""

import pickle

import pytest

from fnn import errors

PARENTS = {
    errors.ShapeError: ValueError,
    errors.LabelError: ValueError,
    errors.ConfigError: ValueError,
    errors.TreeMismatchError: ValueError,
    errors.DTypeError: TypeError,
    errors.NonFiniteError: FloatingPointError,
    errors.CheckpointCorruptError: ValueError,
    errors.CheckpointMismatchError: ValueError,
    errors.CheckpointVersionError: ValueError,
    errors.CheckpointLockedError: RuntimeError,
    errors.CheckpointWriteError: OSError,
    errors.DatasetFormatError: ValueError,
    errors.DatasetIntegrityError: ValueError,
    errors.DatasetUnavailableError: RuntimeError,
}


@pytest.mark.parametrize(("error", "builtin"), PARENTS.items())
def test_each_error_is_fnns_and_a_builtin(error, builtin):
    assert issubclass(error, errors.FnnError) and issubclass(error, builtin)


@pytest.mark.parametrize("kind", [errors.ShapeError, errors.CheckpointWriteError])
def test_a_message_says_where_expected_got_and_a_way_out(kind):
    error = kind("conv x", "rank 4", (3, 3), "add a batch axis")
    assert str(error) == "conv x: expected rank 4, got (3, 3); add a batch axis"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_the_path_grows_from_the_inside_out():
    with (
        pytest.raises(KeyError) as caught,
        errors.inside("a", x=1),
        errors.inside("b", x=2),
        errors.inside("c", x=3, y=4),
    ):
        raise KeyError("missing")
    assert caught.value.__notes__ == ["in layer a/b/c: x 3, y 4"]


def test_other_notes_stay():
    with pytest.raises(KeyError) as caught, errors.inside("a", x=1):
        error = KeyError("missing")
        error.add_note("first seen at noon")
        raise error
    assert caught.value.__notes__ == ["first seen at noon", "in layer a: x 1"]
