"""The same network on one device and on eight: one argument divides each batch among them.

Run it with `python examples/35_devices.py`. The eight devices are simulated: they are parts of one
CPU, which shows that the results are equal, not that they come sooner. On a machine with several
accelerators, leave out the first line after the imports.
"""

import time

import jax
import numpy as np

from fnn import augment, data, nn, optim, train

jax.config.update("jax_num_cpu_devices", 8)
EPOCHS, BATCH = 4, 64
digits = data.digits()

network = nn.chain(
    nn.conv(16), nn.batch_norm(), nn.gelu(), nn.avg_pool(),
    nn.conv(32), nn.batch_norm(), nn.gelu(), nn.flatten(), nn.dropout(0.2), nn.dense(10),
)  # fmt: skip


def trained(mesh):
    """Train on the devices of a mesh, or on one device without a mesh."""
    optimizer = optim.momentum(optim.cosine(0.05, steps=train.num_steps(
        digits.train, epochs=EPOCHS, batch_size=BATCH
    )))  # fmt: skip
    recipe = train.recipe(network, optimizer, augment=augment.random_crop(padding=1))
    return train.run(
        jax.random.key(0),
        recipe,
        digits.train,
        valid=digits.test,
        epochs=EPOCHS,
        batch_size=BATCH,
        mesh=mesh,  # the line that changes
    )


def main():
    meshes = {"1 device": None, "8 devices": jax.make_mesh((8,), ("data",))}
    results = {}
    for name, mesh in meshes.items():
        began = time.monotonic()
        results[name] = trained(mesh)
        figures = results[name].history
        loss, accuracy = figures.valid_loss[-1], figures.valid_accuracy[-1]
        seconds = time.monotonic() - began
        print(f"{name:9s}  loss {loss:.5f}  accuracy {accuracy:.4f}  {seconds:.1f} s")
    one, eight = (np.asarray(result.history.loss) for result in results.values())
    gap = np.abs(one - eight) / one
    print(f"relative difference of the loss: step 1 {gap[0]:.1e}, last step {gap[-1]:.1e}")
    return gap


if __name__ == "__main__":
    main()
