"""Reports of two runs on digits: a healthy one, and one whose rate is far too high.

Run it with `python examples/28_report.py`. Each report is one HTML file that needs no
network: verdict and next steps, findings, curves, layers, predictions, data, and the code that
reproduces the run. The second one also compares the runs. They are in out/report_healthy.html and
out/report.html.
"""

from pathlib import Path

import jax

from fnn import augment, data, diagnose, lab, nn, optim, train

EPOCHS, BATCH, RATE, FAULTY_RATE = 15, 64, 0.05, 3.0
OUT = Path("out")


def make(rate, steps):
    network = nn.chain(
        nn.conv(16), nn.relu(), nn.conv(16), nn.relu(), nn.max_pool(),
        nn.flatten(), nn.dense(32), nn.relu(), nn.dense(10),
    )  # fmt: skip
    return train.recipe(
        network,
        optim.momentum(optim.cosine(rate, steps=steps)),
        augment=augment.random_crop(padding=1),
        instruments=diagnose.instruments(every=10),
        on_nonfinite="ignore",
    )


def main():
    digits = data.digits()
    steps = train.num_steps(digits.train, epochs=EPOCHS, batch_size=BATCH)
    OUT.mkdir(exist_ok=True)
    healthy = OUT / "report_healthy.html"
    for rate, path, other in ((RATE, healthy, None), (FAULTY_RATE, OUT / "report.html", healthy)):
        recipe = make(rate, steps)
        result = train.run(
            jax.random.key(0), recipe, digits.train,
            valid=digits.test, epochs=EPOCHS, batch_size=BATCH,
        )  # fmt: skip
        report = lab.report(
            result, path,
            recipe=recipe, data=digits.train, valid=digits.test, compare=other,
        )  # fmt: skip
        print(f"{path}: {len(report.findings.errors)} errors")
        print(report.findings)


if __name__ == "__main__":
    main()
