"""The manifest of a checkpoint: what its bytes are. Its reader trusts nothing that it reads."""

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
LARGEST = 16 * 2**20  # bytes
LEAVES = 100_000
DEPTH = 32
RANK = 16
DIGITS = 64  # in a row; a digest may have as many
PATH = 4096  # characters
ELEMENTS = 2**60  # what NumPy can shape, whatever the dtype

NUMPY: tuple[str, ...] = (
    "bool",
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
)
NUMPY += ("float16", "float32", "float64", "complex64", "complex128")
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
)
NARROW += (
    "float8_e4m3b11fnuz",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
)
DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(name) for name in NUMPY}
DTYPES |= {name: np.dtype(getattr(jnp, name)) for name in NARROW if hasattr(jnp, name)}
KEY = "key:"  # a typed key is stored as its data, of dtype uint32, under the name of its implementation
WAY_OUT = "take another step, or copy it again from where it is whole"


class Leaf(NamedTuple):
    """One leaf: its place in the tree, and its bytes in the data file."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    sha256: str

    @property
    def bare(self) -> np.dtype[Any]:
        """The dtype of its bytes."""
        return DTYPES["uint32" if self.dtype.startswith(KEY) else self.dtype]

    @property
    def size(self) -> int:
        """How many bytes it takes."""
        return math.prod(self.shape) * self.bare.itemsize


class Manifest(NamedTuple):
    """What a checkpoint says of itself."""

    step: int
    score: float | None
    notes: Any
    made_by: Mapping[str, str]
    leaves: tuple[Leaf, ...]

    @property
    def size(self) -> int:
        """How many bytes its leaves take."""
        return sum(leaf.size for leaf in self.leaves)


def encode(manifest: Manifest) -> bytes:
    """The manifest as JSON; ValueError or TypeError for notes that JSON cannot hold."""
    members = (
        {"format": FORMAT}
        | manifest._asdict()
        | {"leaves": [leaf._asdict() for leaf in manifest.leaves]}
    )
    return json.dumps(members, separators=(",", ":"), allow_nan=False).encode()


def decode(raw: bytes, where: str = "manifest") -> Manifest:
    """The manifest that these bytes are; CheckpointCorruptError for all that `encode` never writes.

    CheckpointVersionError for a format newer than FORMAT.
    """
    members = _parsed(raw, where)
    expect(isinstance(members, dict), where, "an object", members)
    version = members.get("format")
    expect(type(version) is int and version >= 1, f"{where} format", "a whole number", version)
    if version > FORMAT:
        raise CheckpointVersionError(
            where, f"format {FORMAT} or older", f"format {version}", "take a newer fnn"
        )
    expect(
        members.keys() == {"format", *Manifest._fields},
        where,
        f"format, {', '.join(Manifest._fields)}",
        [*members],
    )
    step, score, notes, made_by, leaves = (members[name] for name in Manifest._fields)
    expect(is_count(step), f"{where} step", "a whole number", step)
    finite = type(score) is float and math.isfinite(score)
    expect(
        score is None or finite, f"{where} score", "a finite number with a point, or null", score
    )
    expect(
        _is_plain(notes, DEPTH),
        f"{where} notes",
        f"finite numbers, at most {DEPTH} levels",
        "others",
    )
    named = isinstance(made_by, dict) and all(isinstance(value, str) for value in made_by.values())
    expect(named, f"{where} made_by", "versions by name", made_by)
    expect(isinstance(leaves, list), f"{where} leaves", "a list", leaves)
    return Manifest(step, score, notes, made_by, _leaves(leaves, where))


def expect(condition: bool, where: str, expected: str, got: object) -> None:
    """Raise CheckpointCorruptError unless the condition holds."""
    if not condition:
        raise CheckpointCorruptError(where, expected, reprlib.repr(got), WAY_OUT)


def is_count(value: Any) -> bool:
    """Whether it is a whole number of 63 bits, not below 0."""
    return type(value) is int and 0 <= value < 2**63


def _leaves(members: list[Any], where: str) -> tuple[Leaf, ...]:
    expect(len(members) <= LEAVES, f"{where} leaves", f"at most {LEAVES}", len(members))
    leaves, offset = [], 0
    for index, one in enumerate(members):
        leaf = _leaf(one, f"{where} leaf {index}")
        told = f"{where} leaf {reprlib.repr(leaf.path)} offset"
        expect(leaf.offset == offset, told, f"{offset}, no gap, no overlap", leaf.offset)
        leaves.append(leaf)
        offset += leaf.size
    expect(
        len({leaf.path for leaf in leaves}) == len(leaves),
        f"{where} leaves",
        "each path once",
        "one twice",
    )
    return tuple(leaves)


def _leaf(members: Any, where: str) -> Leaf:
    whole = isinstance(members, dict) and members.keys() == set(Leaf._fields)
    expect(whole, where, ", ".join(Leaf._fields), members)
    path, shape, dtype, offset, sha256 = (members[name] for name in Leaf._fields)
    expect(isinstance(path, str) and _is_path(path), f"{where} path", "names joined by /", path)
    where = f"{where} {reprlib.repr(path)}"
    expect(
        isinstance(shape, list) and len(shape) <= RANK,
        f"{where} shape",
        f"at most {RANK} sizes",
        shape,
    )
    expect(all(map(is_count, shape)), f"{where} shape", "whole numbers", shape)
    expect(
        math.prod(filter(None, shape)) <= ELEMENTS,
        f"{where} shape",
        f"at most {ELEMENTS} elements",
        shape,
    )
    known = isinstance(dtype, str) and (
        dtype in DTYPES or re.fullmatch(f"{KEY}\\w{{1,40}}", dtype, re.ASCII)
    )
    expect(bool(known), f"{where} dtype", "a dtype of numbers or keys", dtype)
    expect(is_count(offset), f"{where} offset", "a whole number", offset)
    digest = isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256)
    expect(bool(digest), f"{where} sha256", "64 hexadecimal digits", sha256)
    return Leaf(path, tuple(shape), dtype, offset, sha256)


def _is_path(path: str) -> bool:
    """Whether no part of it is a way elsewhere, nor anything that no terminal shows. A tree of one leaf has "" only."""
    parts = path.split("/") if path else []
    return len(path) <= PATH and path.isprintable() and not {"", ".", ".."} & set(parts)


def _parsed(raw: bytes, where: str) -> Any:
    """What the JSON says, more strictly read than by Python: no name twice, no number that is none, nothing endless."""
    expect(len(raw) <= LARGEST, where, f"at most {LARGEST} bytes", len(raw))
    # Python's objects take many times the room of the text that makes them, so they are counted before they are made.
    expect(raw.count(b",") <= 10 * LEAVES, where, f"at most {10 * LEAVES} commas", raw.count(b","))
    opened = raw.count(b"[") + raw.count(b"{")
    expect(opened <= 3 * LEAVES, where, f"at most {3 * LEAVES} brackets", opened)
    expect(
        not re.search(rb"\d{%d}" % (DIGITS + 1), raw),
        where,
        f"at most {DIGITS} digits in a row",
        "more",
    )
    try:
        return json.loads(raw.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise CheckpointCorruptError(where, "JSON", reprlib.repr(str(error)), WAY_OUT) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("one name twice")
    return members


def _no_number(name: str) -> None:
    raise ValueError(f"{name}, which is no number")


def _is_plain(value: Any, levels: int) -> bool:
    """Whether it is no deeper than so many levels, and its numbers are finite: 1e999 is none."""
    if not isinstance(value, dict | list):
        return not isinstance(value, float) or math.isfinite(value)
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_plain(one, levels - 1) for one in inner)
