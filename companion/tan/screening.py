"""What the pairs of a set say before it is steered: measured on the pairs themselves, at multiplier 0."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from companion.tan import pairs, predict, products
from companion.tan.pairs import Pairs
from steerkit import Example, Model, stats
from steerkit.errors import need

LEAST, DRAWS, SHUFFLES = 6, 200, 99


def of_examples(model: Model, examples: Sequence[Example], layers: Sequence[int]) -> dict[int, Pairs]:
    """The pairs of a set in matrices, each test and training pair, by layer; `LEAST` at least, no two of one question."""
    from steerkit.extraction import differences
    from steerkit.gradient import gradients
    from steerkit.vectors import Vectors

    expected = f"{LEAST} pairs or more, to say anything of their set"
    need(len(examples) >= LEAST, expected, str(len(examples)), "give more.")
    last, ids = len(model.layers) - 1, tuple(one.id for one in examples)
    found, rows = gradients(model, examples, sorted({*layers, last})), differences(model, examples, layers)
    made = {}
    for at, layer in enumerate(layers):
        own = Vectors(ids, (layer,), rows[:, [at]])
        near, far = found.at(layer), found.at(last)
        table = products.table(own, dict.fromkeys(ids, ""), near, far, found.scores.numpy())
        [made[layer]] = pairs.sets(table.assign(dataset="", kind=""))
    return made


def screened(found: Pairs) -> dict[str, Any]:
    """What is measured, and what is known without steering.

    Keys pairs, steerability (mean slope under the mean of the other pairs), low, high (95%, training and test noise
    together), shuffled (95% point under vectors of exchanged labels), p (of the vector among these, without test noise),
    backwards (share of pairs below 0); and of `predict.known` agreement, separation, accessibility, margin and norm.
    """
    count, rng, own = len(found.ids), np.random.default_rng(0), pairs.by_others(found.slope)
    by_training = pairs.by_others(found.slope.T)  # what each training pair does to all others
    drawn = by_training[rng.integers(count, size=(DRAWS, count))].mean(axis=1)
    interval = stats.mean_interval(own, training=drawn)
    shuffled = rng.choice([-1.0, 1.0], (SHUFFLES, count)) @ by_training / count
    row = {"pairs": count, "steerability": interval.estimate, "low": interval.low, "high": interval.high}
    row |= {"shuffled": float(np.quantile(shuffled, 0.95))}
    row |= {"p": (1 + int((shuffled >= interval.estimate).sum())) / (1 + SHUFFLES)}
    known = predict.known(found, np.arange(count))
    kept = ("agreement", "separation", "accessibility", "margin", "norm")
    return row | {"backwards": float((own < 0).mean())} | {name: known[name] for name in kept}
