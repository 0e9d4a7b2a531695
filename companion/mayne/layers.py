"""Steerability by layer (figure 5): one vector a block, its slope at multiplier 0 on every test example, and placebos.

Training and test examples are those of the main grid, so that a layer has as many as the grid and not the few of the
sweep. One backward pass an example gives the slopes at all blocks (`steerkit.gradient`), at a fraction of the cost of
steering.
"""

import numpy as np
import pandas as pd

from companion.mayne.activations import CODE, Case, example_groups, examples, kept
from companion.outline import outline
from steerkit import Model, gradients, mean_interval
from steerkit.errors import need
from steerkit.extraction import differences, mean_difference, shuffled

SHUFFLED = 99  # label-shuffled vectors of each block
OWN_CODE = ("companion/mayne/layers.py",)


def by_layer(case: Case, step: int = 1) -> pd.DataFrame:
    """Mean slope at zero of each block's own vector: format, layer, mean, low, high (t, over test groups), n of these;
    placebo, what 95% of `SHUFFLED` vectors with exchanged labels, of its norm, do not exceed; behind, behind_low and
    behind_high, how far it is behind the best block, on the same test groups."""
    mend = "every how many blocks one is looked at."
    need(step >= 1, "a step of at least 1", str(step), mend, done="Nothing was computed.")
    layers = range(0, outline(case.settings.model).n_layers, step)

    def compute(model: Model) -> pd.DataFrame:
        train, test = examples(case, model)
        found, of = differences(model, train, layers), example_groups(case, [one.id for one in train], 0)
        vectors = mean_difference(found, layers)
        drawn = shuffled(found, layers, SHUFFLED, case.settings.seed, groups=of)
        moved = gradients(model, test, layers, fidelity=case.settings.fidelity)
        groups = np.asarray(example_groups(case, [one.id for one in test]))
        rows, of_groups = [], []
        for layer in layers:
            slopes = pd.Series((moved.at(layer).double() @ vectors.at(layer)[0].double()).numpy())
            of_groups.append(slopes.groupby(groups).mean().to_numpy())
            placebos = (moved.at(layer) @ drawn.at(layer).T).numpy().mean(axis=0)
            row = {"format": case.format, "layer": layer} | _ends("mean", "", of_groups[-1])
            rows.append(row | {"n": len(of_groups[-1]), "placebo": np.quantile(placebos, 0.95)})
        best = max(of_groups, key=np.mean)
        for row, means in zip(rows, of_groups, strict=True):
            row |= _ends("behind", "behind_", best - means)
        return pd.DataFrame(rows)

    about = {"layer": None, "layers": list(layers)}
    return kept(case, "layers", compute, about, "gradient", (*CODE, *OWN_CODE))


def _ends(name: str, prefix: str, values: np.ndarray) -> dict[str, float]:
    found = mean_interval(values)
    return {name: found.estimate, f"{prefix}low": found.low, f"{prefix}high": found.high}
