"""Made-up slopes of two models and two sources of text, of which it is known whose property steerability is."""

from itertools import product

import numpy as np
import pandas as pd

from companion import published
from companion.tan import texts

SETS = tuple(published.datasets().index)
RUNS = {("m", "bundled"): "m", ("n", "bundled"): "n", ("m", "papers"): "m (papers' data)"}


def made(
    owner: str = "text", items: int = 8, seed: int = 0, sets=SETS, placebo: str = "shuffled-00"
) -> pd.DataFrame:
    """Slopes that belong to the text (one level a set and source), or to the concept (one a set), and a placebo's."""
    rng, rows = np.random.default_rng(seed), []
    kinds = {name: texts.kind_of(name, "bundled") for name in sets}
    gap = {"persona": 5.0, "choice": 0.0}
    level = {key: rng.normal() for key in product(sets, ("bundled", "papers"))}
    shared = {(name, source, i): rng.normal() for name, source in level for i in range(items)}
    for (model, source), run in RUNS.items():
        for name, i in product(sets, range(items)):
            own = level[name, source if owner == "text" else "bundled"] + gap[kinds[name]]
            slopes = {"full": own + shared[name, source, i] + 0.5 * rng.normal(), placebo: rng.normal()}
            about = (run, model, source, name, kinds[name], f"{name}/{i}", i)
            rows += [(*about, vector, slope, slope / 2, -slope / 2) for vector, slope in slopes.items()]
    columns = "run model source dataset kind example_id group vector steerability".split()
    return pd.DataFrame(rows, columns=[*columns, "matching_slope", "not_matching_slope"])
