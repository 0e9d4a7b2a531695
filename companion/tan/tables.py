"""Do vectors carry over to another prompt setting, and to another model? (Tan et al. 2024, arXiv 2407.12404)

A prompt setting is what surrounds the question: nothing (BASE), or a persona sentence as system prompt (SYS_POS,
SYS_NEG) or in front of the question (USER_POS, USER_NEG). Training and test in BASE is in distribution; MEAN is the mean
of the five vectors of a data set. The tables start from OOD SLOPES (`companion.tan.experiment.shift_slopes`): slopes plus
``setting``, the TEST setting, with the training setting as ``vector``. Functions that take settings return the table and
the manifests of the artefacts behind it.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import combinations, product
from typing import Any, Literal

import numpy as np
import pandas as pd

from companion import published
from companion.profiles import Settings
from companion.tan import experiment
from companion.tan.jobs import MEAN
from companion.tan.means import means
from companion.templates import SETTINGS
from steerkit.errors import need
from steerkit.stats import rank_correlation

Measure = Literal["mean", "variance"]
Found = tuple[pd.DataFrame, list[dict[str, Any]]]

SAME = ("BASE", "BASE")  # in distribution
# (train, test) of figure 5; the first of the published shifts is none.
MOVED: tuple[tuple[str, ...], ...] = tuple(tuple(s.split("->")) for s in published.tan()["shifts"][1:])
MEASURES: tuple[Measure, ...] = ("mean", "variance")
CELL = ["dataset", "vector", "setting"]
KEY = ["dataset", "model", "train", "test"]
SHIFTS = [*KEY, "mean", "low", "high", "variance", "n", "format"]
RENAMED = {"vector": "train", "setting": "test"}
SIDES = [f"{name}{end}" for name in ("spearman", "pearson") for end in ("", "_low", "_high")]

_computable = partial(need, done="Nothing was computed.")


def name_of(settings: Settings) -> str:
    """The model, told apart from the same model on the papers' data."""
    return f"{settings.model} (papers' data)" if settings.source == "papers" else settings.model


def on_one_text(runs: Sequence[Settings]) -> list[tuple[str, str]]:
    """Every two models that have read the same items: of others a scatter compares authors as well."""
    return [(name_of(a), name_of(b)) for a, b in combinations(runs, 2) if a.source == b.source]


def shifts_of(settings: Settings, answer_format: str) -> Found:
    """The SHIFTS table of one profile; its model is the profile's."""
    slopes = experiment.shift_slopes(settings, answer_format)
    return shift_table(slopes, name_of(settings)), slopes.attrs["manifests"]


def shift_table(slopes: pd.DataFrame, model: str) -> pd.DataFrame:
    """One row for every pair of training and test setting of every data set: the SHIFTS table.

    `slopes` are OOD SLOPES of one model in one answer format, one layer for each data set. Examples of
    one ``group`` are not independent, where there is that column.
    Columns dataset, model, train, test, mean with its 95% interval low and high (NaN with a single example or group),
    variance (divided by n), n (examples) and format.
    """
    rows = slopes.sort_values("example_id")
    group = rows["group"] if "group" in rows else rows["example_id"]
    found = means(rows.assign(group=group), CELL, "group", alone=True)
    spread = rows.groupby(CELL)["steerability"].agg(lambda values: np.var(values.to_numpy()))
    table = slopes[CELL].drop_duplicates().merge(found, on=CELL).join(spread.rename("variance"), on=CELL)
    table = table.rename(columns=RENAMED).assign(model=model, format=slopes["format"].iloc[0])
    return table[SHIFTS]


def relative_of(settings: Settings, answer_format: str, minimum: float) -> Found:
    """Relative steerability of one profile; no rows when nothing steers more than `minimum`."""
    slopes = experiment.shift_slopes(settings, answer_format)
    return relative(slopes, name_of(settings), minimum), slopes.attrs["manifests"]


