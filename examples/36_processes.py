"""The same network on one device, on eight devices of one process, and on those of two processes.

    python examples/36_processes.py
    python -m fnn.lab.launch -n 2 --cpu-devices 4 examples/36_processes.py

The script is the same for both: `mesh=` is the line that changes between one device and all, and
the command decides how many processes have these. The devices are simulated: they are parts of one
CPU. On machines with accelerators, leave out --cpu-devices, and the line with jax_num_cpu_devices.
"""

import jax
import numpy as np

from fnn import augment, data, lab, nn, optim, train

EPOCHS, BATCH = 4, 64

network = nn.chain(
    nn.conv(16), nn.batch_norm(), nn.gelu(), nn.avg_pool(),
    nn.conv(32), nn.batch_norm(), nn.gelu(), nn.flatten(), nn.dropout(0.2), nn.dense(10),
)  # fmt: skip


def trained(mesh):
    """Train on the devices of a mesh, or on one device without a mesh."""
    digits = data.digits()
    steps = train.num_steps(digits.train, epochs=EPOCHS, batch_size=BATCH)
    recipe = train.recipe(
        network,
        optim.momentum(optim.cosine(0.05, steps=steps)),
        augment=augment.random_crop(padding=1),
    )
    return lab.fit(
        jax.random.key(0),
        recipe,
        digits.train,
        valid=digits.test,
        epochs=EPOCHS,
        batch_size=BATCH,
        show=False,
        mesh=mesh,  # the line that changes
    )


def main():
    # Before anything else of JAX. Alone, the script has the devices of one process.
    lab.connect()
    if not jax.distributed.is_initialized():
        jax.config.update("jax_num_cpu_devices", 8)
    devices, processes = jax.device_count(), jax.process_count()
    meshes = {
        "devices 1": None,
        f"devices {devices}, processes {processes}": jax.make_mesh((devices,), ("data",)),
    }
    losses = []
    for name, mesh in meshes.items():
        history = trained(mesh).history
        losses.append(np.asarray(history.loss))
        # Every process has the results, and one of them prints.
        if jax.process_index() == 0:
            loss, accuracy = history.valid_loss[-1], history.valid_accuracy[-1]
            print(f"{name:24s}  loss {loss:.5f}  accuracy {accuracy:.4f}")
    one, several = losses
    gap = np.abs(one - several) / one
    if jax.process_index() == 0:
        print(f"relative difference of the loss: step 1 {gap[0]:.1e}, last step {gap[-1]:.1e}")
    return gap


if __name__ == "__main__":
    main()
