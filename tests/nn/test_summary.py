"""Summaries are compared with counts by hand, and their sums with the params of init."""

import jax
import jax.numpy as jnp
import pytest

from fnn import nn
from fnn.errors import ConfigError, ShapeError
from fnn.types import Layer


def by_path(network, shape, **options):
    return {row.path: row for row in nn.summary(network, shape, **options).rows}


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


convolutional = nn.chain(
    nn.conv(8), nn.batch_norm(), nn.relu(), nn.max_pool(), nn.flatten(), head=nn.dense(10)
)


def test_every_layer_has_a_row_with_its_figures():
    rows = by_path(convolutional, (8, 6, 3))
    assert list(rows) == ["conv_0", "batch_norm_1", "relu_2", "max_pool_3", "flatten_4", "head"]
    assert [row.layer for row in rows.values()] == [
        "conv",
        "batch_norm",
        "relu",
        "max_pool",
        "flatten",
        "dense",
    ]
    assert rows["conv_0"][2:] == (
        (8, 6, 8),
        27 * 8 + 8,
        27 * 8 + 8,
        2 * 48 * 27 * 8 + 48 * 8,
        4 * (27 * 8 + 8),
    )
    assert rows["relu_2"][2:] == ((8, 6, 8), 0, 0, 48 * 8, 0)
    assert rows["flatten_4"][2:] == ((4 * 3 * 8,), 0, 0, 0, 0)
    assert rows["head"][2:] == ((10,), 970, 970, 2 * 96 * 10 + 10, 4 * 970)


def test_the_sums_equal_those_of_rows_and_params(key):
    whole = nn.summary(convolutional, (8, 6, 3))
    params, _, _ = convolutional.init(key, (8, 6, 3))
    assert whole.total.parameters == whole.total.trained == size(params)
    assert whole.total.bytes == 4 * size(params)
    assert whole.total.flops == sum(row.flops for row in whole.rows)


def test_the_arithmetic_of_combinators_has_a_row():
    rows = by_path(nn.residual(nn.chain(nn.dense(4), nn.tanh())), (4,))
    assert list(rows) == ["body/dense_0", "body/tanh_1", "(between)"]
    assert rows["(between)"][2:] == (None, 0, 0, 4, 0)


def test_a_repeated_layer_counts_for_each_repetition(key):
    network = nn.repeat(nn.residual(nn.chain(nn.dense(4), nn.relu())), 5)
    rows = by_path(network, (4,))
    assert rows["body/body/dense_0"][2:] == ((4,), 5 * 20, 5 * 20, 5 * (2 * 16 + 4), 5 * 80)
    assert rows["body/body/relu_1"].flops == 5 * 4 <= rows["(between)"].flops
    assert nn.summary(network, (4,)).total.parameters == size(network.init(key, (4,))[0])


def test_a_network_without_layers_has_a_summary():
    whole = nn.summary(nn.chain(), (5,))
    assert (len(whole.rows), whole.total[3:]) == (1, (0, 0, 0, 0))
    assert type(whole)(()).total[3:] == (0, 0, 0, 0)
    assert "total" in repr(whole) and "total" in whole._repr_html_()


def test_every_member_of_an_ensemble_counts():
    row = by_path(nn.ensemble(nn.dense(3), 7), (4,))["body"]
    assert (row.parameters, row.flops) == (7 * 15, 7 * (2 * 12 + 3))


def test_a_shared_layer_has_its_params_once_and_runs_twice(key):
    network = nn.shared(nn.dense(4), lambda tied: nn.chain(tied, nn.tanh(), tied))
    row = by_path(network, (4,))["shared"]
    assert (row.parameters, row.flops) == (20, 2 * (2 * 16 + 4))
    assert nn.summary(network, (4,)).total.parameters == size(network.init(key, (4,))[0])


FROZEN = {
    "a part": (
        nn.chain(stem=nn.freeze(nn.chain(nn.dense(4), nn.dense(4))), head=nn.dense(2)),
        [0, 0, 10],
        50,
    ),
    "biases": (
        nn.freeze(nn.chain(nn.dense(4), stem=nn.dense(4), head=nn.dense(2)), "*/bias"),
        [16, 16, 8],
        50,
    ),
    "a layer": (
        nn.chain(frozen=nn.chain(nn.dense(4), nn.batch_norm()), head=nn.freeze(nn.dense(2))),
        [20, 8, 0],
        38,
    ),
    "in a loop": (
        nn.repeat(nn.freeze(nn.chain(nn.dense(4), nn.batch_norm()), "dense_0"), 3),
        [0, 24],
        84,
    ),
}