def relative(slopes: pd.DataFrame, model: str, minimum: float = 0.25) -> pd.DataFrame:
    """Steerability relative to the vector that was trained in the test setting itself (figure 7).

    MEAN and random vectors of the OOD SLOPES are left out, and so are rows whose own steerability is not above
    `minimum`; the paper's 0.25 is in logits. Columns dataset, model, train, test, relative = s(train, test) /
    abs(s(test, test)), distance (mean over examples of the absolute difference of their unsteered propensities in the
    two settings), own = s(test, test), diagonal (train is test: distance 0 and relative 1 by definition) and format.
    """
    cells = slopes[slopes["vector"].isin(SETTINGS)].groupby(CELL, sort=False)["steerability"].mean()
    table = cells.rename("mean").reset_index().rename(columns=RENAMED)
    table["diagonal"] = table["train"] == table["test"]
    own = table[table["diagonal"]].set_index(["dataset", "test"])["mean"].rename("own")
    table = table.join(own, on=["dataset", "test"])
    found = f"none for {some(table.loc[table['own'].isna(), 'test']) or 'any of them'}"
    known, expected = table["own"].notna().all(), "the vector trained in each test setting itself"
    _computable(len(table) > 0 and known, expected, found, "run all pairs of settings.")
    kept, unsteered = table[table["own"] > minimum].reset_index(drop=True), _baselines(slopes)
    pairs = kept[["dataset", "train", "test"]].itertuples(index=False)
    levels = (np.subtract(*(_level(unsteered, name, setting) for setting in both)) for name, *both in pairs)
    kept = kept.assign(relative=kept["mean"] / kept["own"].abs(), distance=[d.abs().mean() for d in levels])
    kept = kept.assign(model=model, format=slopes["format"].iloc[0])
    return kept[[*KEY, "relative", "distance", "own", "diagonal", "format"]]


def cosines_of(settings: Settings, answer_format: str) -> Found:
    """Cosines between the vectors of one profile, as its manifests hold them."""
    slopes = experiment.shift_slopes(settings, answer_format)
    manifests = slopes.attrs["manifests"]
    pairs = {m["inputs"]["dataset"]: [tuple(pair) for pair in m["cosines"]] for m in manifests}
    return cosines(pairs, slopes, name_of(settings)), manifests


def cosines(
    pairs: Mapping[str, Iterable[tuple[str, str, float]]], slopes: pd.DataFrame, model: str
) -> pd.DataFrame:
    """Cosines between the vectors of a data set, beside how far apart their settings are (appendix).

    `pairs` has those of `companion.tan.work.pairwise` by data set; the baselines come from OOD SLOPES. One row a data
    set and pair: dataset, model, first, second, cosine, distance (absolute difference of the mean unsteered
    propensities; MEAN has the average of the settings that have a vector) and format.
    """
    unsteered, table = _baselines(slopes), []
    for dataset, named in pairs.items():
        used = [s for s in SETTINGS if any(s in pair[:2] for pair in named)]
        levels = {s: _level(unsteered, dataset, s).mean() for s in used}
        levels[MEAN] = np.mean(list(levels.values()))
        table += [(dataset, model, a, b, cosine, abs(levels[a] - levels[b])) for a, b, cosine in named]
    frame = pd.DataFrame(table, columns=["dataset", "model", "first", "second", "cosine", "distance"])
    return frame.assign(format=slopes["format"].iloc[0])


def _baselines(slopes: pd.DataFrame) -> pd.DataFrame:
    """Unsteered propensities, (dataset, example_id) down and settings across; all vectors share them."""
    return slopes.groupby(["dataset", "example_id", "setting"])["baseline"].first().unstack("setting")


def _level(baselines: pd.DataFrame, dataset: str, setting: str) -> pd.Series:
    """The unsteered propensity of every example of a data set in a setting."""
    known = dataset in baselines.index.get_level_values(0) and setting in baselines
    values = baselines.loc[dataset, setting] if known else pd.Series([np.nan])
    finite, expected = np.isfinite(values), f"the unsteered propensity of every example of {dataset}"
    found = f"{np.sum(~finite)} examples or more without in {setting}"
    _computable(finite.all(), expected, found, "run multiplier 0 for the same examples in every setting.")
    return values


def over_models(runs: Sequence[Settings], answer_format: str) -> Found:
    """SHIFTS of several profiles, one below the other."""
    tables, manifests = zip(*(shifts_of(settings, answer_format) for settings in runs), strict=True)
    return pd.concat(tables, ignore_index=True), [m for part in manifests for m in part]


