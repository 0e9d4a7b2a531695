"""Steerability by layer (figure 5): one vector a block, and its slope at multiplier 0 on every test example.

Training and test examples are those of the main grid, so that a layer has as many as the grid and not the few of the
sweep. One gradient an example and block gives the slope (`steerkit.gradient`), at a fraction of the cost of steering.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from companion import store
from companion.mayne.activations import CODE, Case, example_groups, examples, gradients, inputs_of
from companion.models import model_of
from companion.outline import outline
from steerkit.errors import need
from steerkit.extraction import extract
from steerkit.stats import mean_interval

OWN_CODE = ("companion/mayne/layers.py", "companion/mayne/draws.py")


def by_layer(case: Case, step: int = 1) -> pd.DataFrame:
    """Mean slope at zero of each block's own vector: format, layer, mean, low, high (t, over test groups), n of these.

    Each block is an artefact of its own, so that a run that was killed goes on where it stopped.
    """
    mend = "every how many blocks one is looked at."
    need(step >= 1, "a step of at least 1", str(step), mend, done="Nothing was computed.")
    layers = range(0, outline(case.settings.model).n_layers, step)

    def compute() -> pd.DataFrame:
        model = model_of(case.settings.model, case.settings.remote)
        vectors = extract(model, examples(case, model)[0], layers)
        table = pd.DataFrame([_row(replace(case, layer=layer), vectors.at(layer)[0]) for layer in layers])
        table.attrs = {"engine": "gradient", "source": model.source}
        return table

    about = inputs_of(case, "layers", (*CODE, *OWN_CODE)) | {"layer": None, "layers": list(layers)}
    return store.table(f"mayne-layers-{case.stem}", about, compute)


def _row(case: Case, vector: torch.Tensor) -> dict:
    rows = gradients(case)
    slopes = pd.Series(rows.to_numpy(dtype=float) @ vector.double().numpy())
    means = slopes.groupby(np.asarray(example_groups(case, list(rows.index)))).mean().to_numpy()
    found = mean_interval(means)
    ends = {"mean": found.estimate, "low": found.low, "high": found.high}
    return {"format": case.format, "layer": case.layer} | ends | {"n": len(means)}
