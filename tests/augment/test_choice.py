"""Steps left out and steps chosen: fused, they are to the last bit what the chosen part alone does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from pictures import as_floats, pictures

from fnn import augment
from fnn.augment.choice import gated, selected
from fnn.augment.execute import rendered
from fnn.augment.ops import Move, Paint, Recolor

SHAPE = (20, 18, 3)  # equalize changes no smaller one than of 255 pixels
COUNT = 48
BYTES = pictures(COUNT, SHAPE)

# One of each kind of step, drawn or not, sizes kept.
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


def steps_of(names, shape=SHAPE):
    """What each part comes to for one image."""
    drawn = [PARTS[name].draw(jax.random.key(place), shape) for place, name in enumerate(names)]
    return [PARTS[name].lower(own, shape) for name, own in zip(names, drawn, strict=True)]


@pytest.mark.parametrize(
    ("images", "names"),
    [
        (BYTES, [*PARTS]),
        (as_floats(BYTES), ["translate", "equalize", "gamma", "cutout", "sharpness"]),
    ],
    ids=["bytes", "floats"],
)
def test_a_fused_choice_is_the_chosen_part_alone(images, names):
    which = np.arange(COUNT) % len(names)

    def both(which, image):
        steps = steps_of(names)
        fused = rendered(selected(which, steps, SHAPE, "fused"), image)
        return fused, [rendered(own, image) for own in steps]

    found, each = jax.jit(jax.vmap(both))(jnp.asarray(which, jnp.int32), images)
    expected = np.stack([each[own][place] for place, own in enumerate(which)])
    assert found.dtype == images.dtype
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=0 if images.dtype == np.uint8 else 1e-6
    )


@pytest.mark.parametrize("others", [(), UNLIKE], ids=["fused", "exact"])
def test_a_choice_spread_over_devices_is_the_choice(others):
    """Each part's constants meet what varies over the devices, and they do so in a choice that is mapped."""
    policy = augment.per_image(augment.one_of(*PARTS.values(), *others))
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    split = PartitionSpec("batch")
    spread = jax.shard_map(
        policy, mesh=mesh, in_specs=(PartitionSpec(), split, split), out_specs=split
    )
    operands = jax.random.key(0), BYTES, np.arange(COUNT)
    np.testing.assert_array_equal(jax.jit(spread)(*operands), jax.jit(policy)(*operands))


def kinds(steps):
    return [
        type(step) if not isinstance(step, Paint) else ("late" if step.late else "paint")
        for step in steps
    ]


def test_a_fused_choice_is_one_step_of_each_kind_in_the_order_of_the_kinds():
    found = {}

    def look():
        steps = steps_of(PARTS)
        found.update(
            {mode: kinds(selected(jnp.int32(0), steps, SHAPE, mode)) for mode in ("fused", "exact")}
        )
        recolors = [augment.invert().lower({}, SHAPE), augment.equalize().lower({}, SHAPE)]
        found["recolors"] = kinds(selected(jnp.int32(0), recolors, SHAPE, "fused"))

    jax.eval_shape(look)
    assert found == {
        "fused": [Move, Recolor, "paint", "late"],
        "exact": ["late"],
        "recolors": [Recolor],
    }


ROTATE = augment.rotate(30.0)
# Branches that one pass over the kinds cannot do, and which are thus chosen from as they are.
APART = {
    "borders": (ROTATE, augment.rotate(30.0, mode="reflect")),
    "fills": (ROTATE, augment.translate(0.3, fill=0.8)),
    "orders": (augment.rotate(30.0, method="nearest"), augment.scale(1.3)),
    "a move that looks at no border first": (
        augment.rot90(1),
        augment.rotate(30.0, mode="reflect"),
    ),
    "recolored before it moves": (augment.chain(augment.invert(), ROTATE), augment.flip_lr(1.0)),
    "blurred before it is painted": (
        augment.chain(augment.sharpness(3.0), augment.grayscale()),
        augment.flip_lr(1.0),
    ),
    "looked at twice": (augment.chain(augment.equalize(), augment.contrast(2.0)), augment.invert()),
    "two moves": (augment.chain(ROTATE, augment.scale(0.7, mode="edge")), augment.flip_lr(1.0)),
    "antialiased": (augment.random_resized_crop((9, 9)), augment.flip_lr(1.0)),
    "waves": (augment.elastic(2.0), augment.flip_lr(1.0)),
}


