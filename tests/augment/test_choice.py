"""Optional and chosen ops: fused, they equal the chosen part bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from pictures import as_floats, pictures

from fnn import augment
from fnn.augment.choice import gate, select
from fnn.augment.execute import execute
from fnn.augment.ops import GeometricOp, PixelOp, PointOp

pytestmark = pytest.mark.slow

SHAPE = (20, 18, 3)  # equalize changes only images of at least 255 pixels
COUNT = 48
BYTES = pictures(COUNT, SHAPE)

# Parts of every kind of op, with and without random parameters, that keep the size.
PARTS = {
    "rotate": augment.rotate((-40.0, 40.0), fill=0.3),
    "translate": augment.translate((-0.3, 0.3), (-0.3, 0.3), fill=0.3),
    "flip": augment.flip_lr(1.0),
    "equalize": augment.equalize(),
    "autocontrast": augment.autocontrast(),
    "contrast": augment.contrast((0.3, 2.0)),
    "posterize": augment.posterize((1.0, 8.0)),
    "gamma": augment.gamma((0.5, 2.0)),
    "saturation": augment.saturation((0.0, 2.0)),
    "cutout": augment.cutout(4),
    "sharpness": augment.sharpness((0.0, 3.0)),
    "blur": augment.gaussian_blur((0.2, 2.0), size=5),
    "perspective": augment.perspective(0.4, fill=0.3),
    "jitter": augment.jitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    "hue": augment.hue((-0.3, 0.3)),
    "lighting": augment.pca_lighting(0.2),
    "erasing": augment.random_erasing(1.0, fill="noise"),
    "noise": augment.gaussian_noise((0.0, 0.1)),
    "jpeg": augment.jpeg((10, 90)),
}
UNLIKE = (augment.elastic((1.0, 2.0)), augment.chain(augment.resize(9), augment.resize(SHAPE[:2])))


def lower_parts(parts, shape=SHAPE):
    """The ops of each part, with the parameters of one draw."""
    branches = []
    for seed, part in enumerate(parts):
        drawn = part.draw(jax.random.key(seed), shape)
        branches.append(part.lower(drawn, shape))
    return branches


@pytest.mark.parametrize(
    ("images", "names"),
    [
        (BYTES, [*PARTS]),
        (as_floats(BYTES), ["translate", "equalize", "gamma", "cutout", "sharpness"]),
    ],
    ids=["bytes", "floats"],
)
def test_a_fused_choice_equals_the_chosen_part(images, names):
    index = np.arange(COUNT) % len(names)

    def both(index, image):
        branches = lower_parts([PARTS[name] for name in names])
        fused = execute(select(index, branches, SHAPE, "fused"), image)
        return fused, [execute(ops, image) for ops in branches]

    found, each = jax.jit(jax.vmap(both))(jnp.asarray(index, jnp.int32), images)
    expected = np.stack([each[part][k] for k, part in enumerate(index)])
    assert found.dtype == images.dtype
    atol = 0 if images.dtype == np.uint8 else 1e-6
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("others", [(), UNLIKE], ids=["fused", "exact"])
def test_a_choice_sharded_over_devices_equals_the_choice(others):
    """Constants of the parts are combined with arrays that vary over the devices."""
    policy = augment.per_image(augment.one_of(*PARTS.values(), *others))
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    split = PartitionSpec("batch")
    spread = jax.shard_map(
        policy, mesh=mesh, in_specs=(PartitionSpec(), split, split), out_specs=split
    )
    operands = jax.random.key(0), BYTES, np.arange(COUNT)
    np.testing.assert_array_equal(jax.jit(spread)(*operands), jax.jit(policy)(*operands))


def kind(op):
    if isinstance(op, PixelOp):
        return "spatial" if op.spatial else "pixel"
    return type(op)


def kinds(ops):
    return [kind(op) for op in ops]


def test_a_fused_choice_has_one_op_of_each_kind_in_the_order_of_kinds():
    found = {}

    def collect():
        branches = lower_parts(PARTS.values())
        for mode in ("fused", "exact"):
            found[mode] = kinds(select(jnp.int32(0), branches, SHAPE, mode))
        point_ops = [augment.invert().lower({}, SHAPE), augment.equalize().lower({}, SHAPE)]
        found["point ops"] = kinds(select(jnp.int32(0), point_ops, SHAPE, "fused"))

    jax.eval_shape(collect)
    assert found == {
        "fused": [GeometricOp, PointOp, "pixel", "spatial"],
        "exact": ["spatial"],
        "point ops": [PointOp],
    }


ROTATE = augment.rotate(30.0)
# Branches that cannot share ops, between which a switch of complete branches chooses.
NOT_SHAREABLE = {
    "modes": (ROTATE, augment.rotate(30.0, mode="reflect")),
    "fills": (ROTATE, augment.translate(0.3, fill=0.8)),
    "methods": (augment.rotate(30.0, method="nearest"), augment.scale(1.3)),
    "an op without border first": (
        augment.rot90(1),
        augment.rotate(30.0, mode="reflect"),
    ),
    "a point op before a geometric op": (
        augment.chain(augment.invert(), ROTATE),
        augment.flip_lr(1.0),
    ),
    "a filter before a pixel op": (
        augment.chain(augment.sharpness(3.0), augment.grayscale()),
        augment.flip_lr(1.0),
    ),
    "two statistics": (
        augment.chain(augment.equalize(), augment.contrast(2.0)),
        augment.invert(),
    ),
    "two geometric ops": (
        augment.chain(ROTATE, augment.scale(0.7, mode="edge")),
        augment.flip_lr(1.0),
    ),
    "antialiased": (augment.random_resized_crop((9, 9)), augment.flip_lr(1.0)),
    "a field": (augment.elastic(2.0), augment.flip_lr(1.0)),
}


def lower_choices(parts, shape):
    """The ops of each of the parts, and of the fused choices of each part."""
    branches = lower_parts(parts, shape)
    choices = [select(jnp.int32(k), branches, shape, "fused") for k in range(len(parts))]
    return branches, choices


@pytest.mark.parametrize("case", NOT_SHAREABLE)
def test_branches_that_cannot_share_ops_become_one_switch(case):
    found = []

    def collect():
        _, choices = lower_choices(NOT_SHAREABLE[case], (9, 9, 3))
        found.append(kinds(choices[0]))

    jax.eval_shape(collect)
    assert found == [["spatial"]]


def test_the_switch_equals_the_chosen_part():
    def both(image):
        branches, choices = lower_choices(NOT_SHAREABLE["modes"], SHAPE)
        alone = [execute(ops, image) for ops in branches]
        return alone, [execute(ops, image) for ops in choices]

    alone, found = jax.jit(jax.vmap(both))(BYTES[:2])
    np.testing.assert_array_equal(found, alone)
    assert (alone[0] != alone[1]).mean() > 0.1


def test_compatible_geometric_ops_are_chosen_by_their_matrices():
    parts = (
        augment.flip_lr(1.0),
        augment.random_crop(padding=2, mode="reflect"),
        augment.flip_ud(1.0),
    )
    branches = lower_parts(parts)
    (op,) = select(jnp.int32(1), branches, SHAPE, "fused")
    np.testing.assert_array_equal(op.matrix, branches[1][0].matrix)
    assert (op.integral, op.reach, op.mode) == (True, (2, 2), "reflect")


def test_branches_without_a_pixel_op_share_one_case_of_the_switch():
    calls = []

    def change(image):
        calls.append(1)
        return image

    branches = [(PixelOp(change),), *(augment.invert().lower({}, SHAPE) for _ in range(5))]
    ops = select(jnp.int32(0), branches, SHAPE, "fused")
    last = jax.vmap(lambda image, index: ops[-1].change(image), (0, None))
    text = str(jax.make_jaxpr(last)(BYTES, jnp.int32(0)))
    assert len(calls) == 1
    assert "branches" in text


GATED = {
    "warp": augment.rotate(30.0),
    "window": augment.random_crop(padding=2),
    "antialiased": augment.random_resized_crop(SHAPE[:2]),
    "field": augment.elastic(2.0),
    "point op": augment.brightness(0.5),
    "statistics": augment.equalize(),
    "pixel op": augment.saturation(0.2),
    "filter": augment.gaussian_blur(1.0, size=5),
}


FLOATS = ("antialiased", "point op")


@pytest.mark.parametrize("case", GATED)
def test_a_gated_op_is_the_identity_or_the_op(case):
    part = GATED[case]
    drawn = part.draw(jax.random.key(3), SHAPE)
    images = as_floats(BYTES[:6]) if case in FLOATS else BYTES[:6]

    def both(applies, image):
        ops = [gate(applies, op) for op in part.lower(drawn, SHAPE)]
        return execute(ops, image), part.apply(drawn, image)

    applies = np.arange(6) % 2 == 1
    found, after = jax.jit(jax.vmap(both))(jnp.asarray(applies), images)
    np.testing.assert_array_equal(found[~applies], images[~applies])
    np.testing.assert_allclose(found[applies], after[applies], rtol=0, atol=1e-6)
    assert (np.asarray(after) != images).mean() > 0.3
