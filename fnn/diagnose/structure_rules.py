"""Rules on the structure of a network: they read it and compute nothing."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fnn import checks, trees
from fnn.diagnose.findings import WARNING, Finding, Rule
from fnn.nn.core.composite import parts
from fnn.types import Layer
from fnn.values import Made

# Layers that are linear in their input, in inference at least.
AFFINE = frozenset({"dense", "conv", "conv_1d", "conv_3d", "separable_conv"})
PASSING = frozenset(
    {"dropout", "channel_dropout", "drop_path", "flatten", "reshape", "transpose", "batch_norm"}
)
DROPOUTS = frozenset({"dropout", "channel_dropout"})
# Activations whose outputs are bounded, by the interval, and those that cut off a side.
BOUNDED = {
    "softmax": (0.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "relu6": (0.0, 6.0),
    "relu": (0.0, float("inf")),
    "softplus": (0.0, float("inf")),
}
NORMS = frozenset({"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"})
HIGH_RATE = 0.5  # of dropout
SHIFT_RATE = 0.2  # of dropout from which on the variance of features after relu shifts by a third

MISSING = Rule(
    "P07",
    "missing_nonlinearity",
    "UMLAUT [Schoop et al. 2021]",
    ("an activation was left out",),
    ("add an activation between them", "merge the two layers: their product is one linear map"),
    "train with an activation between them",
)
SHIFTED = Rule(
    "P16",
    "dropout_before_batch_norm",
    "Li et al. 2018, arXiv:1801.05134, variance shift",
    ("dropout is upstream of batch norm",),
    ("put dropout after the last batch norm", "lower the rate, or leave dropout out"),
    "evaluate with statistics of passes without dropout: the loss must fall",
)
HIGH = Rule(
    "P17",
    "high_drop_rate",
    "UMLAUT [Schoop et al. 2021]",
    ("the rate is that of keeping a number", "the rate was raised against overfitting"),
    ("use a rate from 0.1 to 0.5",),
    "train with half of the rate",
)


class Leaf(NamedTuple):
    """A layer in a sequence.

    Attributes:
        path: Path of its params, such as "body/conv_0".
        kind: Name of its maker, such as "conv".
        options: Arguments of its maker by name, as far as they were given.
    """

    path: str
    kind: str
    options: Mapping[str, Any]


def sequences(network: Layer, path: str = "") -> list[list[Leaf]]:
    """Return the sequences of layers of a network, in the order of the forward pass.

    A chain inside of a chain belongs to the same sequence. Any other combinator is one layer of
    it, and its parts have sequences of their own. The first sequence is that of the network.

    Args:
        network: The network.
        path: Path of the network, "" at the root.
    """
    own: list[Leaf] = []
    inner: list[list[Leaf]] = []
    _collect(network, path, own, inner)
    return [own, *inner]


def _collect(
    layer: Layer,
    path: str,
    own: list[Leaf],
    inner: list[list[Leaf]],
) -> None:
    kind, options = describe(layer)
    found = parts(layer) if kind == "chain" else {}
    if kind == "chain":
        for name, part in found.items():
            _collect(part, _join(path, name), own, inner)
        return
    own.append(Leaf(path, kind, options))
    for name, part in parts(layer).items():
        inner += sequences(part, _join(path, name))


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def describe(layer: Layer) -> tuple[str, dict[str, Any]]:
    """Return the innermost name of a layer, and the arguments of all its makers.

    A maker of a user may return an `nn.chain`: then the layer is a chain.
    """
    name = ""
    options: dict[str, Any] = {}
    inner: Any = layer
    while isinstance(inner, Made):
        name = inner.maker.__name__
        options |= inner.arguments
        inner = inner.built
    return inner.name or name, options


def structure_findings(network: Layer, params: Any) -> Iterator[Finding]:
    """Find missing nonlinearities and strong dropout.

    Args:
        network: The network.
        params: Its parameters; shapes are enough.
    """
    kernels = _kernels(params)
    for sequence in sequences(network):
        yield from _missing_findings(sequence, kernels)
        yield from _rate_findings(sequence)


def _kernels(params: Any) -> dict[str, Any]:
    """Return the shapes of kernels by the path of their layer."""
    found = {}
    for path, leaf in trees.named_leaves(params).items():
        layer_path, _, name = path.rpartition("/")
        if name == "kernel":
            found[layer_path] = leaf.shape
    return found


def _missing_findings(sequence: list[Leaf], kernels: Mapping[str, Any]) -> Iterator[Finding]:
    # The last affine layer, as long as nothing nonlinear follows it.
    before: Leaf | None = None
    for leaf in sequence:
        if leaf.kind in AFFINE:
            if before is not None and not _is_bottleneck(before, leaf, kernels):
                title = f"{before.path} and {leaf.path} have no nonlinearity between them"
                measured = {"layers": [before.path, leaf.path]}
                yield MISSING.finding(
                    WARNING,
                    title,
                    measured,
                    "two successive linear layers",
                    layer=leaf.path,
                )
            before = leaf
        elif leaf.kind not in PASSING:
            before = None


def _is_bottleneck(first: Leaf, second: Leaf, kernels: Mapping[str, Any]) -> bool:
    """Return whether the features between two layers are fewer than before and after.

    Their product then has a low rank on purpose, as in the linear bottlenecks of MobileNet.
    """
    if first.path not in kernels or second.path not in kernels:
        return True
    # Kernels are (..., inputs, outputs).
    before, between = kernels[first.path][-2:]
    after = kernels[second.path][-1]
    return bool(between < before and between < after)


def dropout_findings(network: Layer) -> Iterator[Finding]:
    """Find dropout before batch norm by its rate; `variance_findings` measures its effect.

    Args:
        network: The network.
    """
    pairs = [pair for sequence in sequences(network) for pair in misplaced(sequence)]
    for dropout, norm in pairs:
        rate = drop_rate(dropout)
        if rate is None or rate < SHIFT_RATE:
            continue
        yield SHIFTED.finding(
            WARNING,
            f"{dropout.path} with rate {rate:g} is before {norm.path}, whose variance it shifts",
            {"drop_rate": rate},
            f"rate >= {SHIFT_RATE} before a batch norm",
            layer=norm.path,
        )


def misplaced(sequence: list[Leaf]) -> Iterator[tuple[Leaf, Leaf]]:
    """Yield pairs of a dropout and the first batch norm after it in a sequence."""
    dropout: Leaf | None = None
    for leaf in sequence:
        if leaf.kind in DROPOUTS and dropout is None:
            dropout = leaf
        elif leaf.kind in NORMS:
            if leaf.kind == "batch_norm" and dropout is not None:
                yield dropout, leaf
            # A norm of each example has the same statistics in training and in inference.
            dropout = None


def _rate_findings(sequence: list[Leaf]) -> Iterator[Finding]:
    for leaf in sequence:
        rate = drop_rate(leaf)
        if leaf.kind not in DROPOUTS or rate is None or rate <= HIGH_RATE:
            continue
        yield HIGH.finding(
            WARNING,
            f"{leaf.path} drops {rate:.0%} of the numbers",
            {"drop_rate": rate},
            f"rate > {HIGH_RATE}",
            layer=leaf.path,
        )


def drop_rate(leaf: Leaf) -> float | None:
    """Return the rate of a dropout layer; None for other layers and traced numbers."""
    rate = leaf.options.get("drop_rate")
    if rate is None or not checks.is_concrete(rate):
        return None
    return float(rate)


def last_activation(network: Layer) -> Leaf | None:
    """Return the last layer of a network if it is an activation with bounds."""
    sequence = [leaf for leaf in sequences(network)[0] if leaf.kind not in PASSING]
    last = sequence[-1] if sequence else None
    is_bounded = last is not None and (last.kind in BOUNDED or last.kind == "log_softmax")
    return last if is_bounded else None
