"""Convolution and its gradients, against `lax.conv_general_dilated` and its own, in float64."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export, lax

from fnn import nn
from fnn.nn.kernels.convolution import convolve, convolve_transpose

pytestmark = pytest.mark.slow

PLAIN = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
STRIDED = {"stride": (2, 3), "padding": ((3, 0), (1, 2)), "dilation": (2, 1), "groups": 1}
SOLID = {
    "stride": (2, 1, 2),
    "padding": ((1, 2), (0, 1), (1, 1)),
    "dilation": (2, 1, 1),
    "groups": 1,
}
CASES = {
    "plain": ((3, 5, 4, 2), (3, 3, 2, 3), PLAIN),
    "wide": ((2, 4, 6, 32), (3, 3, 32, 64), PLAIN | {"padding": ((0, 2), (2, 1))}),
    "strided": ((2, 7, 6, 2), (2, 3, 2, 3), STRIDED),
    "groups": ((2, 5, 4, 4), (2, 2, 2, 6), PLAIN | {"groups": 2}),
    "depthwise": ((2, 5, 6, 2), (2, 3, 1, 4), STRIDED | {"groups": 2}),
    "volume": ((2, 4, 3, 4, 2), (3, 2, 3, 2, 3), SOLID),
    "volume of groups": ((2, 4, 3, 3, 4), (2, 3, 2, 2, 6), SOLID | {"groups": 2}),
}
OTHERS = {
    "signal": (
        (2, 7, 4),
        (3, 2, 6),
        {"stride": (2,), "padding": ((1, 2),), "dilation": (2,), "groups": 2},
    ),
    "volume, depthwise": ((2, 4, 3, 3, 2), (3, 2, 2, 1, 4), SOLID | {"groups": 2}),
    "volume, batch of 0": ((0, 4, 3, 3, 2), (3, 2, 2, 2, 3), SOLID),
}
every_case = pytest.mark.parametrize("case", CASES)


def oracle(x, w, *, stride, padding, dilation, groups):
    axes = "DHW"[-len(stride) :]
    return lax.conv_general_dilated(
        x,
        w,
        stride,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        feature_group_count=groups,
    )


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def normal(seed, shape, dtype="float64"):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def both(case, lead=((), ())):
    """Our convolution and the oracle of one case, and operands with leading axes."""
    x, w, options = CASES[case]
    operands = normal(0, lead[0] + x), normal(1, lead[1] + w)
    return lambda x, w: convolve(x, w, **options), lambda x, w: oracle(x, w, **options), operands


def assert_close(ours, theirs, tolerance=1e-12):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        scale = max(1.0, np.abs(b).max(initial=0.0))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


def loss(conv):
    return lambda x, w: jnp.sin(conv(x, w)).sum()


def first_order(conv):
    """Value, both gradients and the derivative along a direction."""

    def evaluate(x, w):
        y, pull = jax.vjp(conv, x, w)
        return y, pull(jnp.cos(y)), jax.jvp(conv, (x, w), (jnp.sin(x), jnp.cos(w)))

    return evaluate


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def problems(draw):
    groups, inputs, outputs = draw(
        st.sampled_from([(1, 2, 3), (1, 1, 1), (2, 1, 2), (2, 2, 1), (3, 1, 1)])
    )
    kernel, dilation = draw(pairs), draw(pairs)
    padding = draw(st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * 2))
    image = [
        max(draw(st.integers(1, 7)), (k - 1) * d + 1 - sum(pad))
        for k, d, pad in zip(kernel, dilation, padding, strict=True)
    ]
    options = {"stride": draw(pairs), "padding": padding, "dilation": dilation, "groups": groups}
    return (2, *image, groups * inputs), (*kernel, inputs, groups * outputs), options


@settings(max_examples=10, deadline=None, derandomize=True)
@given(problems())
def test_value_and_derivatives_equal_xla(problem):
    x, w, options = problem
    with jax.enable_x64(True):
        operands = normal(0, x), normal(1, w)
        ours = jax.jit(first_order(lambda x, w: convolve(x, w, **options)))(*operands)
        theirs = jax.jit(first_order(lambda x, w: oracle(x, w, **options)))(*operands)
        assert_close(ours, theirs)


@pytest.mark.parametrize("case", OTHERS)
def test_signals_and_volumes(x64, case):
    x, w, options = OTHERS[case]
    operands = normal(0, x), normal(1, w)
    ours = jax.jit(first_order(lambda x, w: convolve(x, w, **options)))(*operands)
    assert_close(ours, jax.jit(first_order(lambda x, w: oracle(x, w, **options)))(*operands))


def exchange_channels(w, groups):
    """Turn a kernel from x to y into one from y to x, group by group."""
    exchanged = [group.swapaxes(-1, -2) for group in jnp.split(w, groups, -1)]
    return jnp.concatenate(exchanged, -1)


@pytest.mark.parametrize("case", ["strided", "groups", "depthwise", "volume of groups", "signal"])
def test_transpose_is_the_gradient_by_the_image(x64, case):
    x, w, options = (CASES | OTHERS)[case]
    operands = normal(0, x), normal(1, w)
    y, pull = jax.vjp(lambda x: oracle(x, operands[1], **options), operands[0])
    kernel = exchange_channels(operands[1], options["groups"])
    got = convolve_transpose(y, kernel, image=x[1:-1], **options)
    assert_close(got, pull(y)[0])


@pytest.mark.parametrize("channels", [2, 8, 32])
@pytest.mark.parametrize("batch", [0, 1, 37])
def test_every_batch_size(x64, batch, channels):
    """The kernel gradient sums tiles of the batch: none, one, or several, the last one smaller."""
    operands = normal(0, (batch, 8, 8, channels)), normal(1, (3, 3, channels, 32))
    ours = jax.jit(first_order(lambda x, w: convolve(x, w, **PLAIN)))(*operands)
    assert_close(ours, jax.jit(first_order(lambda x, w: oracle(x, w, **PLAIN)))(*operands))


def test_many_narrow_groups(x64):
    options = PLAIN | {"groups": 24}
    operands = normal(0, (2, 4, 4, 24)), normal(1, (3, 3, 1, 24))
    ours = jax.jit(first_order(lambda x, w: convolve(x, w, **options)))(*operands)
    assert_close(ours, jax.jit(first_order(lambda x, w: oracle(x, w, **options)))(*operands))


@pytest.mark.parametrize("case", ["plain", "depthwise"])
def test_eager_equals_jit(x64, case):
    ours, theirs, operands = both(case)
    assert_close(first_order(ours)(*operands), jax.jit(first_order(theirs))(*operands))


@pytest.mark.parametrize("case", ["strided"])
def test_gradient_equals_finite_differences(x64, case):
    ours, _, operands = both(case)
    direction, step = tuple(map(jnp.cos, operands)), 1e-6

    @jax.jit
    def value(t):
        moved = [a + t * d for a, d in zip(operands, direction, strict=True)]
        return loss(ours)(*moved)

    slope = (value(step) - value(-step)) / (2 * step)
    gradient = jax.jit(jax.grad(loss(ours), (0, 1)))(*operands)
    np.testing.assert_allclose(sum(map(jnp.vdot, gradient, direction)), slope, rtol=1e-7)


@pytest.mark.parametrize("case", ["strided", "depthwise"])
@pytest.mark.parametrize("order", [("jvp", "grad"), ("grad", "jvp", "grad")])
def test_higher_derivatives(x64, case, order):
    ours, theirs, operands = both(case)

    def derivative(f, mode):
        """The derivative of f along a fixed direction, again a function of x and w."""
        direction = tuple(map(jnp.cos, operands))
        if mode == "jvp":
            return lambda x, w: jax.jvp(f, (x, w), direction)[1]
        return lambda x, w: sum(map(jnp.vdot, jax.grad(f, (0, 1))(x, w), direction))

    def gradient(conv):
        f = loss(conv)
        for mode in reversed(order[:-1]):
            f = derivative(f, mode)
        return jax.grad(f, (0, 1)) if order[-1] == "grad" else derivative(f, "jvp")

    assert_close(jax.jit(gradient(ours))(*operands), jax.jit(gradient(theirs))(*operands))


@pytest.mark.parametrize("case", ["strided", "depthwise"])
def test_jacobians(x64, case):
    """`jacrev` batches the cotangent alone and `jacfwd` a tangent alone."""
    ours, theirs, operands = both(case)
    expected = jax.jit(jax.jacfwd(theirs, (0, 1)))(*operands)
    assert_close(jax.jit(jax.jacrev(ours, (0, 1)))(*operands), expected)
    assert_close(jax.jit(jax.jacfwd(ours, (0, 1)))(*operands), expected)


@every_case
@pytest.mark.parametrize("axes", [(4, None), (None, 2), (1, 3)])
def test_vmap_equals_a_loop(x64, case, axes):
    """Over either operand or both, of values and derivatives, from any axis."""
    ours, theirs, operands = both(case, [() if a is None else (2,) for a in axes])
    singles = [
        [a if axis is None else a[i] for a, axis in zip(operands, axes, strict=True)]
        for i in range(2)
    ]
    single = jax.jit(first_order(theirs))
    expected = jax.tree.map(lambda *a: jnp.stack(a), *(single(*s) for s in singles))
    moved = [
        a if axis is None else jnp.moveaxis(a, 0, axis)
        for a, axis in zip(operands, axes, strict=True)
    ]
    assert_close(jax.jit(jax.vmap(first_order(ours), axes))(*moved), expected)


NESTINGS = list(itertools.permutations([(0, 0), (0, None), (None, 0)], 2))


@pytest.mark.parametrize(
    ("case", "axes"), [*(("groups", a) for a in NESTINGS), ("plain", ((0, 0), (0, 0)))]
)
def test_nested_vmap_and_its_gradient(x64, case, axes):
    """Members within members, each level over either operand or both."""
    outer, inner = axes
    lead = [(2,) * (outer[i] is not None) + (3,) * (inner[i] is not None) for i in range(2)]
    ours, theirs, operands = both(case, lead)

    def gradient(conv):
        return jax.jit(jax.value_and_grad(loss(jax.vmap(jax.vmap(conv, inner), outer)), (0, 1)))

    assert_close(gradient(ours)(*operands), gradient(theirs)(*operands))


@pytest.mark.parametrize("case", ["strided", "groups"])
def test_second_derivatives_of_members(x64, case):
    ours, theirs, operands = both(case, ((2,), (2,)))

    def curvature(conv):
        gradient = jax.vmap(jax.grad(loss(conv), (0, 1)))
        return lambda *operands: jax.jvp(gradient, operands, tuple(map(jnp.cos, operands)))[1]

    assert_close(jax.jit(curvature(ours))(*operands), jax.jit(curvature(theirs))(*operands))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("case", ["plain", "depthwise"])
def test_half_precision(case, dtype):
    """The result has the dtype of the operands and is as close to float32 as it allows."""
    x, w, options = CASES[case]
    narrow = normal(0, x, dtype), normal(1, w, dtype)
    wide = [a.astype(jnp.float32) for a in narrow]
    value, pull = jax.vjp(jax.jit(lambda x, w: convolve(x, w, **options)), *narrow)
    ours = value, *pull(value)
    assert {a.dtype for a in ours} == {jnp.dtype(dtype)}
    expected, pull = jax.vjp(jax.jit(lambda x, w: oracle(x, w, **options)), *wide)
    expected = expected, *pull(value.astype(jnp.float32))
    assert_close([a.astype(jnp.float32) for a in ours], expected, 4 * float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize("split", ["batch", "members"])
def test_shard_map(x64, split):
    """The gradient of one kernel is summed over devices, those of a kernel a device are not."""
    P = jax.sharding.PartitionSpec
    lead = ((2,), () if split == "batch" else (2,))
    ours, theirs, operands = both("plain", lead)
    spec = P() if split == "batch" else P("devices")
    axes = (0, None if split == "batch" else 0)
    mesh = jax.sharding.Mesh(jax.devices()[:2], ("devices",))

    def gradient(conv):
        return jax.grad(loss(jax.vmap(conv, axes)), 1)

    sharded = jax.shard_map(
        gradient(ours), mesh=mesh, in_specs=(P("devices"), spec), out_specs=spec
    )
    assert_close(jax.jit(sharded)(*operands), jax.jit(gradient(theirs))(*operands))


def training_program(options, channels):
    """Compile a training scan of two layers, the second with the given options."""

    axes = len(options["stride"])
    first = {
        "stride": (1,) * axes,
        "padding": ((1, 1),) * axes,
        "dilation": (1,) * axes,
        "groups": 1,
    }

    def objective(kernels, x):
        hidden = jax.nn.relu(convolve(x, kernels[0], **first))
        return (convolve(hidden, kernels[1], **options) ** 2).mean()

    def step(kernels, x):
        gradients = jax.grad(objective)(kernels, x)
        return jax.tree.map(lambda a, b: a - 0.1 * b, kernels, gradients), None

    window = (3,) * axes
    kernels = [
        jnp.ones((*window, 3, channels)),
        jnp.ones((*window, channels // options["groups"], channels)),
    ]
    run = jax.jit(lambda kernels, images: lax.scan(step, kernels, images)[0])
    return run.lower(kernels, jnp.ones((4, 32, *[8] * axes, 3))).compile().as_text()


@pytest.mark.parametrize(
    "options",
    [PLAIN, STRIDED, PLAIN | {"groups": 2}, PLAIN | {"groups": 8}, SOLID],
    ids=["plain", "strided", "groups", "depthwise", "volume"],
)
def test_training_in_scan_stays_on_the_fast_path(options):
    """XLA:CPU has a fast convolution for one layout; others in a loop are slow, jax#12868."""
    text = training_program(options, channels=8)
    convolutions = [line for line in text.splitlines() if " convolution(" in line]
    assert convolutions
    for line in convolutions:
        assert re.search(r"dim_labels=(\S+?),? ", line + " ").group(1) == "b01f_01io->b01f", line
        for slow in ("lhs_dilate", "rhs_reversal", "feature_group_count", "batch_group"):
            assert slow not in line, line


