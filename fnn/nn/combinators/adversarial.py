"""Two networks that are trained against each other, as one network."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import ShapeError, inside
from fnn.nn.core.composite import drop_empty, expect_layer, expect_names
from fnn.types import Layer, Params, Shape, State
from fnn.values import maker

GENERATOR = "generator"
CRITIC = "critic"


@maker
def adversarial(
    generator: Layer,
    critic: Layer,
    *,
    noise: int | Sequence[int],
    slopes: bool = False,
) -> Layer:
    """Generator and critic of a GAN as one network [Goodfellow et al. 2014, arXiv:1406.2661].

    The input is a batch of real examples x. With z ~ N(0, 1), G(z) from the generator and D from
    the critic, the output is a dict of scores:

        real = D(x), fake = D(sg(G(z))), fool = D_sg(G(z)),

    where sg stops the gradient, and D_sg is D with its params stopped. A sum of losses of these,
    such as `objective.adversarial`, therefore gives the critic the gradient of its loss on real and
    fake, and the generator that on fool. So one recipe trains both at once, and `train.run`,
    `lab.fit`, checkpoints and history work as for any network. Each gets an optimizer of its own
    from `optim.partition({"critic": ...}, ...)`; `optim.accumulate` around that of the
    generator trains the critic for several steps per step of the generator.

    Afterwards, `nn.take(network, "generator")` with params["generator"] draws examples. Without a
    key, as in evaluation, z is that of key 0.

    Args:
        generator: Network of z, (batch, *noise), to examples of the shape of x.
        critic: Network of examples to scores, such as (batch, 1). Its state is updated on x, then
            on G(z).
        noise: Shape of the noise of an example, or its size.
        slopes: Whether the output has "slope" as well: the norm of D's gradient by its input at
            random points between x and G(z), (batch,), for a gradient penalty [Gulrajani et al.
            2017, arXiv:1704.00028]. It needs a critic whose examples do not affect each other, so
            without batch norm.

    Raises:
        ConfigError: A part is not a layer, or `noise` is not a shape.
        ShapeError: The generator's examples do not have the shape of x.
    """
    expect_layer("adversarial generator", generator)
    expect_layer("adversarial critic", critic)
    sizes = (noise,) if isinstance(noise, int) else tuple(noise)
    noise_shape = tuple(checks.whole("adversarial noise", size) for size in sizes)
    checks.flag("adversarial slopes", slopes)

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Any]:
        checks.key("key", key)
        with inside(GENERATOR, shape=noise_shape):
            g_params, g_state, made = generator.init(jax.random.fold_in(key, 0), noise_shape)
        if made != tuple(shape):
            raise ShapeError(
                "adversarial generator",
                f"examples of shape {tuple(shape)}, as the real ones",
                made,
                "change its last layer, or reshape",
            )
        with inside(CRITIC, shape=shape):
            c_params, c_state, score = critic.init(jax.random.fold_in(key, 1), shape)
        out_shape = {"real": score, "fake": score, "fool": score}
        if slopes:
            out_shape["slope"] = ()
        params = drop_empty({GENERATOR: g_params, CRITIC: c_params})
        state = drop_empty({GENERATOR: g_state, CRITIC: c_state})
        return params, state, out_shape

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ) -> tuple[dict[str, jax.Array], State]:
        expect_names("adversarial", (GENERATOR, CRITIC), params, state)
        draws = jax.random.key(0) if key is None else key
        g_key, real_key, fake_key, fool_key, z_key, mix_key = jax.random.split(draws, 6)
        with inside(GENERATOR, x=checks.describe(x)):
            z = jax.random.normal(z_key, (x.shape[0], *noise_shape), x.dtype)
            made, g_state = generator.apply(
                params.get(GENERATOR, {}),
                state.get(GENERATOR, {}),
                z,
                key=None if key is None else g_key,
                train=train,
            )
        c_state = state.get(CRITIC, {})
        c_params = params.get(CRITIC, {})
        stopped = jax.lax.stop_gradient(c_params)

        def score(c_params: Params, c_state: State, x: jax.Array, part_key: jax.Array) -> Any:
            with inside(CRITIC, x=checks.describe(x)):
                noise_key = None if key is None else part_key
                return critic.apply(c_params, c_state, x, key=noise_key, train=train)

        real, c_state = score(c_params, c_state, x, real_key)
        fake, c_state = score(c_params, c_state, jax.lax.stop_gradient(made), fake_key)
        # The same examples again: the state has counted them.
        fool, _ = score(stopped, c_state, made, fool_key)
        outputs = {"real": real, "fake": fake, "fool": fool}
        if slopes:
            # (batch, 1, ...): one point on the line between each pair
            ratio = jax.random.uniform(mix_key, (x.shape[0], *[1] * (x.ndim - 1)), x.dtype)
            mixed = jax.lax.stop_gradient(ratio * x + (1 - ratio) * made)

            def total(mixed: jax.Array) -> jax.Array:
                return score(c_params, c_state, mixed, fool_key)[0].sum()

            slope = jax.grad(total)(mixed)
            squares = jnp.square(slope).reshape(x.shape[0], -1).sum(-1)
            # The gradient of a root is infinite at 0.
            is_zero = squares == 0
            outputs["slope"] = jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, squares)))
        return outputs, drop_empty({GENERATOR: g_state, CRITIC: c_state})

    def with_parts(parts: Mapping[str, Any]) -> Layer:
        return adversarial(parts[GENERATOR], parts[CRITIC], noise=noise, slopes=slopes)

    parts = {GENERATOR: generator, CRITIC: critic}
    return Layer(init, apply, "adversarial", parts, with_parts, by_name=True)