def choice(parts, shape):
    """What each of the parts comes to for one image, and the fused choice of either."""
    steps = [
        part.lower(part.draw(jax.random.key(place), shape), shape)
        for place, part in enumerate(parts)
    ]
    return steps, [selected(jnp.int32(place), steps, shape, "fused") for place in range(len(parts))]


@pytest.mark.parametrize("case", APART)
def test_what_does_not_fit_together_is_chosen_from_as_it_is(case):
    found = []
    jax.eval_shape(lambda: found.append(kinds(choice(APART[case], (9, 9, 3))[1][0])))
    assert found == [["late"]]


def test_then_the_choice_is_the_part_as_well():
    def both(image):
        steps, fused = choice(APART["borders"], SHAPE)
        return [rendered(own, image) for own in steps], [rendered(own, image) for own in fused]

    alone, found = jax.jit(jax.vmap(both))(BYTES[:2])
    np.testing.assert_array_equal(found, alone)
    assert (alone[0] != alone[1]).mean() > 0.1


def test_moves_that_fit_are_chosen_from_as_matrices():
    parts = (
        augment.flip_lr(1.0),
        augment.random_crop(padding=2, mode="reflect"),
        augment.flip_ud(1.0),
    )
    steps = [
        part.lower(part.draw(jax.random.key(place), SHAPE), SHAPE)
        for place, part in enumerate(parts)
    ]
    (move,) = selected(jnp.int32(1), steps, SHAPE, "fused")
    np.testing.assert_array_equal(move.matrix, steps[1][0].matrix)
    assert (move.whole, move.reach, move.border) == (True, (2, 2), "reflect")


def test_parts_without_a_paint_share_a_way_so_that_the_choice_is_no_wider_than_it_must_be():
    calls = []

    def paint(image):
        calls.append(1)
        return image

    own = [(Paint(paint),), *(augment.invert().lower({}, SHAPE) for _ in range(5))]
    steps = selected(jnp.int32(0), own, SHAPE, "fused")
    text = str(
        jax.make_jaxpr(jax.vmap(lambda image, which: steps[-1].change(image), (0, None)))(
            BYTES, jnp.int32(0)
        )
    )
    assert len(calls) == 1
    assert "branches" in text


GATED = {
    "move": augment.rotate(30.0),
    "window": augment.random_crop(padding=2),
    "antialiased": augment.random_resized_crop(SHAPE[:2]),
    "waves": augment.elastic(2.0),
    "recolor": augment.brightness(0.5),
    "looking": augment.equalize(),
    "paint": augment.saturation(0.2),
    "late": augment.gaussian_blur(1.0, size=5),
}


FLOATS = ("antialiased", "recolor")


@pytest.mark.parametrize("case", GATED)
def test_a_step_that_is_left_out_changes_no_bit_and_one_that_happens_is_the_step(case):
    part = GATED[case]
    drawn = part.draw(jax.random.key(3), SHAPE)

    images = as_floats(BYTES[:6]) if case in FLOATS else BYTES[:6]

    def both(happens, image):
        gate = [gated(happens, step) for step in part.lower(drawn, SHAPE)]
        return rendered(gate, image), part.apply(drawn, image)

    happens = np.arange(6) % 2 == 1
    found, after = jax.jit(jax.vmap(both))(jnp.asarray(happens), images)
    np.testing.assert_array_equal(found[~happens], images[~happens])
    np.testing.assert_allclose(found[happens], after[happens], rtol=0, atol=1e-6)
    assert (np.asarray(after) != images).mean() > 0.3
