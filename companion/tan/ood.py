"""What the prompt settings of Tan et al. 2024 (arXiv 2407.12404) do by themselves, and to vectors.

A prompt setting is what surrounds the question: nothing (BASE), or a persona sentence as system prompt
(SYS_POS, SYS_NEG) or in front of the question (USER_POS, USER_NEG). MEAN is the mean of the five vectors of a
data set.

Slopes come in as an OOD SLOPES table: `steerkit.steerability.slopes` plus ``setting``, the TEST setting, with
the training setting as ``vector``. ``baseline`` is the unsteered propensity, so no vector changes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from steerkit.errors import SteerkitError

SETTINGS = ("BASE", "SYS_POS", "SYS_NEG", "USER_POS", "USER_NEG")
MEAN = "MEAN"
CELL = ["dataset", "vector", "setting"]
COLUMNS = [*CELL, "example_id", "format", "layer", "steerability", "baseline"]
RELATIVE = ["dataset", "model", "train", "test", "relative", "distance", "own", "diagonal", "format"]


def relative(slopes: pd.DataFrame, model: str, minimum: float = 0.25) -> pd.DataFrame:
    """Steerability relative to the vector that was trained in the test setting itself (figure 7).

    Parameters
    ----------
    slopes : DataFrame
        OOD SLOPES as in `companion.tan.tables.shift_table`, with each test setting's own vector. MEAN and random
        vectors are left out.
    model : str
        Its registry name.
    minimum : float
        Rows whose own steerability is not above it are dropped. The paper's 0.25 is in logits.

    Returns
    -------
    DataFrame
        dataset, model, train, test, relative = s(train, test) / abs(s(test, test)), distance (mean over
        examples of the absolute difference of their unsteered propensities in the two settings), own =
        s(test, test), diagonal (train is test: distance 0 and relative 1 by definition) and format.
        ``attrs["filtered"]`` counts the rows dropped.

    Raises
    ------
    SteerkitError
        As `companion.tan.tables.shift_table`; a test setting without its own vector; no baseline; nothing above
        the minimum.
    """
    rows = checked(slopes)
    baselines = _baselines(rows)
    means = rows[rows["vector"].isin(SETTINGS)].groupby(CELL, sort=False)["steerability"].mean()
    table = means.rename("mean").reset_index().set_axis(["dataset", "train", "test", "mean"], axis=1)
    table["diagonal"] = table["train"] == table["test"]
    own = table[table["diagonal"]].set_index(["dataset", "test"])["mean"].rename("own")
    table = table.join(own, on=["dataset", "test"])
    if table.empty or table["own"].isna().any():
        found = f"none for {some(table.loc[table['own'].isna(), 'test']) or 'any of them'}"
        raise refusal("the vector trained in each test setting itself", found, "run all pairs of settings.")
    kept = table[table["own"] > minimum].reset_index(drop=True)
    if kept.empty:
        found = f"at most {own.max():.3g}"
        raise refusal(f"an own steerability above {minimum:g}", found, "lower `minimum`, and say so.")
    distance = []
    for name, *pair in zip(kept["dataset"], kept["train"], kept["test"], strict=True):
        one, other = (_unsteered(baselines, name, setting) for setting in pair)
        distance.append((one - other).abs().mean())
    kept = kept.assign(model=model, relative=kept["mean"] / kept["own"].abs(), distance=distance)
    kept = kept.assign(format=rows["format"].iloc[0])[RELATIVE]
    kept.attrs["filtered"] = len(table) - len(kept)
    return kept


def pairwise(vectors: Mapping[str, np.ndarray], dataset: str = "") -> list[tuple[str, str, float]]:
    """Cosines (first, second, cosine) between the vectors [d] of one data set; names of no setting are left out.

    Raises
    ------
    SteerkitError
        Fewer than two vectors, unequal lengths, a vector that is zero or not finite.
    """
    names = [name for name in (*SETTINGS, MEAN) if name in vectors]
    units = _unit_vectors(dataset, [vectors[name] for name in names])
    pairs = combinations(range(len(names)), 2)
    return [(names[i], names[j], float(units[i] @ units[j])) for i, j in pairs]


def cosines(
    pairs: Mapping[str, Iterable[tuple[str, str, float]]], slopes: pd.DataFrame, model: str
) -> pd.DataFrame:
    """Cosines between the vectors of a data set, beside how far apart their settings are (appendix).

    Parameters
    ----------
    pairs : dict of lists as of :func:`pairwise`
        By data set.
    slopes : DataFrame
        OOD SLOPES as in `companion.tan.tables.shift_table`, for the baselines.
    model : str
        Its registry name.

    Returns
    -------
    DataFrame
        One row a data set and pair: dataset, model, first, second, cosine, distance (absolute difference of
        the mean unsteered propensities; MEAN has the average of the settings that have a vector) and format.

    Raises
    ------
    SteerkitError
        As `companion.tan.tables.shift_table`; no baseline.
    """
    rows = checked(slopes)
    baselines = _baselines(rows)
    table = []
    for dataset, named in pairs.items():
        settings = [s for s in SETTINGS if any(s in pair[:2] for pair in named)]
        levels = {s: _unsteered(baselines, dataset, s).mean() for s in settings}
        levels[MEAN] = np.mean(list(levels.values()))
        for first, second, cosine in named:
            table.append((dataset, model, first, second, cosine, float(abs(levels[first] - levels[second]))))
    frame = pd.DataFrame(table, columns=["dataset", "model", "first", "second", "cosine", "distance"])
    return frame.assign(format=rows["format"].iloc[0])


def checked(slopes: pd.DataFrame) -> pd.DataFrame:
    """The slopes themselves, when they are an OOD SLOPES table."""
    missing = [name for name in COLUMNS if name not in slopes]
    if missing or slopes.empty:
        found = f"{len(slopes)} rows, missing columns: {', '.join(missing) or 'none'}"
        raise refusal("an OOD SLOPES table", found, "add the test setting of each row as `setting`.")
    vectors = pd.Series(slopes["vector"].unique())
    strange = vectors[~vectors.isin([*SETTINGS, MEAN]) & ~vectors.str.startswith("random")]
    strange = [*strange, *(set(slopes["setting"]) - set(SETTINGS))]
    if strange:
        expected = f"settings {', '.join(SETTINGS)}, as vectors also {MEAN} and random ones"
        raise refusal(expected, some(strange), "leave the rows of other vectors out.")
    layers = slopes.groupby("dataset")["layer"].nunique()
    twice = slopes.duplicated([*CELL, "example_id"]).sum()
    if slopes["format"].nunique() != 1 or (layers != 1).any() or twice:
        found = f"formats {some(slopes['format'])}, layers {some(slopes['layer'])}, {twice} repeated rows"
        expected = "one answer format, one layer a data set and each example once a vector and setting"
        raise refusal(expected, found, "choose the rows of one format and layer.")
    bad = int((~np.isfinite(slopes["steerability"].to_numpy(dtype=np.float64))).sum())
    if bad:
        raise refusal("finite slopes", f"{bad} that are not", "compute them with steerability.slopes.")
    return slopes


def refusal(expected: str, found: str, next_step: str) -> SteerkitError:
    """The error of a table that cannot be computed."""
    return SteerkitError(expected, found, done="Nothing was computed.", next_step=next_step)


def some(values: Iterable[object]) -> str:
    """The first six of the different values, in words."""
    return ", ".join(sorted({str(value) for value in values})[:6])


def _baselines(rows: pd.DataFrame) -> pd.DataFrame:
    """Unsteered propensities, (dataset, example_id) down and settings across; all vectors share them."""
    return rows.groupby(["dataset", "example_id", "setting"])["baseline"].first().unstack("setting")


def _unsteered(baselines: pd.DataFrame, dataset: str, setting: str) -> pd.Series:
    """The unsteered propensity of every example of a data set in a setting."""
    known = dataset in baselines.index.get_level_values(0) and setting in baselines
    values = baselines.loc[dataset, setting] if known else pd.Series([np.nan])
    if not np.isfinite(values).all():
        found = f"{np.sum(~np.isfinite(values))} examples or more without in {setting}"
        next_step = "run multiplier 0 for the same examples in every setting."
        raise refusal(f"the unsteered propensity of every example of {dataset}", found, next_step)
    return values


def _unit_vectors(dataset: str, vectors: list[np.ndarray]) -> np.ndarray:
    """Vectors of norm 1, [v, d]."""
    arrays = [np.asarray(vector, dtype=np.float64) for vector in vectors]
    shapes = {array.shape for array in arrays}
    sizes = [float(np.linalg.norm(array)) for array in arrays]
    if len(arrays) < 2 or len(shapes) > 1 or not np.isfinite(sizes).all() or not all(sizes):
        expected = f"two vectors or more of {dataset} of one length, finite and not zero"
        found = f"{len(arrays)} of shapes {some(shapes) or 'none'} and norms {some(sizes) or 'none'}"
        raise refusal(expected, found, f"name them {', '.join(SETTINGS)} or {MEAN}, all of one layer.")
    return np.stack(arrays) / np.array(sizes)[:, None]
