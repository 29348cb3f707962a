"""Tests of the manifest: wrong ones are refused, in bounded time and memory."""

import copy
import json
import math
import time
import tracemalloc

import numpy as np
import pytest
from saving import commit, folder_of, members_of, tree_of

from fnn import lab
from fnn.errors import CheckpointCorruptError, CheckpointVersionError
from fnn.lab.checkpoints.manifest import Leaf, Manifest, decode, encode

NO_DIGEST = "0" * 64
LEAVES = (
    Leaf("params/kernel", (2, 3), "float32", 0, NO_DIGEST),
    Leaf("params/scale", (), "bfloat16", 24, NO_DIGEST),
    Leaf("key", (2,), "key:threefry2x32", 26, NO_DIGEST),
)
MANIFEST = Manifest(120, 0.5, {"epochs": [1, 2.5, None]}, {"fnn": "0.1.0", "jax": "0.8.0"}, LEAVES)
MEGA = 2**20


def encode_with(**members):
    return json.dumps(json.loads(encode(MANIFEST)) | members).encode()


def leaf(**members):
    """The manifest with its second leaf encode_with."""
    leaves = [one._asdict() for one in LEAVES]
    leaves[1] |= members
    return encode_with(leaves=leaves)


MALICIOUS = {
    "nothing": b"",
    "no object": b"[]",
    "no text": b"\xff\xfe{}",
    "UTF-16": encode(MANIFEST).decode().encode("utf-16"),
    "cut": encode(MANIFEST)[:-1],
    "more after it": encode(MANIFEST) + b"{}",
    "100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "100,000 deep in notes": encode_with(notes="X").replace(
        b'"X"', b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    ),
    "33 deep": encode_with(notes=json.loads("[" * 33 + "]" * 33)),
    "one name twice": encode(MANIFEST).replace(b'"step":120', b'"step":120,"step":121'),
    "one name twice, in a leaf": encode(MANIFEST).replace(b'"offset":0', b'"offset":0,"offset":0'),
    "NaN": encode(MANIFEST).replace(b"0.5", b"NaN"),
    "Infinity": encode(MANIFEST).replace(b"2.5", b"-Infinity"),
    "1e999": encode(MANIFEST).replace(b"0.5", b"1e999"),
    "5,000 digits": encode(MANIFEST).replace(b"120", b"9" * 5000),
    "5,000 digits after a point": encode(MANIFEST).replace(b"0.5", b"0." + b"9" * 5000),
    "too large": encode_with(notes="x" * (16 * MEGA)),
    "a million empty lists": encode_with(notes=[[]] * 1_000_000),
    "millions of numbers": encode_with(notes=[0] * 4_000_000),
    "a long name": leaf(path="x" * 5 * MEGA),
    "100,001 leaves": encode_with(leaves=[{}] * 100_001),
    "no step": encode_with(step=None),
    "a step that is true": encode_with(step=True),
    "a step below 0": encode_with(step=-1),
    "a format below 1": encode_with(format=0),
    "a format that is text": encode_with(format="1"),
    "a score that is text": encode_with(score="0.5"),
    "a member too many": encode_with(code="import os"),
    "versions that are numbers": encode_with(made_by={"fnn": 1}),
    "leaves that are a dict": encode_with(leaves={"a": 1}),
    "a leaf that is a number": encode_with(leaves=[1]),
    "a leaf with a member too many": leaf(load="os.system"),
    "a size below 0": leaf(shape=[-1]),
    "two sizes below 0": leaf(shape=[-1, -1]),
    "a size of 10^12": leaf(shape=[10**12]),
    "a size of 2^63": leaf(shape=[2**63]),
    "sizes whose product is 2^64": leaf(shape=[2**32, 2**32]),
    "an empty array, too large": leaf(shape=[0, 2**40, 2**40]),
    "a size of 1.0": leaf(shape=[1.0]),
    "a size that is true": leaf(shape=[True]),
    "17 axes": leaf(shape=[1] * 17),
    "a shape that is a number": leaf(shape=1),
    "leaves that overlap": leaf(offset=20),
    "a gap": leaf(offset=25),
    "an offset below 0": leaf(offset=-2),
    "an offset out of the file": leaf(offset=2**62),
    "the dtype of objects": leaf(dtype="O"),
    "the dtype object": leaf(dtype="object"),
    "a dtype of records": leaf(dtype="i4,O"),
    "a dtype of text": leaf(dtype="U8"),
    "a dtype of dates": leaf(dtype="M8[s]"),
    "a dtype that is a list": leaf(dtype=["f4"]),
    "keys of no name": leaf(dtype="key:"),
    "keys of a path": leaf(dtype="key:../x"),
    "a path upwards": leaf(path="../x"),
    "a path upwards, inside": leaf(path="params/../../x"),
    "an absolute path": leaf(path="/etc/passwd"),
    "a path with NUL": leaf(path="a\0b"),
    "a path that clears a terminal": leaf(path="a\x1b[2Jb"),
    "a path with a new line": leaf(path="a\nb"),
    "half a character": leaf(path="X").replace(b'"X"', b'"\\ud800"'),
    "a path that is a number": leaf(path=1),
    "a path twice": leaf(path="key"),
    "a digest of another length": leaf(sha256="0" * 63),
    "a digest that is null": leaf(sha256=None),
}


