"""Distance of exported programs from the networks, for every model of `nn.models`.

Goal: 1e-5 of the largest output on 20 inputs. The program of JAX runs in a process without fnn, the
file of ONNX in onnxruntime. The networks are small ones of full depth, with random numbers in the
place of the weights.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measure import judge, missing, show, version

from fnn import lab, nn, train
from fnn.types import Layer, Weights

GOAL = 1e-5
COUNT = 20
RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(0, 16, (COUNT, 12), dtype=np.int32)
ELSEWHERE = """
import sys
from pathlib import Path
import numpy as np
from jax import export
folder = Path(sys.argv[1])
program = export.deserialize(bytearray((folder / "program.jax").read_bytes()))
np.save(folder / "outputs.npy", np.asarray(program.call(np.load(folder / "inputs.npy"))))
assert "fnn" not in sys.modules
"""


def images(size: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (COUNT, size, size, 3), np.uint8)


WHITENED = images(32).astype(np.float32) / 255
MODELS: dict[str, tuple[Layer, np.ndarray]] = {
    "mlp": (nn.mlp((32, 10)), RANDOM.normal(size=(COUNT, 12)).astype(np.float32)),
    "lenet5": (nn.lenet5(), images(32)),
    "vgg": (nn.vgg(11, 10, width=8, units=32), images(32)),
    "resnet": (nn.resnet(18, 10, width=8), images(64)),
    "resnet_cifar": (nn.resnet_cifar(20, 10, width=8), images(32)),
    "wide_resnet": (nn.wide_resnet(16, 1, classes=10), images(32)),
    "mobilenet_v2": (nn.mobilenet_v2(10, width=0.25), images(64)),
    "cifar_speedrun": (nn.cifar_speedrun(WHITENED), images(32)),
    "unet": (nn.unet((8, 16, 32), 2), images(32)),
    "vit": (nn.vit(8, 10, size=32, width=32, depth=12, heads=4), images(32)),
    "gpt": (nn.gpt(16, length=12, width=32, depth=12, heads=4), TOKENS),
}


def weights_of(network: Layer, inputs: np.ndarray) -> Weights:
    """Weights without zeros, which the last layers of some networks begin with."""
    params, state, _ = network.init(jax.random.key(0), inputs.shape[1:])

    def disturb(leaf: jax.Array) -> jax.Array:
        return leaf + jnp.asarray(0.05 * RANDOM.standard_normal(leaf.shape), leaf.dtype)

    return Weights(jax.tree.map(disturb, params), state)


def in_other_process(folder: Path, model: Any, inputs: np.ndarray) -> np.ndarray:
    lab.export(folder, model, inputs)
    np.save(folder / "inputs.npy", inputs)
    subprocess.run([sys.executable, "-c", ELSEWHERE, str(folder)], check=True)
    return np.asarray(np.load(folder / "outputs.npy"))


def in_onnxruntime(folder: Path, model: Any, inputs: np.ndarray) -> np.ndarray:
    import onnxruntime

    lab.export_onnx(folder, model, inputs)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (outputs,) = session.run(None, {session.get_inputs()[0].name: inputs})
    return np.asarray(outputs)


def main() -> None:
    formats = {"JAX, another process": in_other_process}
    if version("jax2onnx"):
        formats["ONNX, onnxruntime"] = in_onnxruntime
    rows, worst = [], 0.0
    for name, (network, inputs) in MODELS.items():
        recipe, weights = train.recipe(network), weights_of(network, inputs)
        wanted = np.asarray(train.predict(recipe, weights, inputs))
        row = {"difference, by the largest output": f"`nn.{name}`"}
        for label, run in formats.items():
            with tempfile.TemporaryDirectory() as folder:
                found = run(Path(folder), (recipe, weights), inputs)
            share = float(abs(found - wanted).max() / abs(wanted).max())
            row[label] = f"{share:.1e}"
            worst = max(worst, share)
        rows.append(row)
    remarks = [judge("largest difference", worst, GOAL, form=".1e"), *missing("jax2onnx")]
    show(__doc__, f"{COUNT} inputs each, a program for any batch size.", rows, *remarks)


if __name__ == "__main__":
    main()
