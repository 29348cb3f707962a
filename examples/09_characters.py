"""Train a GPT of characters on the documentation of this project, and let it write.

Run `python examples/09_characters.py`; it takes a minute on two CPU cores and downloads nothing.
"""

from pathlib import Path

import jax
import jax.numpy as jnp

from fnn import data, lab, nn, objective, optim, train

PAGES = Path(__file__).parent.parent
LENGTH, WIDTH, DEPTH, HEADS = 128, 96, 2, 4
EPOCHS, BATCH, PEAK, DECAY = 10, 16, 5e-3, 0.1
PROMPT = "A recipe "


def text() -> str:
    """The README and the pages of docs/, in one string."""
    pages = [PAGES / "README.md", *sorted((PAGES / "docs").rglob("*.md"))]
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


def perplexity(loss):
    """The number of equally likely characters that would be as hard to predict."""
    return float(jnp.exp(loss))


def main():
    corpus = text()
    vocabulary = data.characters(corpus)
    tokens = vocabulary.encode(corpus)
    # The last tenth is for validation.
    fitting, held_out = tokens[: len(tokens) * 9 // 10], tokens[len(tokens) * 9 // 10 :]
    examples = data.windows(fitting, LENGTH, stride=LENGTH // 2)
    valid = data.windows(held_out, LENGTH)
    network = nn.gpt(vocabulary.size, length=LENGTH, width=WIDTH, depth=DEPTH, heads=HEADS)
    steps = train.num_steps(examples, epochs=EPOCHS, batch_size=BATCH)
    recipe = train.recipe(
        network,
        optim.adamw(optim.one_cycle(PEAK, steps=steps), weight_decay=DECAY),
        loss=objective.cross_entropy,
    )
    result = lab.fit(
        jax.random.key(0), recipe, examples, valid=valid, epochs=EPOCHS, batch_size=BATCH
    )
    found = perplexity(result.history.valid_loss[-1])
    print(f"{vocabulary.size} characters, perplexity {found:.1f} on held-out text")
    weights = train.weights(recipe, result.train_state)
    prompt = vocabulary.encode(PROMPT)
    for temperature in (0.0, 0.7, 1.0):
        generated = nn.generate(
            jax.random.key(1), network, weights, prompt,
            tokens=LENGTH - len(prompt), temperature=temperature, top_p=0.95,
        )  # fmt: skip
        print(f"--- temperature {temperature}")
        print(PROMPT + vocabulary.decode(generated.tokens))


if __name__ == "__main__":
    main()