# Size of the kernel, padding, stride, in-channels, out-channels, and the forms that are matrix
# products on CPU, not convolutions of XLA.
ALL = {"forward", "input_gradient", "kernel_gradient"}
PRODUCTS = {
    "few channels": (3, 1, 1, 3, 32, ALL),
    "many channels": (3, 1, 1, 32, 32, ALL),
    "a stride": (3, 1, 2, 16, 32, ALL),
    "a pixel": (1, 0, 1, 8, 8, ALL),
    "some channels": (3, 1, 1, 16, 32, set()),
    "few channels and a stride": (7, 3, 2, 3, 32, ALL),
    "some channels and a stride": (3, 1, 2, 8, 32, set()),
    "a kernel larger than its image": (9, 4, 1, 8, 8, ALL),
    "no padding": (5, 0, 1, 8, 8, {"input_gradient"}),
}


@pytest.mark.parametrize("case", PRODUCTS)
def test_each_case_has_its_fast_form_behind_a_fusion_barrier(case):
    size, pad, stride, inputs, outputs, products = PRODUCTS[case]
    x, w = jnp.ones((2, 8, 8, inputs)), jnp.ones((size, size, inputs, outputs))

    def conv(x, w):
        pads = ((pad, pad), (pad, pad))
        return convolve(x, w, stride=(stride, stride), padding=pads, dilation=(1, 1), groups=1)

    def input_gradient(y, w):
        return jax.linear_transpose(lambda x: conv(x, w), x)(y)

    def kernel_gradient(x, y):
        return jax.linear_transpose(lambda w: conv(x, w), w)(y)

    y = conv(x, w)
    forms = {
        "forward": (conv, (x, w)),
        "input_gradient": (input_gradient, (y, w)),
        "kernel_gradient": (kernel_gradient, (x, y)),
    }
    found = set()
    for name, (form, operands) in forms.items():
        text = jax.jit(form).lower(*operands).compile().as_text()
        assert " conditional(" in text  # the fusion barrier
        if " convolution(" not in text:
            found.add(name)
    assert found == products


