"""The registry of public functions: for each, an example call and how the laws try it.

A new maker gets one entry here. `makers.py` walks over the entries. The laws over all of them are
in `test_laws.py`, `values/test_values.py`, `test_gradients.py`, `test_mistakes.py` and the tests of
optimizers.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from domains import (
    BATCH,
    CHOSEN,
    IMAGES,
    MASKED,
    PAIRS,
    POOLED,
    READINGS,
    SEQUENCES,
    SEVERAL,
    TOKENS,
    TWO,
    VECTORS,
    VOLUMES,
    Domain,
    apart,
    away,
    sized,
    smooth,
    spread,
)

from fnn import augment, nn, objective, optim

# Two values to try for a number of this name. Other numbers are tried at 0.1 and 0.3.
VALUES: dict[str, tuple[float, float]] = {
    "bits": (1.0, 3.0),
    "decay_steps": (3.0, 5.0),
    "degrees": (10.0, 40.0),
    "eps": (1e-08, 0.001),
    "exponent": (1.5, 3.0),
    "factor": (0.5, 0.8),
    "floor": (0.01, 0.03),
    "growth": (1.2, 2.0),
    "magnitude": (5.0, 25.0),
    "min_variance": (2.0, 3.0),
    "probability": (0.0, 1.0),
    "quality": (10.0, 60.0),
    "size": (2.0, 3.0),
    "start": (0.02, 0.05),
    "steps": (9.0, 12.0),
    "threshold": (0.2, 0.7),
    "warmup_steps": (2.0, 4.0),
}
ADAM = {"b1": 0.8, "b2": 0.9, "eps": 1e-3}
DECAY = {"weight_decay": 0.05}


class Entry(NamedTuple):
    """How a public function is tried.

    Attributes:
        call: Keyword arguments of the example call.
        parts: Positional arguments of the example, of makers that take any number of parts.
        maker: Whether the function is a maker. Other functions act on arrays; no law tries them.
        network: Whether it is a whole network. The laws try its layers one by one and only trace
            the whole, which takes long to compile.
        domain: The inputs of a layer.
        batch: (draw) -> (outputs, targets), for a loss.
        values: Two values to try for a number, by its name.
        smooth: Whether the result depends smoothly on every number, so that slopes are not 0.
        no_slope: Numbers whose slope is 0 all the same.
        no_effect: Numbers that change nothing in this example.
        seed: Of the key of the example.
        paper: For an optimizer with a formula in `papers.py`, numbers other than its defaults.
    """

    call: Mapping[str, Any] = {}
    parts: tuple[Any, ...] = ()
    maker: bool = True
    network: bool = False
    domain: Domain = IMAGES
    batch: Callable[[np.random.Generator], tuple[Any, Any]] | None = None
    values: Mapping[str, tuple[float, float]] = {}
    smooth: bool = True
    no_slope: tuple[str, ...] = ()
    no_effect: tuple[str, ...] = ()
    seed: int = 3
    paper: Mapping[str, float] | None = None


def tenth_of_square(y: Any) -> jax.Array:
    return 0.1 * jnp.square(y).sum()


def twice(shared: Any) -> Any:
    return nn.chain(shared, nn.tanh(), shared)


REGISTRY: dict[str, Entry] = {
    # nn: dropout and attention draw by drop_rate, so that they have no slope by it.
    "nn.activity_regularizer": Entry(
        {"layer": nn.dense(3), "penalty": tenth_of_square}, domain=VECTORS
    ),
    "nn.adaptive_avg_pool": Entry({"size": 3}),
    "nn.adaptive_avg_pool_1d": Entry({"size": 2}, domain=SEQUENCES),
    "nn.adaptive_avg_pool_3d": Entry({"size": 2}, domain=VOLUMES),
    "nn.adaptive_max_pool": Entry({"size": 3}, domain=IMAGES._replace(values=apart)),
    "nn.adaptive_max_pool_1d": Entry({"size": 2}, domain=SEQUENCES._replace(values=apart)),
    "nn.adaptive_max_pool_3d": Entry({"size": 2}, domain=VOLUMES._replace(values=apart)),
    "nn.add": Entry(domain=SEVERAL),
    # Its gradients are those of two losses, so that finite differences of one number differ.
    "nn.adversarial": Entry(
        {
            "generator": nn.chain(nn.dense(8), nn.relu(), nn.dense(4)),
            "critic": nn.chain(nn.dense(8), nn.relu(), nn.dense(1)),
            "noise": 3,
        },
        network=True,
        domain=VECTORS._replace(shape=lambda draw: (4,)),
    ),
    "nn.attention": Entry({"heads": 2, "rotary": True}, domain=MASKED, smooth=False),
    "nn.avg_pool": Entry(),
    "nn.avg_pool_1d": Entry(domain=SEQUENCES),
    "nn.avg_pool_3d": Entry(domain=VOLUMES),
    "nn.batch_ensemble": Entry({"network": nn.dense(3), "n": 2, "join": "mean"}, domain=VECTORS),
    "nn.batch_norm": Entry(values={"eps": (0.1, 0.3)}),
    "nn.cast": Entry({"layer": nn.dense(3), "dtype": float}, domain=VECTORS),
    "nn.chain": Entry({"body": nn.dense(4), "head": nn.tanh()}, domain=VECTORS),
    "nn.channel_dropout": Entry({"drop_rate": 0.2}, smooth=False),
    "nn.cifar_speedrun": Entry(
        {"images": sized(9).draw(0)[1], "classes": 2, "widths": (3,)}, network=True, domain=sized(9)
    ),
    "nn.concat": Entry(domain=SEVERAL),
    "nn.constant": Entry({"value": 0.1}),
    "nn.conv": Entry({"channels": 3}),
    "nn.conv_1d": Entry({"channels": 4, "groups": 2}, domain=SEQUENCES),
    "nn.conv_3d": Entry({"channels": 3, "stride": 2}, domain=VOLUMES),
    "nn.conv_transpose": Entry({"channels": 3, "stride": 2}),
    "nn.conv_transpose_1d": Entry({"channels": 4, "groups": 2}, domain=SEQUENCES),
    "nn.conv_transpose_3d": Entry(
        {"channels": 2, "kernel": 2, "stride": 2, "padding": 1, "output_padding": 1}, domain=VOLUMES
    ),
    "nn.crop": Entry({"border": 1}),
    "nn.cross_attention": Entry({"heads": 4, "kv_heads": 2}, domain=PAIRS, smooth=False),
    "nn.dense": Entry({"units": 3}),
    "nn.depthwise_conv": Entry({"multiplier": 2}),
    "nn.dirac": Entry(),
    "nn.drop_connect": Entry(
        {"layer": nn.dense(3), "drop_rate": 0.2}, domain=VECTORS, smooth=False
    ),
    "nn.drop_path": Entry({"drop_rate": 0.2}, smooth=False),
    "nn.dropout": Entry({"drop_rate": 0.2}, smooth=False),
    "nn.elementwise": Entry({"function": jnp.sin}),
    "nn.elu": Entry(),
    "nn.embed": Entry({"vocabulary": 5, "width": 3}, domain=TOKENS),
    "nn.ensemble": Entry({"layer": nn.dense(3), "n": 2}, domain=VECTORS),
    "nn.flatten": Entry(),
    "nn.forward_pass": Entry(maker=False),
    "nn.freeze": Entry({"layer": nn.dense(3)}, domain=VECTORS),
    "nn.gelu": Entry(),
    "nn.generate": Entry(maker=False),
    "nn.global_avg_pool": Entry(),
    "nn.global_max_pool": Entry(domain=IMAGES._replace(values=apart)),
    "nn.gpt": Entry(
        {"vocabulary": 5, "length": 5, "width": 4, "depth": 2, "heads": 2},
        network=True,
        domain=TOKENS,
    ),
    "nn.graph": Entry(
        {"h": (nn.dense(3), "x"), "g": (nn.tanh(), "h"), "y": (nn.multiply(), "g", "h")},
        domain=VECTORS,
    ),
    "nn.group_norm": Entry({"groups": 2}, values={"eps": (0.1, 0.3)}),
    "nn.gru": Entry({"units": 3}, domain=READINGS),
    "nn.hard_swish": Entry(),
    "nn.he_normal": Entry(),
    "nn.he_uniform": Entry(),
    "nn.identity": Entry(),
    "nn.inference": Entry({"layer": nn.dense(3)}, domain=VECTORS),
    "nn.instance_norm": Entry(values={"eps": (0.1, 0.3)}),
    "nn.layer_norm": Entry(domain=IMAGES._replace(values=spread), values={"eps": (0.1, 0.3)}),
    "nn.leaky_relu": Entry(),
    "nn.learned_positions": Entry({"length": 5}, domain=SEQUENCES),
    "nn.lecun_normal": Entry(),
    "nn.lecun_uniform": Entry(),
    "nn.lenet5": Entry({"classes": 2}, network=True, domain=sized(16)),
    "nn.log_softmax": Entry(),
    "nn.lstm": Entry({"units": 3}, domain=READINGS),
    "nn.lsuv": Entry(maker=False),
    "nn.max_pool": Entry(domain=IMAGES._replace(values=apart)),
    "nn.max_pool_1d": Entry(domain=SEQUENCES._replace(values=apart)),
    "nn.max_pool_3d": Entry(domain=VOLUMES._replace(values=apart)),
    "nn.max_unpool": Entry(domain=POOLED),
    "nn.maxout": Entry({"units": 3}, domain=VECTORS),
    "nn.mish": Entry(),
    "nn.mlp": Entry({"units": (3, 2)}, network=True, domain=VECTORS),
    "nn.mobilenet_v2": Entry({"classes": 2, "width": 0.1}, network=True),
    "nn.multiply": Entry(domain=SEVERAL),
    "nn.normal": Entry(),
    "nn.orthogonal": Entry(),
    "nn.pad": Entry({"padding": 1}),
    "nn.parallel": Entry({"left": nn.dense(3), "right": nn.tanh(), "join": "dict"}, domain=VECTORS),
    "nn.parameter": Entry({"init": nn.normal(1.0)}, domain=VECTORS),
    "nn.pick": Entry({"path": "1"}, domain=SEVERAL),
    "nn.prelu": Entry(),
    "nn.pretrained": Entry({"layer": nn.tanh(), "params": {}, "state": {}}, domain=VECTORS),
    "nn.relu": Entry(),
    "nn.relu6": Entry(),
    "nn.remat": Entry({"layer": nn.chain(nn.dense(3), nn.tanh())}, domain=VECTORS),
    "nn.repeat": Entry({"layer": nn.chain(nn.dense(4), nn.tanh()), "n": 3}, domain=VECTORS),
    "nn.replace": Entry(
        {"network": nn.chain(head=nn.tanh()), "path": "head", "layer": nn.dense(3)}, domain=VECTORS
    ),
    "nn.reshape": Entry({"shape": (-1, 2)}),
    "nn.residual": Entry({"body": nn.dense(4)}, domain=VECTORS),
    "nn.resnet": Entry({"depth": 18, "classes": 2, "width": 2}, network=True),
    "nn.resnet_cifar": Entry({"depth": 8, "classes": 2, "width": 2}, network=True),
    "nn.rms_norm": Entry(domain=IMAGES._replace(values=spread), values={"eps": (0.1, 0.3)}),
    "nn.rnn": Entry({"units": 3, "bidirectional": True, "last": True}, domain=SEQUENCES),
    "nn.sample_normal": Entry(domain=TWO),
    "nn.selu": Entry(),
    "nn.separable_conv": Entry({"channels": 3}),
    "nn.shared": Entry({"layer": nn.dense(4), "use": twice}, domain=VECTORS),
    "nn.sigmoid": Entry(),
    "nn.silu": Entry(),
    "nn.sinusoidal_positions": Entry(domain=SEQUENCES),
    "nn.softmax": Entry(),
    "nn.softplus": Entry(),
    # 500 iterations, so that u and v are singular vectors: only then may gradients ignore them.
    "nn.spectral_norm": Entry(
        {"layer": nn.dense(3), "iterations": 500},
        domain=VECTORS,
        values={"eps": (0.1, 0.3)},
        smooth=False,
    ),
    "nn.summary": Entry(maker=False),
    "nn.switch": Entry({"left": nn.dense(3), "right": nn.dense(3)}, domain=CHOSEN),
    "nn.take": Entry({"network": nn.chain(head=nn.dense(3)), "path": "head"}, domain=VECTORS),
    "nn.tanh": Entry(),
    "nn.tap": Entry(maker=False),
    # 6 channels: a normalization over 4 numbers is too curved for finite differences.
    "nn.transformer_block": Entry(
        {"heads": 2, "expansion": 2, "causal": True, "layer_scale": 0.5},
        domain=SEQUENCES._replace(shape=lambda draw: (int(draw.integers(3, 6)), 6)),
        smooth=False,
    ),
    "nn.transpose": Entry({"axes": (1, 2, 0)}),
    "nn.truncated_normal": Entry(),
    "nn.unembed": Entry({"embedding": nn.embed(5, 4), "vocabulary": 5}, domain=SEQUENCES),
    "nn.unet": Entry({"channels": (2, 3), "outputs": 2}, network=True, domain=sized(4)),
    "nn.unfreeze": Entry(maker=False),
    "nn.upsample": Entry({"size": (7, 4), "method": "bicubic"}),
    "nn.variance_scaling": Entry(),
    "nn.vgg": Entry(
        {"depth": 11, "classes": 2, "width": 2, "units": 3}, network=True, domain=sized(32)
    ),
    "nn.vit": Entry(
        {"patch": 2, "classes": 2, "size": 4, "width": 4, "depth": 2, "heads": 2, "registers": 1},
        network=True,
        domain=sized(4),
    ),
    "nn.weight_norm": Entry({"layer": nn.dense(3)}, domain=VECTORS),
    "nn.weight_standardization": Entry(
        {"layer": nn.dense(3)}, domain=VECTORS, values={"eps": (0.1, 0.3)}
    ),
    # The kernel jumps where eigenvalues are cut off.
    "nn.whitening": Entry(
        {"images": jnp.asarray(smooth(np.random.default_rng(0), (3,)))},
        values={"eps": (0.1, 0.3)},
        smooth=False,
    ),
    "nn.wide_resnet": Entry({"depth": 10, "width": 1, "classes": 2}, network=True),
    "nn.xavier_normal": Entry(),
    "nn.xavier_uniform": Entry(),
    "nn.zeros": Entry(),
    # objective
    "objective.absolute_error": Entry(batch=away(0.2, 2)),
    "objective.accuracy": Entry(maker=False),
    "objective.adversarial": Entry(
        batch=lambda draw: (
            {
                **{name: draw.normal(size=(BATCH, 1)) for name in ("real", "fake", "fool")},
                "slope": 1 + draw.random(BATCH),
            },
            draw.integers(0, 4, BATCH),
        )
    ),
    "objective.aggregate": Entry(maker=False),
    "objective.average_precision": Entry(),
    "objective.binary_accuracy": Entry(no_slope=("threshold",)),
    "objective.binary_cross_entropy": Entry(
        batch=lambda draw: (draw.normal(size=(BATCH, 4)), draw.integers(0, 2, (BATCH, 4)))
    ),
    "objective.binary_focal": Entry(
        batch=lambda draw: (draw.normal(size=(BATCH, 4)), draw.integers(0, 2, (BATCH, 4)))
    ),
    "objective.brier": Entry(maker=False),
    "objective.calibration_error": Entry(),
    "objective.class_report": Entry(no_slope=("threshold",)),
    "objective.class_weighted": Entry({"loss": objective.cross_entropy, "weights": (1.0, 2.0)}),
    "objective.confusion_matrix": Entry({"classes": 2}, no_slope=("threshold",)),
    "objective.cosine": Entry(
        batch=lambda draw: (1 + draw.random((BATCH, 4)), draw.normal(size=(BATCH, 4)))
    ),
    "objective.cross_entropy": Entry(
        batch=lambda draw: (draw.normal(size=(BATCH, 4)), draw.integers(0, 4, BATCH))
    ),
    "objective.ctc": Entry(
        batch=lambda draw: (
            (draw.normal(size=(BATCH, 5, 4)), np.array([5, 4, 5])),
            (draw.integers(1, 4, (BATCH, 2)), np.array([2, 1, 0])),
        )
    ),
    "objective.dice": Entry(
        batch=lambda draw: (draw.normal(size=(BATCH, 2, 3, 4)), draw.integers(0, 4, (BATCH, 2, 3)))
    ),
    "objective.dwa": Entry({"steps": 2.0}, values={"steps": (1.0, 2.0)}, no_slope=("steps",)),
    "objective.elastic_net": Entry(),
    "objective.f1": Entry(no_slope=("threshold",)),
    "objective.focal": Entry(
        batch=lambda draw: (draw.normal(size=(BATCH, 4)), draw.integers(0, 4, BATCH))
    ),
    "objective.gaussian_nll": Entry(
        batch=lambda draw: (
            (draw.normal(size=(BATCH, 4)), 1.5 + np.arange(12.0).reshape(BATCH, 4) / 10),
            draw.normal(size=(BATCH, 4)),
        )
    ),
    # The sign of a difference has no slope by its target.
    "objective.gradnorm": Entry(
        {"layer": "kernel"}, values={"alpha": (0.0, 3.0)}, no_slope=("alpha",)
    ),
    "objective.hinge": Entry(
        batch=lambda draw: (
            0.3 * draw.permuted(np.arange(12.0).reshape(BATCH, 4), axis=1),
            np.arange(BATCH),
        )
    ),
    "objective.huber": Entry(batch=away(0.2, 0.8, 1.2, 2)),
    "objective.ignoring": Entry({"loss": objective.cross_entropy, "label": -100}),
    "objective.kl_divergence": Entry(
        batch=lambda draw: (draw.normal(size=(BATCH, 4)), draw.dirichlet(np.ones(4), BATCH))
    ),
    "objective.l1": Entry(),
    "objective.l2": Entry(),
    "objective.log_cosh": Entry(batch=away(0.2, 2)),
    "objective.loss": Entry(maker=False),
    "objective.masked": Entry({"loss": objective.cross_entropy}),
    "objective.max_norm": Entry({"limit": 0.2}),
    "objective.mean_iou": Entry(no_slope=("threshold",)),
    "objective.mgda": Entry(),
    "objective.multi_task": Entry({"losses": {"digit": objective.cross_entropy}}),
    "objective.nll": Entry(
        batch=lambda draw: (
            np.log(draw.dirichlet(np.full(4, 9.0), BATCH)),
            draw.integers(0, 4, BATCH),
        )
    ),
    "objective.nt_xent": Entry(
        batch=lambda draw: (1 + draw.random((2 * BATCH, 4)), np.arange(2 * BATCH) % BATCH)
    ),
    "objective.of": Entry({"output": "digit", "function": objective.cross_entropy}),
    "objective.orthogonal": Entry(),
    "objective.pcgrad": Entry({"shared": ("kernel",)}),
    "objective.per_member": Entry({"loss": objective.binary_cross_entropy}),
    "objective.perplexity": Entry(),
    "objective.poisson_nll": Entry(
        batch=lambda draw: (draw.normal(size=(BATCH, 4)), draw.poisson(2, (BATCH, 4)))
    ),
    "objective.precision": Entry(no_slope=("threshold",)),
    "objective.quantile": Entry(batch=away(0.2, 2)),
    "objective.r2": Entry(),
    "objective.recall": Entry(no_slope=("threshold",)),
    "objective.roc_auc": Entry(),
    "objective.squared_error": Entry(
        batch=lambda draw: (draw.normal(size=(BATCH, 4)), draw.normal(size=(BATCH, 4)))
    ),
    "objective.top_k": Entry({"k": 2}),
    "objective.triplet": Entry(
        batch=lambda draw: (
            tuple(far + draw.normal(size=(BATCH, 4)) / 8 for far in (0, 1, 2)),
            np.array([0, 1, 1]),
        )
    ),
    # optim
    # A step count decides when something happens; there is no slope by it.
    "optim.accumulate": Entry(
        {"optimizer": optim.momentum(0.1), "steps": 2.0},
        values={"steps": (1.0, 2.0)},
        no_slope=("steps",),
    ),
    "optim.adabelief": Entry({"rate": 0.1}, paper={**ADAM, "eps_root": 0.01}),
    "optim.adadelta": Entry({"rate": 0.1}, paper={"decay": 0.8, "eps": 0.001}),
    "optim.adafactor": Entry(
        {"rate": 0.1, "clip": 0.5},
        values={"eps_scale": (2.0, 5.0)},
        paper={"exponent": 0.7, "clip": 0.8, "eps": 1e-20, "eps_scale": 0.5, **DECAY},
    ),
    "optim.adagrad": Entry(
        {"rate": 0.1, "initial": 0.1}, paper={"initial": 0.3, "eps": 0.001, "eps_root": 0.01}
    ),
    "optim.adam": Entry({"rate": 0.1}, paper={**ADAM, "eps_root": 0.01}),
    "optim.adamax": Entry({"rate": 0.1}, values={"b2": (0.9, 0.95)}, paper=ADAM),
    "optim.adamw": Entry({"rate": 0.1}, paper={**ADAM, "eps_root": 0.01, **DECAY}),
    "optim.adaptive_clip": Entry({"optimizer": optim.sgd(0.1)}, values={"floor": (5.0, 7.0)}),
    "optim.amsgrad": Entry({"rate": 0.1}, paper=ADAM),
    "optim.apply_updates": Entry(maker=False),
    "optim.averaged_params": Entry(maker=False),
    "optim.back_off_scale": Entry(maker=False),
    "optim.centralize": Entry({"optimizer": optim.sgd(0.1)}),
    "optim.chain": Entry(parts=(optim.sgd(0.1), optim.momentum(0.2))),
    "optim.clip_by_global_norm": Entry({"optimizer": optim.sgd(0.1), "limit": 0.5}),
    "optim.clip_by_value": Entry({"optimizer": optim.sgd(0.1), "limit": 0.5}),
    "optim.constant": Entry({"value": 0.1}),
    "optim.cosine": Entry({"peak": 0.1, "steps": 9.0}),
    "optim.cosine_restarts": Entry({"peak": 0.1, "steps": 3.0, "growth": 1.5, "factor": 0.9}),
    "optim.cyclic": Entry({"peak": 0.1, "steps": 3.0, "shape": "exp_range", "factor": 0.9}),
    "optim.ema": Entry({"optimizer": optim.sgd(0.1)}),
    # The warm-up decides the first decays, and the largest decay the others.
    "optim.ema_warmup": Entry(
        {"decay": 0.9}, values={"decay": (0.3, 0.5), "gamma": (2.0, 3.0), "power": (0.5, 0.7)}
    ),
    "optim.exponential_decay": Entry({"start": 0.1, "steps": 3.0, "factor": 0.5}),
    "optim.global_norm": Entry(maker=False),
    "optim.inverse_time_decay": Entry({"start": 0.1, "steps": 3.0, "rate": 0.5}),
    "optim.join": Entry({"schedules": [0.1, optim.constant(0.2)], "boundaries": [5]}),
    "optim.lamb": Entry({"rate": 0.1, "weight_decay": 0.1}, paper={**ADAM, **DECAY}),
    "optim.lars": Entry(
        {"rate": 0.1, "weight_decay": 0.1}, paper={"momentum": 0.8, "coefficient": 0.1, **DECAY}
    ),
    # The two constants of the Wolfe conditions only decide which step is accepted.
    "optim.lbfgs": Entry(
        values={"curvature": (0.05, 0.9), "sufficient": (0.0001, 0.49)},
        no_slope=("curvature", "sufficient"),
    ),
    "optim.lawa": Entry(
        {"optimizer": optim.sgd(0.1), "every": 1.0, "window": 2},
        values={"every": (1.0, 2.0)},
        no_slope=("every",),
    ),
    "optim.linear": Entry({"start": 0.1, "steps": 9.0}),
    # The update is a sign, which has no slope.
    "optim.lion": Entry(
        {"rate": 0.1, "b1": 0.5, "b2": 0.2},
        values={"b1": (0.1, 0.9), "b2": (0.1, 0.9)},
        no_slope=("b1", "b2"),
        paper={"b1": 0.7, "b2": 0.9, **DECAY},
    ),
    "optim.lookahead": Entry(
        {"optimizer": optim.sgd(0.1), "steps": 2.0},
        values={"steps": (1.0, 2.0)},
        no_slope=("steps",),
    ),
    "optim.loss_scale": Entry(
        {"optimizer": optim.sgd(0.1), "scale": 2.0, "steps": 1.0},
        values={"growth": (2.0, 3.0), "steps": (1.0, 2.0)},
        no_slope=("steps",),
    ),
    "optim.momentum": Entry({"rate": 0.1}, paper={"momentum": 0.8}),
    "optim.muon": Entry({"rate": 0.1}, paper={"momentum": 0.8, **DECAY}),
    "optim.nadam": Entry({"rate": 0.1}, paper={**ADAM, "momentum_decay": 0.1}),
    "optim.noise": Entry({"key": jax.random.key(5), "optimizer": optim.sgd(0.1)}),
    "optim.novograd": Entry({"rate": 0.1}, paper={**ADAM, **DECAY}),
    "optim.observe_loss": Entry(maker=False),
    "optim.one_cycle": Entry({"peak": 0.1, "steps": 9.0}),
    "optim.partition": Entry({"parts": {"*b*": None}, "default": optim.momentum(0.1)}),
    "optim.piecewise": Entry({"rates": [0.1, 0.2, 0.3], "boundaries": [2, 4]}),
    "optim.plateau": Entry(
        {"optimizer": optim.sgd(0.1), "factor": 0.005, "patience": 0.0, "threshold": 0.5},
        values={"cooldown": (0.0, 1.0), "patience": (0.0, 1.0)},
        no_slope=("cooldown", "patience", "threshold"),
    ),
    "optim.polynomial": Entry({"start": 0.1, "steps": 9.0}),
    "optim.prodigy": Entry(
        {"rate": 0.1, "start": 0.01, "coefficient": 50.0},
        values={"coefficient": (50.0, 90.0)},
        paper={**ADAM, "b3": 0.9, "start": 0.1, "coefficient": 2.0, **DECAY},
    ),
    "optim.project": Entry({"optimizer": optim.sgd(0.1), "constraint": objective.max_norm(1.0)}),
    "optim.radam": Entry({"rate": 0.1, "b2": 0.9}, values={"b2": (0.9, 0.95)}, paper=ADAM),
    "optim.rmsprop": Entry({"rate": 0.1}, paper={"decay": 0.8, "eps": 0.1, "eps_root": 0.01}),
    "optim.rprop": Entry(
        {"rate": 0.1}, paper={"shrink": 0.4, "grow": 1.3, "smallest": 0.02, "largest": 0.2}
    ),
    "optim.rsqrt": Entry({"peak": 0.1, "warmup_steps": 3.0}),
    "optim.sam": Entry({"optimizer": optim.sgd(0.1), "radius": 0.1}),
    "optim.scale_by_depth": Entry(
        {"optimizer": optim.sgd(0.1), "factor": 0.5, "paths": ("*a*", "*")},
        values={"min_scale": (0.6, 0.8)},  # above the factor
    ),
    "optim.scale_loss": Entry(maker=False),
    # With a constant rate all steps have equal weight, whatever the power.
    "optim.schedule_free_adamw": Entry(
        {"rate": 0.1}, no_effect=("power",), paper={**ADAM, "power": 1.0, **DECAY}
    ),
    "optim.schedule_free_sgd": Entry(
        {"rate": optim.linear(0.1, steps=10, floor=0.2)},
        no_effect=("power",),
        paper={"b1": 0.8, "power": 1.0},
    ),
    "optim.sgd": Entry({"rate": 0.1}, paper={}),
    "optim.shampoo": Entry({"rate": 0.1}, paper={"decay": 0.9, "momentum": 0.8, "eps": 0.1}),
    "optim.skip_nonfinite": Entry({"optimizer": optim.momentum(0.1)}),
    "optim.sm3": Entry({"rate": 0.1}, paper={"decay": 0.8, "eps_root": 0.01}),
    "optim.soap": Entry(
        {"rate": 0.1, "every": 1}, no_slope=("decay",), paper={**ADAM, "decay": 0.7}
    ),
    "optim.sophia": Entry(
        {"key": jax.random.key(5), "rate": 0.1, "scale": 2.0, "b2": 0.5},
        values={"eps": (0.1, 0.3), "b1": (0.965, 0.98), "scale": (2.0, 3.0)},
    ),
    "optim.step": Entry(maker=False),
    "optim.step_decay": Entry({"start": 0.1, "steps": 3.0, "factor": 0.5}, no_slope=("steps",)),
    "optim.stochastic_rounding": Entry(
        {"key": jax.random.key(5), "optimizer": optim.momentum(0.1)}
    ),
    "optim.swa": Entry(
        {"optimizer": optim.sgd(0.1)},
        values={"start": (0.0, 2.0), "every": (1.0, 2.0)},
        no_slope=("start", "every"),
    ),
    "optim.swa_schedule": Entry(
        {"peak": 0.1, "start": 10.0, "floor": 0.02},
        values={"start": (9.0, 12.0), "decay_start": (0.3, 0.5), "decay_end": (0.7, 0.9)},
    ),
    "optim.swag": Entry(
        {"optimizer": optim.sgd(0.1), "rank": 2},
        values={"start": (0.0, 2.0), "every": (1.0, 2.0)},
        no_slope=("start", "every"),
    ),
    "optim.table": Entry({"rates": jnp.arange(1.0, 6.0)}),
    "optim.warmup": Entry({"schedule": 0.1, "warmup_steps": 3.0}),
    "optim.weight_decay": Entry({"optimizer": optim.sgd(0.1), "strength": 0.1}),
    "optim.wsd": Entry({"peak": 0.1, "steps": 12.0, "warmup_steps": 2.0, "decay_steps": 4.0}),
    "optim.yogi": Entry({"rate": 0.1}, paper={**ADAM, "initial": 0.1}),
    # augment: policies that draw by a number (a probability, a count, a box) have no slope by it.
    # A scale below 1 shows the outside of the image, and so its fill.
    "augment.affine": Entry({"degrees": 30.0, "factor": 0.8}),
    "augment.alternate": Entry({"augmentation": augment.flip_lr(1.0)}),
    "augment.augmix": Entry({"severity": 10, "width": 1}, smooth=False),
    # With the usual key it draws operations that change nothing.
    "augment.auto_augment": Entry({"table": "svhn"}, smooth=False, seed=1),
    "augment.autocontrast": Entry(),
    "augment.batch_chain": Entry(),
    "augment.batched": Entry({"augmentation": augment.flip_lr()}),
    "augment.brightness": Entry({"factor": 0.7}),
    "augment.chain": Entry(parts=(augment.rotate((-10, 10)), augment.invert())),
    "augment.channel_drop": Entry({"probability": 1.0}, smooth=False),
    "augment.contrast": Entry({"factor": 0.7}),
    "augment.crop": Entry({"size": 4}),
    "augment.cutmix": Entry(smooth=False),
    "augment.cutout": Entry({"size": 2}, smooth=False),
    "augment.elastic": Entry({"displacement": 2.0, "mode": "constant"}),
    "augment.entry": Entry({"name": 0, "augmentation": augment.flip_lr()}),
    "augment.equalize": Entry(),
    "augment.flip_lr": Entry(smooth=False),
    "augment.flip_ud": Entry(smooth=False),
    "augment.gamma": Entry({"exponent": 0.7}),
    "augment.gaussian_blur": Entry({"sigma": 0.7}),
    "augment.gaussian_noise": Entry({"deviation": 0.1}),
    "augment.grayscale": Entry(smooth=False),
    "augment.grid_mask": Entry(
        {"unit": 0.6}, values={"ratio": (0.2, 0.6), "unit": (0.4, 0.9)}, smooth=False
    ),
    "augment.hue": Entry({"turns": 0.2}),
    "augment.invert": Entry(),
    "augment.jitter": Entry({"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.1}),
    "augment.jpeg": Entry({"quality": 30.0}, smooth=False),
    "augment.maybe": Entry({"augmentation": augment.invert()}, smooth=False),
    "augment.mixup": Entry({"alpha": 1.0}, smooth=False),
    "augment.normalize": Entry({"mean": (0.5,) * 3, "std": (0.2,) * 3}),
    "augment.one_of": Entry(parts=(augment.invert(), augment.flip_lr(0.3))),
    "augment.pad": Entry({"padding": 1}, smooth=False),
    "augment.pca_lighting": Entry(),
    "augment.per_image": Entry({"augmentation": augment.flip_lr()}),
    "augment.perspective": Entry(),
    "augment.posterize": Entry({"bits": 3.0}, smooth=False),
    "augment.rand_augment": Entry({"magnitude": 20.0}, smooth=False),
    "augment.random_crop": Entry({"padding": 4, "mode": "constant"}, smooth=False),
    "augment.random_erasing": Entry({"probability": 1.0}, smooth=False),
    "augment.random_resized_crop": Entry({"size": 4}),
    "augment.resize": Entry({"size": 4}),
    "augment.rgb_shift": Entry({"amount": 0.1}),
    "augment.rot90": Entry({"turns": 1}),
    "augment.rotate": Entry({"degrees": 30.0}),
    "augment.salt_and_pepper": Entry(
        {"probability": 0.3}, values={"probability": (0.1, 0.6)}, smooth=False
    ),
    "augment.saturation": Entry({"factor": 0.7}),
    "augment.scale": Entry({"factor": 0.6}),
    "augment.sharpness": Entry({"factor": 0.7}),
    "augment.shear": Entry({"rows": 20.0, "columns": 10.0}),
    "augment.solarize": Entry({"threshold": 0.4}, smooth=False),
    "augment.some_of": Entry({"count": 1}, parts=(augment.invert(), augment.flip_lr(0.3))),
    "augment.stratified": Entry({"policy": augment.one_of(augment.invert(), augment.flip_lr(1.0))}),
    "augment.three_augment": Entry(smooth=False),
    "augment.together": Entry({"augmentation": augment.translate(0.5)}, smooth=False),
    "augment.translate": Entry({"rows": 0.2, "columns": 0.1}),
    "augment.trivial_augment": Entry(smooth=False),
    "augment.views": Entry({"augmentation": augment.flip_lr()}),
    "augment.tta": Entry({"predict": jnp.sin, "views": (augment.flip_lr(1.0),)}),
}


def domain(name: str) -> Domain:
    """The inputs of a layer."""
    return REGISTRY[name].domain


def batch_for(loss: str, seed: int) -> tuple[Any, Any]:
    """Outputs and targets for a loss."""

    def typed(array: Any) -> jax.Array:
        array = np.asarray(array)
        dtypes = {"f": jnp.result_type(float), "i": jnp.int32}
        return jnp.asarray(array, dtypes.get(array.dtype.kind, array.dtype))

    draw = REGISTRY[loss].batch
    assert draw is not None
    outputs, targets = jax.tree.map(typed, draw(np.random.default_rng(seed)))
    return outputs, targets