@pytest.mark.parametrize("case", FROZEN)
def test_frozen_params_count_but_not_as_trained(case, key):
    network, trained, parameters = FROZEN[case]
    whole = nn.summary(network, (4,))
    assert [row.trained for row in whole.rows if row.layer] == trained
    assert whole.total.trained == size(network.init(key, (4,))[0])
    assert whole.total.parameters == parameters


def test_params_outside_of_layers_have_a_row():
    """A combinator made by hand may have arrays in addition to its parts."""
    inner = nn.chain(nn.dense(4))

    def init(key, shape):
        params, state, shape = inner.init(key, shape)
        return params | {"gain": jnp.ones(3)}, state, shape

    def with_parts(parts):
        changed = inner.with_parts(parts)

        def apply(params, state, x, *, key=None, train=False):
            return changed.apply({"dense_0": params["dense_0"]}, state, x, key=key, train=train)

        return Layer(init, apply, inner.name, inner.parts, with_parts)

    rows = by_path(Layer(init, inner.apply, inner.name, inner.parts, with_parts), (4,))
    assert list(rows) == ["dense_0", "gain"]
    assert rows["gain"][1:] == ("", None, 3, 3, 0, 12)


def test_a_single_layer_pairs_and_integers_are_summarized():
    assert by_path(nn.dense(3), (4,))[""][1:] == ("dense", (3,), 15, 15, 27, 60)
    assert by_path(nn.chain(nn.add()), ((4,), (4,)))["add_0"].output == (4,)
    rows = by_path(nn.switch(nn.dense(2), nn.dense(2)), ((), (4,)), dtype=(jnp.int32, jnp.float32))
    assert rows["dense_0"].output == (2,)


def test_nothing_is_computed_or_allocated():
    huge = nn.chain(nn.dense(2**20), nn.dense(2**20))
    assert nn.summary(huge, (2**20,)).total.parameters == 2 * (2**40 + 2**20)


def test_the_text_is_an_aligned_table():
    lines = str(nn.summary(convolutional, (8, 6, 3))).splitlines()
    assert lines[0].split() == [
        "path",
        "layer",
        "output",
        "parameters",
        "trained",
        "FLOPs",
        "bytes",
    ]
    assert lines[2].split() == ["conv_0", "conv", "(8,", "6,", "8)", "224", "224", "21,120", "896"]
    assert lines[-1].split()[:3] == ["total", "1,210", "1,210"]
    assert {len(line) for line in lines} == {len(lines[0])}


def test_the_text_is_at_most_120_characters_wide():
    deep = nn.dense(10**6)
    for level in range(30):
        deep = nn.chain(**{f"level_{level}": deep})
    lines = str(nn.summary(deep, (10**6,))).splitlines()
    assert max(map(len, lines)) == 120
    assert lines[2].startswith("…") and "level_1/level_0  dense" in lines[2]


def test_the_html_is_a_table_with_escaped_names():
    network = nn.chain(**{"<b>bold & brave": nn.dense(3)})
    page = nn.summary(network, (4,))._repr_html_()
    assert page.startswith("<table>") and page.count("<tr>") == 3
    assert "<td>&lt;b&gt;bold &amp; brave</td><td>dense</td><td>(3,)</td><td>15</td>" in page
    assert "<b>" not in page


@pytest.mark.parametrize("shape", [4, (4.0,), jnp.ones(3), ((4,), 4)])
def test_an_invalid_shape_raises(shape):
    with pytest.raises(
        ShapeError, match="summary shape: expected whole numbers, without the batch axis"
    ):
        nn.summary(nn.dense(3), shape)


def test_an_invalid_layer_raises():
    with pytest.raises(ConfigError, match="summary network: expected a Layer"):
        nn.summary(nn.dense, (4,))


def test_an_error_names_the_path_of_the_layer():
    with pytest.raises(ShapeError) as caught:
        nn.summary(nn.chain(nn.flatten(), stem=nn.conv(3)), (4, 4, 1))
    assert caught.value.__notes__[0] == "in layer stem: shape (16,)"


def test_a_network_without_layers_has_sums_of_0():
    summary = nn.summary(nn.chain(), (5,))
    assert len(summary.rows) == 1
    assert summary.total == ("total", "", None, 0, 0, 0, 0)
    assert "total" in repr(summary) and "total" in summary._repr_html_()