@pytest.mark.parametrize("operands", ["single", "members"])
def test_other_platforms_use_the_convolutions_of_xla(operands):
    members = (2,) if operands == "members" else ()
    x, w = jnp.ones((*members, 2, 6, 6, 2)), jnp.ones((*members, 3, 3, 2, 4))

    def single(x, w):
        return convolve(x, w, **PLAIN | {"stride": (2, 2)})

    conv = jax.vmap(single) if members else single
    gradients = jax.jit(jax.grad(loss(conv), (0, 1))).trace(x, w)
    text = gradients.lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("stablehlo.convolution(") == 3
    assert "lhs_dilate = [2, 2]" in text


EXPORTED = {
    "mlp": (nn.chain(nn.flatten(), nn.dense(4), nn.relu(), nn.dense(2)), (6, 6, 1)),
    # One convolution for each of the forms that are fast on CPU.
    "cnn": (
        nn.chain(
            nn.conv(32),
            nn.batch_norm(),
            nn.relu(),
            nn.max_pool(),
            nn.conv(32),
            nn.conv(8, 1),
            nn.depthwise_conv(),
            nn.conv(8, groups=2),
            nn.conv(16, 5, stride=2),
            nn.conv_transpose(4, stride=2),
            nn.upsample(size=5, method="bicubic"),
            nn.adaptive_max_pool(2),
            nn.flatten(),
            nn.dense(3),
        ),
        (8, 8, 3),
    ),
    "resnet": (nn.resnet_cifar(8, classes=3, width=2), (8, 8, 3)),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_a_program_of_any_batch_is_exported_and_equals_the_network(name, key):
    network, shape = EXPORTED[name]
    params, state = jax.jit(lambda key: network.init(key, shape)[:2])(key)

    @jax.jit
    def loss_and_gradient(x):
        def apply(x):
            y, _ = network.apply(params, state, x)
            return y

        y, pull = jax.vjp(apply, x)
        return y, pull(jnp.ones_like(y))[0]

    (batch,) = export.symbolic_shape("batch")
    of_any_batch = jax.ShapeDtypeStruct((batch, *shape), jnp.float32)
    exported = export.export(loss_and_gradient, platforms=["cpu", "cuda"])(of_any_batch)
    x = jnp.float32(np.random.default_rng(0).normal(size=(3, *shape)))
    for got, wanted in zip(exported.call(x), loss_and_gradient(x), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5)
