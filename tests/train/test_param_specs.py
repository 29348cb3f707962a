"""Rules that divide parameters: the axes that they choose, and the mistakes that they find."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from fnn import nn, train
from fnn.errors import ConfigError
from fnn.train.param_specs import as_rules, entries_of, param_specs, spec_of, tree_specs

AXES = (("data", 4), ("model", 2))


def shaped(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def specs(params, *, fsdp=False, rules=None, axes=AXES):
    found = param_specs(axes, "data", fsdp, as_rules("rules", dict(axes), rules), params)
    return {path: spec_of(entries) for path, entries in found.items()}


def test_fsdp_divides_the_largest_of_the_last_two_axes_that_can_be_divided():
    params = {
        "kernel": shaped(16, 8),
        "wide": shaped(8, 16),
        "square": shaped(8, 8),
        "odd": shaped(8, 9),
        "stack": shaped(64, 8, 16),
        "scale": shaped(8),
        "three": shaped(3, 3),
    }
    assert specs(params, fsdp=True) == {
        "kernel": P("data"),
        "wide": P(None, "data"),
        "square": P(None, "data"),
        "odd": P("data"),
        "stack": P(None, None, "data"),
        "scale": P("data"),
    }


def test_rules_are_aligned_at_the_last_axis():
    params = {"up": {"kernel": shaped(3, 8, 16), "bias": shaped(3, 16)}, "norm": shaped(8)}
    assert specs(params, rules={"up": P("model")}) == {
        "up/kernel": P(None, None, "model"),
        "up/bias": P(None, "model"),
    }


def test_fsdp_divides_further_where_a_rule_divides_already():
    params = {"kernel": shaped(4, 16), "bias": shaped(16)}
    found = specs(params, fsdp=True, rules={"*": P("model")})
    assert found == {"kernel": P(None, ("model", "data")), "bias": P(("model", "data"))}


def test_a_train_state_is_divided_as_its_parameters():
    """Moments, stacked snapshots and the best params; other slots are copied."""
    params = {"dense": {"kernel": shaped(8, 4)}}
    tree = {
        "params": params,
        "mean": params,
        "snapshots": {"dense": {"kernel": shaped(5, 8, 4)}},
        "rows": {"dense": {"kernel": shaped(8)}},
        "count": shaped(),
    }
    divided = param_specs((("data", 4),), "data", True, (), params)
    found = dict(zip(sorted(tree), tree_specs(divided, params, tree), strict=True))
    assert found == {
        "count": P(),
        "mean": P("data"),
        "params": P("data"),
        "rows": P(),
        "snapshots": P(None, "data"),
    }


@pytest.mark.parametrize(
    ("network", "shape", "tables"),
    [
        (nn.gpt(32, length=4, width=8, depth=2, heads=2), (4,), ("shared",)),
        (nn.vit(4, 10, size=8, width=8, depth=2, heads=2), (8, 8, 3), ()),
    ],
)
def test_the_rules_of_transformers_divide_each_block(network, shape, tables):
    params, _ = jax.eval_shape(lambda key: network.init(key, shape)[:2], jax.random.key(0))
    found = specs(params, rules=train.transformer_rules("model", tables=tables))
    last = {
        path.split("body/blocks/body/")[-1].split("blocks/body/")[-1]: s
        for path, s in found.items()
    }
    columns = {
        f"attention/{name}/kernel": P(None, None, "model") for name in ("query", "key", "value")
    }
    biases = {f"attention/{name}/bias": P(None, "model") for name in ("query", "key", "value")}
    mlp = {"mlp/up/kernel": P(None, None, "model"), "mlp/up/bias": P(None, "model")}
    rows = {"attention/output/kernel": P(None, "model"), "mlp/down/kernel": P(None, "model")}
    embeddings = {"shared/table": P("model")} if tables else {}
    assert last == columns | biases | mlp | rows | embeddings


def test_entries_and_specs_are_inverse():
    spec = P(None, "model", ("data", "other"))
    assert entries_of(spec) == ((), ("model",), ("data", "other"))
    assert spec_of(entries_of(spec, 4)) == P(None, None, "model", ("data", "other"))
    assert spec_of(((), ())) == P()


KERNEL = {"dense": {"kernel": shaped(6, 10), "bias": shaped(10)}}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("fsdp", "rules: expected a dict of PartitionSpec, got 'fsdp'"),
        (
            {"*kernel": "model"},
            r"rules: expected PartitionSpecs by pattern of paths, got '\*kernel'",
        ),
        ({"*kernel": P("modle")}, r"rules '\*kernel': expected axes among data, model, got modle"),
        ({"*kernel": P("model", "model")}, "expected each axis of the mesh once"),
        ({"*kernl": P("model")}, r"layout rules: expected a path among .*, got '\*kernl'"),
        (
            {"*": P("model", None)},
            r"layout rules dense/bias: expected a spec of at most 1 axes, those of \(10,\)",
        ),
        (
            {"*kernel": P("data", None)},
            r"layout rules dense/kernel \(6, 10\): expected a multiple of the 4 devices of the "
            "mesh axis data, got 6; use a layer of 4 or 8, or leave it out of the rules",
        ),
        (
            {"*kernel": P(None, ("data", "model"))},
            "a multiple of the 8 devices of the mesh axis data, model, got 10; use a layer of 8 or",
        ),
        (
            {"dense": P("model"), "*kernel": P("model", None)},
            "layout rules: expected one division of dense/kernel, got .* by 'dense' and .* by",
        ),
    ],
)
def test_rules_that_do_not_fit_raise(rules, message):
    with pytest.raises(ConfigError, match=message):
        specs(KERNEL, rules=rules)


def test_fsdp_without_a_parameter_that_can_be_divided_raises():
    with pytest.raises(ConfigError, match="an axis that is a multiple of the 4 devices, got odd"):
        specs({"odd": shaped(3, 5)}, fsdp=True)
