"""Every public maker with an example of its use: what the laws walk over."""

import inspect
import types as python_types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from domains import LOSSES, batch_for, sized, smooth
from exercises import EXERCISES

from fnn import augment, nn, objective, optim
from fnn.objective.loss import DeclaredLoss
from fnn.types import Magnitude, Number, Rate


def tenth_of_square(y: Any) -> jax.Array:
    return 0.1 * jnp.square(y).sum()


def twice(tied: Any) -> Any:
    return nn.chain(tied, nn.tanh(), tied)


ROOMS = {"nn": nn, "optim": optim, "augment": augment, "objective": objective}
# What each maker is called with, besides a knob under test.
CALLS: dict[str, dict[str, Any]] = {
    "nn.activity_regularizer": {"layer": nn.dense(3), "penalty": tenth_of_square},
    "nn.add": {},
    "nn.cast": {"layer": nn.dense(3), "dtype": float},
    "nn.concat": {},
    "nn.ensemble": {"layer": nn.dense(3), "n": 2},
    "nn.freeze": {"layer": nn.dense(3)},
    "nn.graph": {"h": (nn.dense(3), "x"), "g": (nn.tanh(), "h"), "y": (nn.multiply(), "g", "h")},
    "nn.multiply": {},
    "nn.parallel": {"left": nn.dense(3), "right": nn.tanh(), "join": "dict"},
    "nn.parameter": {"init": nn.normal(1.0)},
    "nn.pretrained": {"layer": nn.tanh(), "params": {}, "state": {}},
    "nn.remat": {"layer": nn.chain(nn.dense(3), nn.tanh())},
    "nn.repeat": {"layer": nn.chain(nn.dense(4), nn.tanh()), "n": 3},
    "nn.replace": {"network": nn.chain(head=nn.tanh()), "path": "head", "layer": nn.dense(3)},
    "nn.shared": {"layer": nn.dense(4), "use": twice},
    "nn.switch": {"left": nn.dense(3), "right": nn.dense(3)},
    "nn.take": {"network": nn.chain(head=nn.dense(3)), "path": "head"},
    "nn.attention": {"heads": 2, "rotary": True},
    "nn.cross_attention": {"heads": 4, "kv_heads": 2},
    "nn.embed": {"vocabulary": 5, "width": 3},
    "nn.gru": {"units": 3},
    "nn.learned_positions": {"length": 5},
    "nn.lstm": {"units": 3},
    "nn.rnn": {"units": 3, "bidirectional": True, "last": True},
    "nn.sinusoidal_positions": {},
    "nn.transformer_block": {"heads": 2, "expansion": 2, "causal": True},
    "nn.unembed": {"embedding": nn.embed(5, 4), "vocabulary": 5},
    "nn.adaptive_avg_pool": {"size": 3},
    "nn.adaptive_max_pool": {"size": 3},
    "nn.avg_pool": {},
    "nn.whitening": {"images": jnp.asarray(smooth(np.random.default_rng(0), (3,)))},
    "nn.avg_pool_1d": {},
    "nn.avg_pool_3d": {},
    "nn.conv_1d": {"channels": 4, "groups": 2},
    "nn.conv_3d": {"channels": 3, "stride": 2},
    "nn.conv_transpose": {"channels": 3, "stride": 2},
    "nn.conv_transpose_1d": {"channels": 4, "groups": 2},
    "nn.conv_transpose_3d": {
        "channels": 2,
        "kernel": 2,
        "stride": 2,
        "padding": 1,
        "output_padding": 1,
    },
    "nn.crop": {"border": 1},
    "nn.depthwise_conv": {"multiplier": 2},
    "nn.global_max_pool": {},
    "nn.max_pool_1d": {},
    "nn.max_pool_3d": {},
    "nn.pad": {"padding": 1},
    "nn.reshape": {"shape": (-1, 2)},
    "nn.separable_conv": {"channels": 3},
    "nn.transpose": {"axes": (1, 2, 0)},
    "nn.upsample": {"method": "bilinear"},
    "nn.batch_norm": {},
    "nn.channel_dropout": {"drop_rate": 0.2},
    "nn.chain": {"body": nn.dense(4), "head": nn.tanh()},
    "nn.conv": {"channels": 3},
    "nn.dense": {"units": 3},
    "nn.drop_connect": {"layer": nn.dense(3), "drop_rate": 0.2},
    "nn.drop_path": {"drop_rate": 0.2},
    "nn.dropout": {"drop_rate": 0.2},
    "nn.elementwise": {"function": jnp.sin},
    "nn.elu": {},
    "nn.flatten": {},
    "nn.gelu": {},
    "nn.global_avg_pool": {},
    "nn.group_norm": {"groups": 2},
    "nn.hard_swish": {},
    "nn.he_normal": {},
    "nn.he_uniform": {},
    "nn.instance_norm": {},
    "nn.layer_norm": {},
    "nn.leaky_relu": {},
    "nn.constant": {"value": 0.1},
    "nn.dirac": {},
    "nn.identity": {},
    "nn.lecun_normal": {},
    "nn.lecun_uniform": {},
    "nn.orthogonal": {},
    "nn.truncated_normal": {},
    "nn.variance_scaling": {},
    "nn.zeros": {},
    "nn.log_softmax": {},
    "nn.max_pool": {},
    "nn.maxout": {"units": 3},
    "nn.mish": {},
    "nn.normal": {},
    "nn.prelu": {},
    "nn.relu": {},
    "nn.relu6": {},
    "nn.residual": {"body": nn.dense(4)},
    "nn.rms_norm": {},
    "nn.selu": {},
    "nn.sigmoid": {},
    "nn.silu": {},
    "nn.softmax": {},
    "nn.softplus": {},
    # So many iterations that u and v are singular vectors: only then is holding them constant no approximation.
    "nn.spectral_norm": {"layer": nn.dense(3), "iterations": 500},
    "nn.tanh": {},
    "nn.weight_standardization": {"layer": nn.dense(3)},
    "nn.xavier_normal": {},
    "nn.xavier_uniform": {},
    "objective.calibration_error": {},
    "objective.confusion_matrix": {"classes": 4},
    "objective.f1": {},
    "objective.perplexity": {},
    "objective.precision": {},
    "objective.r2": {},
    "objective.recall": {},
    "objective.roc_auc": {},
    "objective.top_k": {"k": 2},
    "objective.class_weighted": {"loss": objective.cross_entropy, "weights": (1.0, 2.0)},
    "objective.elastic_net": {},
    "objective.ignoring": {"loss": objective.cross_entropy, "label": -100},
    "objective.l1": {},
    "objective.l2": {},
    "objective.masked": {"loss": objective.cross_entropy},
    "objective.max_norm": {"limit": 0.2},
    "objective.multi_task": {"losses": {"digit": objective.cross_entropy}},
    "objective.orthogonal": {},
    "optim.accumulate": {"optimizer": optim.momentum(0.1), "steps": 2.0},
    "optim.adaptive_clip": {"optimizer": optim.sgd(0.1)},
    "optim.centralize": {"optimizer": optim.sgd(0.1)},
    "optim.chain": {},
    "optim.clip_by_global_norm": {"optimizer": optim.sgd(0.1), "limit": 0.5},
    "optim.clip_by_value": {"optimizer": optim.sgd(0.1), "limit": 0.5},
    "optim.ema": {"optimizer": optim.sgd(0.1)},
    "optim.lookahead": {"optimizer": optim.sgd(0.1), "steps": 2.0},
    "optim.loss_scale": {"optimizer": optim.sgd(0.1), "scale": 2.0, "steps": 1.0},
    "optim.noise": {"key": jax.random.key(5), "optimizer": optim.sgd(0.1)},
    "optim.partition": {"parts": {"*b*": None}, "default": optim.momentum(0.1)},
    "optim.plateau": {
        "optimizer": optim.sgd(0.1),
        "factor": 0.005,
        "patience": 0.0,
        "threshold": 0.5,
    },
    "optim.project": {"optimizer": optim.sgd(0.1), "constraint": objective.max_norm(1.0)},
    "optim.scale_by_depth": {"optimizer": optim.sgd(0.1), "factor": 0.5, "paths": ("*a*", "*")},
    "optim.skip_nonfinite": {"optimizer": optim.momentum(0.1)},
    "optim.weight_decay": {"optimizer": optim.sgd(0.1), "strength": 0.1},
    "optim.adabelief": {"rate": 0.1},
    "optim.adadelta": {"rate": 0.1},
    "optim.adafactor": {"rate": 0.1, "clip": 0.5},
    "optim.adagrad": {"rate": 0.1, "initial": 0.1},
    "optim.adamax": {"rate": 0.1},
    "optim.amsgrad": {"rate": 0.1},
    "optim.lamb": {"rate": 0.1, "weight_decay": 0.1},
    "optim.lars": {"rate": 0.1, "weight_decay": 0.1},
    "optim.lbfgs": {},
    "optim.lion": {"rate": 0.1, "b1": 0.5, "b2": 0.2},
    "optim.muon": {"rate": 0.1},
    "optim.nadam": {"rate": 0.1},
    "optim.novograd": {"rate": 0.1},
    "optim.prodigy": {"rate": 0.1, "start": 0.01, "coefficient": 50.0},
    "optim.radam": {"rate": 0.1, "b2": 0.9},
    "optim.rprop": {"rate": 0.1},
    "optim.sam": {"optimizer": optim.sgd(0.1), "radius": 0.1},
    "optim.schedule_free_adamw": {"rate": 0.1},
    "optim.schedule_free_sgd": {"rate": optim.linear(0.1, steps=10, floor=0.2)},
    "optim.shampoo": {"rate": 0.1},
    "optim.sm3": {"rate": 0.1},
    "optim.soap": {"rate": 0.1, "every": 1},
    "optim.sophia": {"key": jax.random.key(5), "rate": 0.1, "scale": 2.0, "b2": 0.5},
    "optim.yogi": {"rate": 0.1},
    "optim.adam": {"rate": 0.1},
    "optim.adamw": {"rate": 0.1},
    "optim.momentum": {"rate": 0.1},
    "optim.rmsprop": {"rate": 0.1},
    "optim.sgd": {"rate": 0.1},
    "optim.constant": {"value": 0.1},
    "optim.cosine": {"peak": 0.1, "steps": 9.0},
    "optim.cosine_restarts": {"peak": 0.1, "steps": 3.0, "growth": 1.5, "factor": 0.9},
    "optim.cyclic": {"peak": 0.1, "steps": 3.0, "shape": "exp_range", "factor": 0.9},
    "optim.exponential_decay": {"start": 0.1, "steps": 3.0, "factor": 0.5},
    "optim.inverse_time_decay": {"start": 0.1, "steps": 3.0, "rate": 0.5},
    "optim.join": {"schedules": [0.1, optim.constant(0.2)], "boundaries": [5]},
    "optim.linear": {"start": 0.1, "steps": 9.0},
    "optim.piecewise": {"rates": [0.1, 0.2, 0.3], "boundaries": [2, 4]},
    "optim.polynomial": {"start": 0.1, "steps": 9.0},
    "optim.rsqrt": {"peak": 0.1, "warmup_steps": 3.0},
    "optim.step_decay": {"start": 0.1, "steps": 3.0, "factor": 0.5},
    "optim.table": {"rates": jnp.arange(1.0, 6.0)},
    "optim.warmup": {"schedule": 0.1, "warmup_steps": 3.0},
    "optim.wsd": {"peak": 0.1, "steps": 12.0, "warmup_steps": 2.0, "decay_steps": 4.0},
    "optim.one_cycle": {"peak": 0.1, "steps": 9.0},
    # Of a move, what lies outside must be seen, so that its level is.
    "augment.affine": {"degrees": 30.0, "factor": 0.8},
    "augment.alternate": {"augmentation": augment.flip_lr(1.0)},
    "augment.augmix": {"severity": 10, "width": 1},
    "augment.auto_augment": {"table": "svhn"},
    "augment.autocontrast": {},
    "augment.batch_chain": {},
    "augment.batched": {"augmentation": augment.flip_lr()},
    "augment.brightness": {"factor": 0.7},
    "augment.chain": {},
    "augment.channel_drop": {"probability": 1.0},
    "augment.contrast": {"factor": 0.7},
    "augment.crop": {"size": 4},
    "augment.cutmix": {},
    "augment.cutout": {"size": 2},
    "augment.elastic": {"displacement": 2.0, "mode": "constant"},
    "augment.equalize": {},
    "augment.flip_lr": {},
    "augment.flip_ud": {},
    "augment.gamma": {"exponent": 0.7},
    "augment.gaussian_blur": {"sigma": 0.7},
    "augment.gaussian_noise": {"deviation": 0.1},
    "augment.grayscale": {},
    "augment.grid_mask": {"unit": 0.6},
    "augment.hue": {"turns": 0.2},
    "augment.invert": {},
    "augment.jitter": {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.1},
    "augment.jpeg": {"quality": 30.0},
    "augment.maybe": {"augmentation": augment.invert()},
    "augment.mixup": {"alpha": 1.0},
    "augment.normalize": {"mean": (0.5,) * 3, "std": (0.2,) * 3},
    "augment.one_of": {},
    "augment.pad": {"padding": 1},
    "augment.pca_lighting": {},
    "augment.per_image": {"augmentation": augment.flip_lr()},
    "augment.perspective": {},
    "augment.posterize": {"bits": 3.0},
    "augment.rand_augment": {"magnitude": 20.0},
    "augment.random_crop": {"padding": 4, "mode": "constant"},
    "augment.random_erasing": {"probability": 1.0},
    "augment.random_resized_crop": {"size": 4},
    "augment.resize": {"size": 4},
    "augment.rgb_shift": {"amount": 0.1},
    "augment.rot90": {"turns": 1},
    "augment.rotate": {"degrees": 30.0},
    "augment.salt_and_pepper": {"probability": 0.3},
    "augment.saturation": {"factor": 0.7},
    "augment.scale": {"factor": 0.6},
    "augment.sharpness": {"factor": 0.7},
    "augment.shear": {"rows": 20.0, "columns": 10.0},
    "augment.solarize": {"threshold": 0.4},
    "augment.some_of": {"count": 1},
    "augment.stratified": {"policy": augment.one_of(augment.invert(), augment.flip_lr(1.0))},
    "augment.three_augment": {},
    "augment.together": {"augmentation": augment.translate(0.5)},
    "augment.translate": {"rows": 0.2, "columns": 0.1},
    "augment.trivial_augment": {},
    "augment.tta": {"predict": jnp.sin, "views": (augment.flip_lr(1.0),)},
}
# Known networks, called likewise. Their layers are walked one by one; they themselves are traced only, for to compile
# so many layers takes long.
NETWORKS: dict[str, dict[str, Any]] = {
    "nn.cifar_speedrun": {"images": sized(9).draw(0)[1], "classes": 2, "widths": (3,)},
    "nn.gpt": {"vocabulary": 5, "length": 5, "width": 4, "depth": 2, "heads": 2},
    "nn.lenet5": {"classes": 2},
    "nn.mlp": {"units": (3, 2)},
    "nn.mobilenet_v2": {"classes": 2, "width": 0.1},
    "nn.resnet": {"depth": 18, "classes": 2, "width": 2},
    "nn.resnet_cifar": {"depth": 8, "classes": 2, "width": 2},
    "nn.unet": {"channels": (2, 3), "outputs": 2},
    "nn.vgg": {"depth": 11, "classes": 2, "width": 2, "units": 3},
    "nn.vit": {"patch": 2, "classes": 2, "size": 4, "width": 4, "depth": 2, "heads": 2},
    "nn.wide_resnet": {"depth": 10, "width": 1, "classes": 2},
}
# Public functions that are no makers: they act on arrays themselves.
FUNCTIONS = {
    "optim.apply_updates",
    "optim.averaged_params",
    "optim.back_off_scale",
    "optim.global_norm",
    "optim.observe_loss",
    "optim.scale_loss",
    "optim.step",
    "objective.accuracy",
    "objective.loss",
    "nn.forward_pass",
    "nn.lsuv",
    "nn.summary",
    *LOSSES,
}