def test_decode_inverts_encode():
    assert decode(encode(MANIFEST)) == MANIFEST
    assert MANIFEST.size == 24 + 2 + 8


@pytest.mark.parametrize("name", MALICIOUS)
def test_a_malicious_manifest_is_refused_in_bounded_time_and_memory(name, tmp_path):
    lab.save(tmp_path, tree_of(0))
    commit(folder_of(tmp_path, 0), MALICIOUS[name])

    def refuse():
        with pytest.raises(
            CheckpointCorruptError, match=r"step_000000000/(manifest\.json|data\.bin)"
        ) as caught:
            lab.read(tmp_path)
        assert len(str(caught.value)) < 1000 and "\x1b" not in str(caught.value)

    refuse()
    began = time.process_time()
    refuse()
    assert time.process_time() - began < 1
    tracemalloc.start()
    refuse()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The limits on the text bound the memory of the objects that JSON makes.
    assert peak < 2 * len(MALICIOUS[name]) + 16 * MEGA


@pytest.mark.slow
def test_the_largest_manifests_take_bounded_time_and_memory():
    """The limits on the text bound the number of Python objects."""
    lists = [[]] * 290_000
    names = {f"{index:x}": "ab" for index in range(290_000)}
    for raw in (encode_with(notes=lists), encode_with(notes=names)):
        began = time.process_time()
        decode(raw)
        assert time.process_time() - began < 2
        tracemalloc.start()
        decode(raw)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(raw) + 128 * MEGA
        tracemalloc.stop()


VALUES = [
    None,
    True,
    0,
    -1,
    1,
    2,
    2**31,
    2**63,
    10**19,
    0.5,
    -0.0,
    1e300,
    [],
    {},
    [-1],
    [2, 3],
    [0],
    [2**62, 2**62],
]
VALUES += ["", "O", "float32", "key:rbg", "../x", "a\0", {"path": "x"}, NO_DIGEST, "params/kernel"]


def paths_in(value, here=()):
    """Yield the paths of all values in nested members."""
    yield here
    names = ()
    if isinstance(value, dict):
        names = value
    elif isinstance(value, list):
        names = range(len(value))
    for name in names:
        yield from paths_in(value[name], (*here, name))


WHOLE = json.loads(encode(MANIFEST))
PATHS = [path for path in paths_in(WHOLE) if path]


def mutate(draw):
    """Return a manifest with members replaced, removed, copied or added, or with a byte changed."""
    members = copy.deepcopy(WHOLE)
    for _ in range(draw.integers(1, 3)):
        *above, last = PATHS[draw.integers(len(PATHS))]
        inside = members
        kind = draw.integers(6)
        value = copy.deepcopy(VALUES[draw.integers(len(VALUES))])
        try:
            for name in above:
                inside = inside[name]
            if kind <= 2:
                inside[last] = value
            elif kind == 3:
                del inside[last]
            elif kind == 4:
                members["leaves"].append(copy.deepcopy(inside[last]))
            else:
                inside["added" if isinstance(inside, dict) else 0] = value
        except (KeyError, IndexError, TypeError, AttributeError):
            continue  # an earlier change has removed the path
    raw = bytearray(json.dumps(members).encode())
    if draw.integers(4) == 0:
        raw[draw.integers(len(raw))] = draw.integers(256)
    return bytes(raw)


@pytest.mark.parametrize("mutations", [5_000, pytest.param(1_000_000, marks=pytest.mark.faults)])
def test_a_random_change_is_refused_or_gives_a_consistent_manifest(mutations):
    draw, refused = np.random.default_rng(0), 0
    for _ in range(mutations):
        raw = mutate(draw)
        try:
            manifest = decode(raw)
        except (CheckpointCorruptError, CheckpointVersionError):
            refused += 1
            continue
        ends = [
            leaf.offset + math.prod(leaf.shape) * leaf.storage_dtype.itemsize
            for leaf in manifest.leaves
        ]
        assert [leaf.offset for leaf in manifest.leaves] == [0, *ends[:-1]][: len(ends)]
        assert decode(encode(manifest)) == manifest
    assert mutations / 2 < refused < mutations


def test_a_random_change_is_refused_by_the_reader_or_harmless(tmp_path):
    lab.save(tmp_path, {"x": np.zeros(3, np.float32)})
    folder, draw = folder_of(tmp_path, 0), np.random.default_rng(1)
    whole = members_of(folder)
    for _ in range(300):
        members = copy.deepcopy(whole)
        name = ("shape", "dtype", "offset", "path")[draw.integers(4)]
        members["leaves"][0][name] = VALUES[draw.integers(len(VALUES))]
        commit(folder, json.dumps(members).encode())
        try:
            (array,) = lab.read(tmp_path).leaves.values()
        except CheckpointCorruptError:
            continue
        assert array.nbytes == 12