def with_main_grids(runs: Sequence[Settings], answer_format: str) -> Found:
    """`over_models` with the main grids, which have more items, in distribution."""
    table, manifests = over_models(runs, answer_format)
    parts = [table[(table["train"] != "BASE") | (table["test"] != "BASE")]]
    for settings in runs:
        slopes = experiment.slopes(settings, answer_format)
        by_set = slopes.query("vector == 'full'").groupby("dataset")["steerability"]
        spread = by_set.agg(variance=lambda values: np.var(values.to_numpy()), n="size")
        found = experiment.intervals(settings, answer_format).rename(columns={"estimate": "mean"})
        about = {"model": name_of(settings), "train": "BASE", "test": "BASE", "format": answer_format}
        parts.append(found.join(spread, on="dataset").assign(**about)[SHIFTS])
        manifests += slopes.attrs["manifests"]
    return pd.concat(parts, ignore_index=True), manifests


def with_published(runs: Sequence[Settings], answer_format: str) -> Found:
    """SHIFTS of several profiles and, in distribution and out of it, of the paper's models with all data sets."""
    ours, manifests = over_models(runs, answer_format)
    theirs = published.shifts().query("model in ['llama2-7b', 'qwen1.5-14b', 'gemma-2-2b']")
    again = ours["model"].isin(theirs["model"])  # one of the paper's models, computed here
    ours["model"] = ours["model"].mask(again, ours["model"] + " (ours)")
    return pd.concat([ours, theirs], ignore_index=True), manifests


def all_correlations(runs: Mapping[str, Sequence[Settings]]) -> Found:
    """Correlations of every profile and format above the published ones."""
    parts, manifests = [], []
    for form, chosen in runs.items():
        table, found = over_models(chosen, form)
        parts.append(correlations(table).assign(format=form))
        manifests += found
    theirs = published.shifts().query("model in ['llama2-7b', 'qwen1.5-14b']")
    parts.append(correlations(theirs).assign(format="letter, published"))
    table = pd.concat(parts, ignore_index=True)
    numbers = table.select_dtypes(np.number).columns
    return table.assign(**table[numbers].round(3))[["format", *table.columns.drop("format")]], manifests


