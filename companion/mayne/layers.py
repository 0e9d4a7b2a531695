"""Steerability by layer (figure 5): one vector a block, its slope at multiplier 0 on every test example, and placebos.

Training and test examples are those of the main grid, so that a layer has as many as the grid and not the few of the
sweep. One backward pass an example gives the slopes at all blocks (`steerkit.gradient`), at a fraction of the cost of
steering.
"""

import numpy as np
import pandas as pd

from companion import store
from companion.data.splits import groups_of
from companion.mayne.activations import CODE, Case, example_groups, examples, inputs_of
from companion.models import model_of
from companion.outline import outline
from companion.tan import jobs
from steerkit import gradients, mean_interval
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

    def compute() -> pd.DataFrame:
        model = model_of(case.settings.model, case.settings.remote)
        train, test = examples(case, model)
        found, trained = differences(model, train, layers), [one.id for one in train]
        of = groups_of(jobs.dataset_of(case.parts[0], case.settings.source), trained)
        vectors = mean_difference(found, layers)
        drawn = shuffled(found, layers, SHUFFLED, case.settings.seed, groups=of)
        moved = gradients(model, test, layers, fidelity=case.settings.fidelity)
        groups = np.asarray(example_groups(case, [one.id for one in test]))
        rows, of_groups = [], []
        for layer in layers:
            slopes = pd.Series((moved.at(layer).double() @ vectors.at(layer)[0].double()).numpy())
            means = slopes.groupby(groups).mean().to_numpy()
            own = mean_interval(means)
            row = {"format": case.format, "layer": layer, "mean": own.estimate}
            row |= {"low": own.low, "high": own.high, "n": len(means)}
            placebos = (moved.at(layer) @ drawn.at(layer).T).numpy().mean(axis=0)
            rows.append(row | {"placebo": np.quantile(placebos, 0.95)})
            of_groups.append(means)
        best = max(of_groups, key=np.mean)
        for row, means in zip(rows, of_groups, strict=True):
            behind = mean_interval(best - means)
            row |= {"behind": behind.estimate, "behind_low": behind.low, "behind_high": behind.high}
        table = pd.DataFrame(rows)
        table.attrs = {"engine": "gradient", "source": model.source}
        return table

    about = inputs_of(case, "layers", (*CODE, *OWN_CODE)) | {"layer": None, "layers": list(layers)}
    return store.table(f"mayne-layers-{case.stem}", about, compute)
