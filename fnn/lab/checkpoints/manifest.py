"""The manifest of a checkpoint. Its decoder checks everything that it reads."""

import json
import math
import re
import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fnn.errors import CheckpointCorruptError, CheckpointVersionError

FORMAT = 1
# Limits, so that a malicious manifest costs little time and memory.
MAX_BYTES = 16 * 2**20
MAX_LEAVES = 100_000
MAX_DEPTH = 32
MAX_RANK = 16
MAX_DIGITS = 64  # in a row, as a digest may have
MAX_PATH = 4096  # characters
MAX_ELEMENTS = 2**60  # NumPy can shape these for any dtype

NUMPY: tuple[str, ...] = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
)
NARROW: tuple[str, ...] = (
    "bfloat16",
    "int2",
    "int4",
    "uint2",
    "uint4",
    "float4_e2m1fn",
    "float8_e3m4",
    "float8_e4m3",
    "float8_e5m2",
    "float8_e4m3b11fnuz",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
)
DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(name) for name in NUMPY}
# Which narrow dtypes there are depends on the version of JAX.
DTYPES |= {name: np.dtype(getattr(jnp, name)) for name in NARROW if hasattr(jnp, name)}
# A typed key is stored as its data, of dtype uint32, under the name of its implementation.
KEY = "key:"
ADVICE = "take another step, or copy it again from a valid copy"