def correlations(shifts: pd.DataFrame, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Correlate steerability in distribution with that under each published shift, over data sets (figure 5).

    One row for each model of a SHIFTS table, shift and measure ("mean" and "variance" of the slopes of a data set):
    model, train, test, measure, and the values of `correlate`, whose bootstrap is over data sets.
    """
    rows = []
    for model, measure, shift in product(shifts["model"].unique(), MEASURES, MOVED):
        both = paired(shifts, (model, *SAME), (model, *shift), measure)
        found = f"{len(both)} with {measure}s of {model} in BASE->BASE and in {'->'.join(shift)}"
        step = "run more data sets, or leave this model out."
        _computable(not 0 < len(both) < 3, "three data sets or more for a correlation", found, step)
        about = {"model": model, "train": shift[0], "test": shift[1], "measure": measure}
        rows.append(about | dict(correlate(both, draws, seed)))
    table = pd.DataFrame(rows)
    found = f"only {some(shifts['train'] + '->' + shifts['test'])}"
    expected, step = "BASE->BASE and one of the published shifts", "run the prompt settings first."
    _computable(len(table) > 0 and table["n"].any(), expected, found, step)
    return table


def between_models(
    shifts: pd.DataFrame, train: str, test: str, measure: Measure = "mean", draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Rank-correlate the steerability of every two models over the data sets that all models have (figure 6).

    `shifts` is a SHIFTS table of two or more models, whatever their units: ranks do not depend on them. One row a pair,
    in the order of the table: first, second, spearman, low, high (95% interval), n, and reason (why they are NaN, else
    empty). ``attrs["left_out"]`` lists models without a value for the shift.
    """
    wide, rows = common_sets(shifts, train, test, measure), []
    for first, second in combinations(wide.columns, 2):
        found = correlate(wide[[first, second]].set_axis(["x", "y"], axis=1), draws, seed)
        rows.append((first, second, *found[["spearman", "spearman_low", "spearman_high", "n", "reason"]]))
    table = pd.DataFrame(rows, columns=["first", "second", "spearman", "low", "high", "n", "reason"])
    table.attrs["left_out"] = [model for model in shifts["model"].unique() if model not in wide]
    return table


def common_sets(shifts: pd.DataFrame, train: str, test: str, measure: Measure = "mean") -> pd.DataFrame:
    """One column a model, one row a data set that all of them have."""
    rows = _unique(shifts).query("train == @train and test == @test")
    wide = rows.pivot(index="dataset", columns="model", values=measure).dropna(axis=1, how="all")
    wide = wide[[model for model in shifts["model"].unique() if model in wide]].dropna()
    expected = f"two models or more with {measure}s for {train}->{test} on three common data sets or more"
    found = f"{len(wide.columns)} ({', '.join(wide.columns) or 'none'}) on {len(wide)}"
    step = "run another model, or add the published rows (companion.published.shifts)."
    _computable(len(wide.columns) >= 2 and len(wide) >= 3, expected, found, step)
    return wide


def paired(
    shifts: pd.DataFrame, first: tuple[str, str, str], second: tuple[str, str, str], measure: Measure
) -> pd.DataFrame:
    """The data sets that have both values, of two (model, train, test): sorted index dataset, columns x and y."""
    values = _unique(shifts).set_index(["model", "train", "test", "dataset"])[measure].dropna()
    known = values.index.droplevel("dataset")
    sides = [values[known == key].droplevel([0, 1, 2]) for key in (first, second)]
    return pd.concat(sides, axis=1, keys=["x", "y"], join="inner").sort_index()


def correlate(both: pd.DataFrame, draws: int = 2000, seed: int = 0) -> pd.Series:
    """Spearman and Pearson of the columns x and y over data sets.

    n, spearman, spearman_low, spearman_high, pearson, pearson_low, pearson_high (95% intervals), and reason: why all
    are NaN (fewer than three data sets, or a constant side), else empty.
    """
    x, y = both["x"].to_numpy(), both["y"].to_numpy()
    flat = [side for side, values in (("first", x), ("second", y)) if len(values) and np.ptp(values) == 0]
    reason = f"{' and '.join(flat)} side constant" if flat else ""
    if len(both) < 3:
        reason = "fewer than three data sets" if len(both) else "not measured"
    if reason:
        return pd.Series({"n": len(both), **dict.fromkeys(SIDES, np.nan), "reason": reason})
    ranks = rank_correlation(x, y, np.random.default_rng(seed), draws)
    sample = np.random.default_rng(seed).integers(len(x), size=(len(x), draws))
    low, high = np.nanquantile(_pearson(x[sample], y[sample]), [0.025, 0.975])
    values = (ranks.estimate, ranks.low, ranks.high, float(_pearson(x[:, None], y[:, None])[0]), low, high)
    return pd.Series({"n": len(both), **dict(zip(SIDES, values, strict=True)), "reason": ""})


def _pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Correlation of each column of x and y [n, draws]; NaN where a column is constant."""
    varies = (np.ptp(x, axis=0) > 0) & (np.ptp(y, axis=0) > 0)  # centred, a constant may be 1e-17 and not 0
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    scale = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    return np.divide((x * y).sum(axis=0), scale, out=np.full(len(scale), np.nan), where=varies)


def _unique(shifts: pd.DataFrame) -> pd.DataFrame:
    """The table itself, when it has the columns, each key once and no infinite values."""
    missing = ", ".join(name for name in (*KEY, *MEASURES) if name not in shifts)
    _computable(not missing, "a SHIFTS table", f"no {missing}", "make it with shift_table.")
    twice = shifts.duplicated(KEY)
    infinite = np.isinf(shifts[list(MEASURES)].to_numpy(dtype=np.float64)).any(axis=1)
    if twice.any() or infinite.any():
        row = "/".join(shifts.loc[twice | infinite, KEY].iloc[0])
        found = f"{twice.sum()} repeated and {infinite.sum()} infinite rows, first {row}"
        expected = f"each {', '.join(KEY)} once, with finite values"
        _computable(False, expected, found, "rename one of the models.")
    return shifts


def some(values: Iterable[object]) -> str:
    """Six of the values at most, as words."""
    return ", ".join(sorted({str(value) for value in values})[:6])