# Two values for a knob whose name is here, or whose maker's and its own; any other is tried at 0.1 and 0.3.
VALUES = {
    "optim.adafactor.eps_scale": (2.0, 5.0),
    "optim.lbfgs.curvature": (0.05, 0.9),
    "optim.lbfgs.sufficient": (1e-4, 0.49),
    "optim.prodigy.coefficient": (50.0, 90.0),
    "optim.adamax.b2": (0.9, 0.95),
    "optim.lion.b1": (0.1, 0.9),
    "optim.lion.b2": (0.1, 0.9),
    "optim.sophia.eps": (0.1, 0.3),
    "optim.radam.b2": (0.9, 0.95),
    "optim.sophia.b1": (0.965, 0.98),
    "optim.sophia.scale": (2.0, 3.0),
    "decay_steps": (3.0, 5.0),
    "exponent": (1.5, 3.0),
    "growth": (1.2, 2.0),
    "factor": (0.5, 0.8),
    "steps": (9.0, 12.0),
    "warmup_steps": (2.0, 4.0),
    "start": (0.02, 0.05),
    "floor": (0.01, 0.03),
    "size": (2.0, 3.0),
    "eps": (1e-8, 1e-3),
    **{
        f"nn.{norm}.eps": (0.1, 0.3)
        for norm in (
            "batch_norm",
            "group_norm",
            "instance_norm",
            "layer_norm",
            "rms_norm",
            "weight_standardization",
        )
    },
    "nn.spectral_norm.eps": (0.1, 0.3),
    "nn.whitening.eps": (0.1, 0.3),
    "optim.accumulate.steps": (1.0, 2.0),
    "optim.adaptive_clip.floor": (5.0, 7.0),
    "optim.lookahead.steps": (1.0, 2.0),
    "optim.loss_scale.growth": (2.0, 3.0),
    "optim.loss_scale.steps": (1.0, 2.0),
    "optim.plateau.cooldown": (0.0, 1.0),
    "optim.plateau.patience": (0.0, 1.0),
    "probability": (0.0, 1.0),
    "bits": (1.0, 3.0),
    "degrees": (10.0, 40.0),
    "magnitude": (5.0, 25.0),
    "quality": (10.0, 60.0),
    "augment.grid_mask.ratio": (0.2, 0.6),
    "augment.grid_mask.unit": (0.4, 0.9),
    "augment.salt_and_pepper.probability": (0.1, 0.6),
    "min_variance": (2.0, 3.0),
}