class Leaf(NamedTuple):
    """A leaf in the manifest. The field names are those in the file.

    Attributes:
        path: Path in the tree, with / between the names; "" for a tree that is one leaf.
        shape: Shape of the array.
        dtype: Name of the dtype, or "key:" and the name of a key's implementation.
        offset: First byte in data.bin.
        sha256: SHA-256 of the bytes, in hexadecimal digits.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    sha256: str

    @property
    def storage_dtype(self) -> np.dtype[Any]:
        """The dtype of the stored bytes."""
        return DTYPES["uint32" if self.dtype.startswith(KEY) else self.dtype]

    @property
    def size(self) -> int:
        """Number of bytes."""
        return math.prod(self.shape) * self.storage_dtype.itemsize


class Manifest(NamedTuple):
    """The content of a manifest. The field names are those in the file.

    Attributes:
        step: Step of the checkpoint.
        score: The lower the better, or None.
        notes: Any JSON value.
        made_by: Versions of fnn and jax, by name.
        leaves: The leaves, ordered by offset, without gaps.
    """

    step: int
    score: float | None
    notes: Any
    made_by: Mapping[str, str]
    leaves: tuple[Leaf, ...]

    @property
    def size(self) -> int:
        """Number of bytes of all leaves."""
        return sum(leaf.size for leaf in self.leaves)


def encode(manifest: Manifest) -> bytes:
    """Return the manifest as JSON; ValueError or TypeError for notes that JSON cannot represent."""
    # The order of the members is that of the fields; it is part of the digest in COMMIT.
    members: dict[str, Any] = {"format": FORMAT} | manifest._asdict()
    members["leaves"] = [leaf._asdict() for leaf in manifest.leaves]
    text = json.dumps(members, separators=(",", ":"), allow_nan=False)
    return text.encode()


def decode(raw: bytes, where: str = "manifest") -> Manifest:
    """Return the manifest in these bytes.

    Raises:
        CheckpointCorruptError: The bytes are not such as `encode` returns.
        CheckpointVersionError: The format is newer than FORMAT.
    """
    members = _parse(raw, where)
    expect(isinstance(members, dict), where, "an object", members)
    # The version comes first, since a newer format may have other members.
    version = members.get("format")
    # type() is int, since True is an int too.
    is_version = type(version) is int and version >= 1
    expect(is_version, f"{where} format", "a whole number", version)
    if version > FORMAT:
        raise CheckpointVersionError(
            where,
            f"format {FORMAT} or older",
            f"format {version}",
            "take a newer fnn",
        )
    has_members = members.keys() == {"format", *Manifest._fields}
    expect(has_members, where, f"format, {', '.join(Manifest._fields)}", [*members])
    step, score, notes, made_by, leaves = (members[name] for name in Manifest._fields)
    expect(is_count(step), f"{where} step", "a whole number", step)
    # encode writes a score as a float, so 1 without a point is not one.
    is_score = score is None or (type(score) is float and math.isfinite(score))
    expect(is_score, f"{where} score", "a finite number with a point, or null", score)
    expected = f"finite numbers, at most {MAX_DEPTH} levels"
    expect(_is_plain(notes, MAX_DEPTH), f"{where} notes", expected, "other values")
    is_named = isinstance(made_by, dict) and all(
        isinstance(value, str) for value in made_by.values()
    )
    # Versions are information only and decide nothing.
    expect(is_named, f"{where} made_by", "versions by name", made_by)
    expect(isinstance(leaves, list), f"{where} leaves", "a list", leaves)
    return Manifest(step, score, notes, made_by, _decode_leaves(leaves, where))


def expect(
    condition: bool,
    where: str,
    expected: str,
    got: object,
) -> None:
    """Raise CheckpointCorruptError unless the condition holds."""
    if not condition:
        # reprlib shortens values, which may be long, and escapes control characters.
        raise CheckpointCorruptError(
            where,
            expected,
            reprlib.repr(got),
            ADVICE,
        )


def is_count(value: Any) -> bool:
    """Return whether this is a whole number in 0 <= value < 2**63."""
    return type(value) is int and 0 <= value < 2**63


def _decode_leaves(members: list[Any], where: str) -> tuple[Leaf, ...]:
    expect(len(members) <= MAX_LEAVES, f"{where} leaves", f"at most {MAX_LEAVES}", len(members))
    leaves = []
    offset = 0
    for index, member in enumerate(members):
        leaf = _decode_leaf(member, f"{where} leaf {index}")
        # The offsets follow from the sizes, so leaves can neither overlap nor leave the file.
        where_offset = f"{where} leaf {reprlib.repr(leaf.path)} offset"
        expected = f"{offset}, no gap, no overlap"
        expect(leaf.offset == offset, where_offset, expected, leaf.offset)
        leaves.append(leaf)
        offset += leaf.size
    paths = {leaf.path for leaf in leaves}
    expect(len(paths) == len(leaves), f"{where} leaves", "each path once", "a path twice")
    return tuple(leaves)


def _decode_leaf(members: Any, where: str) -> Leaf:
    has_members = isinstance(members, dict) and members.keys() == set(Leaf._fields)
    expect(has_members, where, ", ".join(Leaf._fields), members)
    path, shape, dtype, offset, sha256 = (members[name] for name in Leaf._fields)
    is_path = isinstance(path, str) and _is_path(path)
    expect(is_path, f"{where} path", "names joined by /", path)
    # From here on, errors name the path, which is printable now.
    where = f"{where} {reprlib.repr(path)}"
    where_shape = f"{where} shape"
    is_short = isinstance(shape, list) and len(shape) <= MAX_RANK
    expect(is_short, where_shape, f"at most {MAX_RANK} sizes", shape)
    expect(all(map(is_count, shape)), where_shape, "whole numbers", shape)
    # Without sizes of 0: NumPy refuses a shape such as (0, 2**40, 2**40) too.
    elements = math.prod(filter(None, shape))
    expect(elements <= MAX_ELEMENTS, where_shape, f"at most {MAX_ELEMENTS} elements", shape)
    expect(_is_dtype(dtype), f"{where} dtype", "a dtype of numbers or keys", dtype)
    expect(is_count(offset), f"{where} offset", "a whole number", offset)
    is_digest = isinstance(sha256, str) and bool(re.fullmatch("[0-9a-f]{64}", sha256))
    expect(is_digest, f"{where} sha256", "64 hexadecimal digits", sha256)
    return Leaf(path, tuple(shape), dtype, offset, sha256)


def _is_dtype(dtype: Any) -> bool:
    if not isinstance(dtype, str):
        return False
    # JAX decides later whether it knows the implementation.
    is_key = re.fullmatch(f"{KEY}\\w{{1,40}}", dtype, re.ASCII)
    return dtype in DTYPES or bool(is_key)


def _is_path(path: str) -> bool:
    """Return whether this is a printable path without parts such as .., or "" for a bare leaf."""
    # Other tools may make files of the paths, so that .. or a control character is refused.
    parts = path.split("/") if path else []
    forbidden = {"", ".", ".."} & set(parts)
    return len(path) <= MAX_PATH and path.isprintable() and not forbidden


def _parse(raw: bytes, where: str) -> Any:
    """Parse JSON more strictly than Python: no duplicate names, no NaN, bounded size."""
    expect(len(raw) <= MAX_BYTES, where, f"at most {MAX_BYTES} bytes", len(raw))
    # Python's objects take many times the memory of their text, so they are counted first.
    commas = raw.count(b",")
    expect(commas <= 10 * MAX_LEAVES, where, f"at most {10 * MAX_LEAVES} commas", commas)
    brackets = raw.count(b"[") + raw.count(b"{")
    expect(brackets <= 3 * MAX_LEAVES, where, f"at most {3 * MAX_LEAVES} brackets", brackets)
    # Parsing a long integer takes quadratic time.
    long_number = re.search(rb"\d{%d}" % (MAX_DIGITS + 1), raw)
    expect(not long_number, where, f"at most {MAX_DIGITS} digits in a row", "a longer number")
    try:
        return json.loads(
            raw.decode(), object_pairs_hook=_unique_members, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise CheckpointCorruptError(
            where,
            "JSON",
            reprlib.repr(str(error)),
            ADVICE,
        ) from None


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Python would keep the last of two members of one name.
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("one name twice")
    return members


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name}, which is not a number in JSON")


def _is_plain(value: Any, levels: int) -> bool:
    """Return whether a JSON value is at most this deep, with finite numbers: 1e999 is not."""
    # JSON has numbers, text, true, false and null besides lists and objects.
    if not isinstance(value, dict | list):
        return not isinstance(value, float) or math.isfinite(value)
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_plain(member, levels - 1) for member in inner)
