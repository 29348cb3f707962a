"""Fine-tuning distorts features: LP-FT on shifted digits, against fine-tuning and probing.

Run it with `python examples/32_lpft.py`. A network learns the digits 0 to 4 at all angles up to 90
degrees. From a few upright digits 5 to 9 it learns these, and is tested on upright ones and on
rotated ones. Compared are a linear probe, fine-tuning with a new head, and LP-FT, fine-tuning that
begins with the probe [Kumar et al. 2022, arXiv:2202.10054], each at several rates. The table shows
mean and standard deviation over several draws of the examples. The last lines compare them at the
smallest rate that is as good as the best one on upright digits. The picture is in out/lpft.png.
"""

from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

from fnn import augment, data, nn, optim, train, transfer

EXAMPLES, KEYS, EPOCHS, SOURCE_EPOCHS, BATCH, ANGLE = 50, 5, 20, 60, 25, 45
RATES = (1e-5, 1e-4, 1e-3, 1e-2)
OUT = Path("out")

network = nn.chain(
    nn.conv(16), nn.relu(), nn.conv(32), nn.relu(), nn.max_pool(),
    nn.conv(32), nn.relu(), nn.flatten(), nn.dense(64), nn.relu(), head=nn.dense(5),
)  # fmt: skip


def select(examples, first):
    """The images of five digits from a first one on, with labels from 0."""
    images, labels = examples
    chosen = (first <= labels) & (labels < first + 5)
    return images[chosen], labels[chosen] - first


def rotated(images):
    """The images, turned by the same angle to the left or to the right."""
    turned = []
    for sign in (-1, 1):
        turn = augment.per_image(augment.rotate(sign * ANGLE))
        turned.append(np.asarray(turn(jax.random.key(0), images[sign > 0 :: 2])))
    return np.concatenate(turned)


def source_weights(digits):
    """Weights of a network that knows the digits 0 to 4 at all angles."""
    known = select(digits.train, 0)
    steps = train.num_steps(known, epochs=SOURCE_EPOCHS, batch_size=BATCH)
    recipe = train.recipe(
        network,
        optim.adam(optim.one_cycle(3e-3, steps=steps)),
        augment=augment.rotate((-90, 90)),
    )
    run = train.run(jax.random.key(0), recipe, known, epochs=SOURCE_EPOCHS, batch_size=BATCH)
    return train.weights(recipe, run.train_state)


def choose_rate(upright):
    """The smallest rate within one standard error of the best one, by upright digits alone."""
    means = upright.mean(1)
    top = means.argmax()
    error = upright[top].std(ddof=1) / np.sqrt(KEYS)
    return int((means >= means[top] - error).argmax())


def main():
    digits = data.digits()
    weights = source_weights(digits)
    images, labels = select(digits.train, 5)
    test = select(digits.test, 5)
    order = np.concatenate([np.arange(0, len(test[1]), 2), np.arange(1, len(test[1]), 2)])
    tests = {"upright": test, "rotated": (rotated(test[0]), test[1][order])}
    source = train.recipe(network, optim.adam(1e-3))

    def accuracies(recipe, state):
        return [float(train.evaluate(recipe, state, one)["accuracy"]) for one in tests.values()]

    rows = {"probe": [[]], "fine-tuning": [[] for _ in RATES], "LP-FT": [[] for _ in RATES]}
    for index in range(KEYS):
        key = jax.random.key(index)
        draw = np.random.default_rng(index).permutation(len(labels))[:EXAMPLES]
        few = images[draw], labels[draw]
        features = transfer.features(source, weights, few[0])
        probe = transfer.linear_probe(features, few[1], l2=1e-2, classes=5)
        probed, begun = transfer.attach(network, weights, probe)
        rows["probe"][0].append(accuracies(source.replace(network=probed), begun))
        for place, rate in enumerate(RATES):
            base = source.replace(optimizer=optim.adam(rate))
            recipes = {
                "fine-tuning": transfer.fine_tune(base, weights, classes=5),
                "LP-FT": transfer.fine_tune(base.replace(network=probed), begun),
            }
            for name, recipe in recipes.items():
                run = train.run(key, recipe, few, epochs=EPOCHS, batch_size=BATCH)
                rows[name][place].append(accuracies(recipe, run.train_state))

    table = {name: np.array(values) for name, values in rows.items()}  # (rates, keys, 2)
    print(f"{'method':12s}  rate    " + "".join(f"  {name:15s}" for name in tests))
    for name, values in table.items():
        for rate, one in zip(RATES if name != "probe" else [None], values, strict=True):
            means, deviations = one.mean(0), one.std(0, ddof=1)
            cells = [f"  {m:.3f} +- {d:.3f}" for m, d in zip(means, deviations, strict=True)]
            print(f"{name:12s}  {'' if rate is None else rate:<8}" + "".join(cells))
    best = {name: values[choose_rate(values[:, :, 0])] for name, values in table.items()}
    for name in ("probe", "fine-tuning"):
        gap = best["LP-FT"] - best[name]
        error = gap.std(0, ddof=1) / np.sqrt(KEYS)
        cells = [f"{m:+.3f} +- {e:.3f}" for m, e in zip(gap.mean(0), error, strict=True)]
        print(f"LP-FT less {name}: upright {cells[0]}, rotated {cells[1]}")

    OUT.mkdir(exist_ok=True)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True, layout="constrained")
    for place, (one, title) in enumerate(zip(axes, tests, strict=True)):
        low = table["probe"][0, :, place]
        one.axhline(low.mean(), color="C0", label="probe")
        one.axhspan(low.mean() - low.std(), low.mean() + low.std(), color="C0", alpha=0.15)
        for color, marker, name in (("C1", "o", "fine-tuning"), ("C2", "s", "LP-FT")):
            values = table[name][:, :, place]
            one.errorbar(
                RATES, values.mean(1), values.std(1, ddof=1), marker=marker, color=color, label=name
            )
        one.set(xscale="log", xlabel="rate (log)", title=f"{title} digits")
    axes[0].set_ylabel("test accuracy")
    axes[0].legend()
    figure.savefig(OUT / "lpft.png", dpi=120)
    plt.close(figure)
    return table


if __name__ == "__main__":
    main()
