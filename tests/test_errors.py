"""Error messages, error classes, and the note with the path of a layer."""

import pickle

import pytest

from fnn import errors

PARENTS = {
    errors.ShapeError: ValueError,
    errors.LabelError: ValueError,
    errors.ConfigError: ValueError,
    errors.ArgumentError: TypeError,
    errors.TreeMismatchError: ValueError,
    errors.DTypeError: TypeError,
    errors.NonFiniteError: FloatingPointError,
    errors.CheckpointCorruptError: ValueError,
    errors.CheckpointMismatchError: ValueError,
    errors.CheckpointVersionError: ValueError,
    errors.CheckpointLockedError: RuntimeError,
    errors.WriteError: OSError,
    errors.DatasetFormatError: ValueError,
    errors.DatasetIntegrityError: ValueError,
    errors.DatasetUnavailableError: RuntimeError,
}


@pytest.mark.parametrize(("error", "builtin"), PARENTS.items())
def test_errors_derive_from_fnn_error_and_a_builtin(error, builtin):
    assert issubclass(error, errors.FnnError) and issubclass(error, builtin)


@pytest.mark.parametrize("kind", [errors.ShapeError, errors.WriteError])
def test_message_has_where_expected_got_and_way_out(kind):
    error = kind("conv x", "rank 4", (3, 3), "add a batch axis")
    assert str(error) == "conv x: expected rank 4, got (3, 3); add a batch axis"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("kind", [errors.ShapeError, errors.WriteError])
def test_characters_that_a_terminal_acts_on_are_escaped(kind):
    name = "\x1b]0;title\x07 \u202e \udcff"
    error = kind(f"file {name}\n", f"{name}\n", name, f"remove {name}\n")
    assert str(error).isprintable()
    assert r"file \x1b]0;title\x07 \u202e \udcff\n: expected" in str(error)
    assert str(kind("a", "ü 猫 \\x", "b", "c")) == "a: expected ü 猫 \\x, got b; c"


def test_a_value_is_shown_on_its_lines():
    assert str(errors.ConfigError("a", "b", "chain(\n    relu(),\n)", "c")).count("\n") == 2


def test_note_of_the_path_grows_from_the_inside_out():
    with (
        pytest.raises(KeyError) as caught,
        errors.inside("a", x=1),
        errors.inside("b", x=2),
        errors.inside("c", x=3, y=4),
    ):
        raise KeyError("missing")
    assert caught.value.__notes__ == ["in layer a/b/c: x 3, y 4"]


def test_other_notes_are_kept():
    with pytest.raises(KeyError) as caught, errors.inside("a", x=1):
        error = KeyError("missing")
        error.add_note("first note")
        raise error
    assert caught.value.__notes__ == ["first note", "in layer a: x 1"]