# How an argument is declared that may be one number.
NUMERIC = (Number, Rate, Magnitude, Number | None, Number | str)


class Knobs(NamedTuple):
    """The numeric arguments of a maker, and what each is if nothing is said."""

    maker: str
    usual: dict[str, float]

    def outcome(self, values: Any) -> Any:
        """What the maker's product gives on the example, with these values of all its knobs."""
        return outcome(self.maker, **values)


def public(rooms: Mapping[str, python_types.ModuleType] = ROOMS) -> dict[str, Callable[..., Any]]:
    """Every public function of the rooms, by name."""
    return {
        f"{room}.{name}": value
        for room, module in rooms.items()
        for name, value in vars(module).items()
        if not name.startswith("_") and isinstance(value, python_types.FunctionType | DeclaredLoss)
    }


def knobs(*, networks: bool = False) -> Iterator[Knobs]:
    """The arguments, of each public function but networks, or of networks, that are declared numbers or rates."""
    for maker, function in public().items():
        given = (CALLS | NETWORKS).get(maker, {})
        names = inspect.signature(function).parameters.items()
        numeric = {name: own.default for name, own in names if own.annotation in NUMERIC}
        usual = {name: given.get(name, default) for name, default in numeric.items()}
        walked = maker in NETWORKS if networks else maker in CALLS | LOSSES
        if usual and walked:
            yield Knobs(
                maker,
                {
                    name: value if is_number(value) else tried(maker, name)[0]
                    for name, value in usual.items()
                },
            )


def tried(maker: str, name: str) -> tuple[float, float]:
    """Two values for a knob of that maker."""
    return VALUES.get(f"{maker}.{name}", VALUES.get(name, (0.1, 0.3)))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def outcome(maker: str, **options: Any) -> Any:
    """What the product of a maker gives on a small example."""
    if maker in LOSSES:
        return public()[maker](*batch_for(maker, 7), **options)
    product = public()[maker](**(CALLS | NETWORKS)[maker] | options)
    return EXERCISES[kind(maker)](product, maker)


def kind(maker: str) -> Any:
    """What the maker is declared to return."""
    return inspect.signature(public()[maker]).return_annotation
