"""Shifts of prompt setting: against naive loops, scipy, and the numbers that the paper states."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics.pairwise import cosine_similarity

from companion import published
from companion.tan import tables
from companion.tan.jobs import MEAN, pairwise
from companion.templates import SETTINGS
from steerkit.errors import SteerkitError
from steerkit.stats import bootstrap
from steerkit.steerability import SLOPES

SETS = ("openness", "narcissism", "myopic-reward", "my-own-set")
MODELS = ("llama2-7b", "qwen1.5-14b")


def make_slopes(sets=SETS, items: int = 6, seed: int = 0, vectors=(*SETTINGS, MEAN, "random-00")):
    """OOD SLOPES of random numbers; baselines depend on the setting and the example, not on the vector."""
    rng = np.random.default_rng(seed)
    rows = []
    for name in sets:
        base = rng.normal(size=(len(SETTINGS), items))
        for vector, (s, setting) in product(vectors, enumerate(SETTINGS)):
            for i in range(items):
                row = {"dataset": name, "example_id": f"{name}/{i}", "format": "statement", "vector": vector}
                scores = {"steerability": rng.normal(0.6), "baseline": base[s, i]}
                rows.append(row | scores | {"setting": setting, "layer": 12})
    return pd.DataFrame(rows).reindex(columns=[*SLOPES, "setting"])


def make_vectors(sets=SETS, seed: int = 1) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    vectors = {name: {s: rng.normal(size=7) for s in SETTINGS} for name in sets}
    return {name: own | {MEAN: sum(own.values()) / 5} for name, own in vectors.items()}


def some_shifts(values: dict[str, list[float]], model: str = "m", variance: float = 1.0) -> pd.DataFrame:
    """A SHIFTS table from lists of means by 'train->test'."""
    rows = [
        (f"set-{i}", model, *shift.split("->"), mean, variance * (i + 1))
        for shift, means in values.items()
        for i, mean in enumerate(means)
    ]
    return pd.DataFrame(rows, columns=["dataset", "model", "train", "test", "mean", "variance"])


# The table of shifts


def test_a_row_of_the_table_is_the_mean_variance_and_interval_of_its_examples():
    slopes = make_slopes()
    table = tables.shift_table(slopes, "smollm2-135m", draws=200)
    assert list(table.columns[:9]) == "dataset model train test mean low high variance n".split()
    assert len(table) == len(SETS) * 7 * 5 and set(table["model"]) == {"smollm2-135m"}
    chosen = "dataset == 'narcissism' and {} == 'SYS_POS' and {} == 'USER_NEG'"
    values = slopes.query(chosen.format("vector", "setting"))["steerability"].to_numpy()
    row = table.query(chosen.format("train", "test")).iloc[0]
    interval = bootstrap(values, draws=200)
    assert row[["mean", "variance", "n"]].tolist() == pytest.approx([values.mean(), np.var(values), 6])
    assert (row["low"], row["high"]) == (interval.low, interval.high)


def test_the_interval_draws_the_examples_of_a_group_together():
    slopes = make_slopes(("openness",), items=8, vectors=("BASE",))
    pair = slopes["example_id"].str.rpartition("/")[2].astype(int) // 2
    slopes["steerability"] = pair.astype(float)  # both of a pair are equal: single draws would be too sure
    single = tables.shift_table(slopes, "m", 500).iloc[0]
    paired = tables.shift_table(slopes.assign(group=pair), "m", 500).iloc[0]
    assert paired["high"] - paired["low"] > 1.2 * (single["high"] - single["low"])
    assert paired["mean"] == single["mean"]


def test_the_order_of_the_rows_does_not_change_the_table():
    slopes = make_slopes()
    key = ["dataset", "train", "test"]
    first, second = (
        tables.shift_table(rows, "m", 50).sort_values(key, ignore_index=True)
        for rows in (slopes, slopes.sample(frac=1, random_state=3))
    )
    pd.testing.assert_frame_equal(first, second)


def test_a_single_example_has_no_interval():
    row = tables.shift_table(make_slopes(items=1), "m").iloc[0]
    assert row["n"] == 1 and np.isnan([row["low"], row["high"]]).all() and np.isfinite(row["mean"])


# Correlations over data sets


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shift", published.tan()["shifts"][1:])
def test_correlations_of_the_published_values_are_those_of_the_paper(model, shift):
    rows = published.shifts().query("model == @model")
    table = tables.correlations(rows, draws=20).set_index(["train", "test", "measure"])
    mean, variance = (table.loc[(*shift.split("->"), measure)] for measure in ("mean", "variance"))
    names = ("spearman-id-ood", "pearson-id-ood", "spearman-id-ood-variance")
    stated = {name: published.statistic(f"{name}:{shift}", model) for name in names}
    assert mean["n"] == variance["n"] == 39 and mean["reason"] == ""
    assert mean["spearman"] == pytest.approx(stated["spearman-id-ood"], abs=0.005)
    assert mean["pearson"] == pytest.approx(stated["pearson-id-ood"], abs=0.005)
    assert variance["spearman"] == pytest.approx(stated["spearman-id-ood-variance"], abs=0.005)


@pytest.mark.parametrize(("model", "stated"), [("llama2-7b", 0.536), ("qwen1.5-14b", 0.341)])
def test_the_correlation_of_variances_that_the_paper_states_is_reproduced(model, stated):
    table = tables.correlations(published.shifts(), draws=10)
    row = table.query("model == @model and train == 'SYS_POS' and measure == 'variance'")
    assert row["spearman"].item() == pytest.approx(stated, abs=0.005)
    gap = table[table["n"] == 0]  # models of which nothing is published
    assert set(gap["reason"]) == {"not measured"} and gap["spearman"].isna().all()
    assert set(table.loc[table["n"] > 0, "model"]) == {*MODELS, "gemma-2-2b"}


def test_correlations_agree_with_scipy_and_their_intervals_with_a_loop():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, 9))
    values = {"BASE->BASE": list(x)} | {"->".join(s): list(y) for s in tables.MOVED}
    row = tables.correlations(some_shifts(values), draws=400, seed=5).iloc[0]
    assert row["spearman"] == pytest.approx(spearmanr(x, y).statistic)
    assert row["pearson"] == pytest.approx(pearsonr(x, y).statistic)
    picks = np.random.default_rng(5).integers(9, size=(9, 400)).T
    for name, statistic in (("spearman", spearmanr), ("pearson", pearsonr)):
        drawn = [statistic(x[pick], y[pick]).statistic for pick in picks]
        expected = np.quantile(drawn, [0.025, 0.975])
        assert row[[f"{name}_low", f"{name}_high"]].tolist() == pytest.approx(list(expected))


def test_a_constant_side_gives_nan_with_the_reason():
    values = {"BASE->BASE": [0.1, 0.2, 0.3], "BASE->USER_NEG": [0.1] * 3}
    table = tables.correlations(some_shifts(values, variance=0.0), draws=20)
    mean, variance = (table[(table["measure"] == m) & (table["n"] == 3)].iloc[0] for m in tables.MEASURES)
    assert mean["reason"] == "second side constant" and np.isnan(mean["pearson"])
    assert variance["reason"] == "first and second side constant" and np.isnan(variance["spearman_low"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"BASE->BASE": [0.1, 0.2], "BASE->USER_NEG": [0.1, 0.3]}, "or more.*found 2 with means"),
        ({"BASE->BASE": [0.1, 0.2, 0.3]}, "found only BASE->BASE"),
        ({"BASE->BASE": [0.1, 0.2, np.inf], "BASE->USER_NEG": [1.0, 2.0, 3.0]}, "1 infinite rows"),
    ],
)
def test_too_few_data_sets_or_shifts_are_refused(values, message):
    with pytest.raises(SteerkitError, match=message):
        tables.correlations(some_shifts(values))


def test_a_model_that_comes_twice_is_refused():
    rows = published.shifts()
    with pytest.raises(SteerkitError, match=r"repeated.*rename one of the models"):
        tables.correlations(pd.concat([rows, rows.query("model == 'gemma-2-2b'").assign(n=9)]))


# Between models


@pytest.mark.parametrize(
    ("models", "setting", "name", "sets"),
    [
        (3, tables.SAME, "spearman-matrix-id", 38),
        (3, ("SYS_POS", "USER_NEG"), "spearman-matrix-ood", 38),
        (4, tables.SAME, "spearman-matrix-id-31", 31),
    ],
)
def test_the_scatter_matrices_of_the_paper_are_reproduced(models, setting, name, sets):
    names = list(published.tan()["models"])[:models]
    table = tables.between_models(published.shifts().query("model in @names"), *setting, draws=10)
    assert list(zip(table["first"], table["second"], strict=True)) == list(combinations(names, 2))
    assert set(table["n"]) == {sets}
    for _, row in table.iterrows():
        stated = published.statistic(name, f"{row['first']}/{row['second']}")
        assert row["spearman"] == pytest.approx(stated, abs=0.01)


@pytest.mark.parametrize(("setting", "stated"), [(("BASE", "BASE"), 0.769), (("SYS_POS", "USER_NEG"), 0.586)])
def test_the_correlation_between_the_papers_two_models_is_reproduced(setting, stated):
    table = tables.between_models(published.shifts().query("model in @MODELS"), *setting)
    assert len(table) == 1 and table["n"].item() == 38
    assert table["spearman"].item() == pytest.approx(stated, abs=0.0005)
    assert table["low"].item() < stated < table["high"].item()


def test_models_without_a_value_for_the_shift_are_named_and_left_out():
    table = tables.between_models(published.shifts(), "SYS_POS", "USER_NEG", draws=10)
    assert table.attrs["left_out"] == ["llama3.1-70b"] and len(table) == 3


def test_fewer_than_two_models_or_three_common_sets_are_refused():
    rows = published.shifts()
    with pytest.raises(SteerkitError, match=r"two models or more.*found 1 \(gemma-2-2b\)"):
        tables.between_models(rows.query("model == 'gemma-2-2b'"), "BASE", "BASE")
    with pytest.raises(SteerkitError, match=r"found 0 \(none\)"):
        tables.between_models(rows, "USER_POS", "USER_POS")
    other = some_shifts({"BASE->BASE": [1.0, 2.0, 3.0]})
    with pytest.raises(SteerkitError, match="on 0"):
        tables.between_models(pd.concat([other, rows.query("model == 'gemma-2-2b'")]), "BASE", "BASE")


# Relative steerability


def naive_relative(slopes: pd.DataFrame, minimum: float) -> tuple[dict, int]:
    """Straight from the definition, one number at a time."""
    found, dropped = {}, 0
    for name, a, b in product(SETS, SETTINGS, SETTINGS):

        def values(column, vector, setting, name=name):
            rows = slopes[(slopes.dataset == name) & (slopes.vector == vector) & (slopes.setting == setting)]
            return rows.sort_values("example_id")[column].to_numpy()

        own = values("steerability", b, b).mean()
        if own <= minimum:
            dropped += 1
            continue
        changes = np.abs(values("baseline", a, a) - values("baseline", a, b))
        ratio = values("steerability", a, b).mean() / abs(own)
        found[name, a, b] = (ratio, changes.mean(), own, a == b)
    return found, dropped


@pytest.mark.parametrize("minimum", [0.25, 0.7])
def test_relative_steerability_is_that_of_a_naive_loop(minimum):
    slopes = make_slopes()
    expected, dropped = naive_relative(slopes, minimum)
    table = tables.relative(slopes.sample(frac=1, random_state=1), "m", minimum)
    assert table.attrs["filtered"] == dropped > 0
    assert len(table) == len(expected) == 100 - dropped
    for _, row in table.iterrows():
        values = row[["relative", "distance", "own", "diagonal"]].tolist()
        assert values == pytest.approx(expected[row["dataset"], row["train"], row["test"]])


def test_the_diagonal_is_one_at_distance_zero_and_other_vectors_do_not_count():
    slopes = make_slopes()
    table = tables.relative(slopes, "m")
    diagonal = table[table["diagonal"]]
    assert (diagonal["relative"] == 1).all() and (diagonal["distance"] == 0).all()
    assert set(table["train"]) <= set(SETTINGS)
    pd.testing.assert_frame_equal(table, tables.relative(slopes[slopes["vector"].isin(SETTINGS)], "m"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s[(s["vector"] != "SYS_NEG")], "none for SYS_NEG"),
        (lambda s: s.assign(baseline=np.nan), "6 examples or more without in"),
        (
            lambda s: s[s["example_id"].ne("openness/2") | s["setting"].ne("BASE")],
            "1 examples or more without",
        ),
        (lambda s: s[s["setting"] != "BASE"], "more without in BASE"),
        (lambda s: s[s["vector"] == "MEAN"], "none for any of them"),
    ],
)
def test_relative_steerability_without_its_parts_is_refused(change, message):
    with pytest.raises(SteerkitError, match=message):
        tables.relative(change(make_slopes()), "m")


# Cosines


def pairs_of(vectors: dict[str, dict[str, np.ndarray]]) -> dict[str, list]:
    return {name: pairwise(own) for name, own in vectors.items()}


def test_cosines_and_distances_are_those_of_a_naive_loop():
    slopes, vectors = make_slopes(), make_vectors()
    vectors["openness"]["random-00"] = np.ones(7)  # is left out
    table = tables.cosines(pairs_of(vectors), slopes, "m")
    assert len(table) == len(SETS) * 15
    for _, row in table.iterrows():
        own = vectors[row["dataset"]]
        cosine = cosine_similarity([own[row["first"]]], [own[row["second"]]]).item()
        level = slopes[slopes["dataset"] == row["dataset"]].groupby("setting")["baseline"].mean()
        level["MEAN"] = level.mean()
        expected = [cosine, abs(level[row["first"]] - level[row["second"]])]
        assert row[["cosine", "distance"]].tolist() == pytest.approx(expected)


def test_vectors_of_a_set_without_scores_are_refused():
    vectors = {"elsewhere": {"BASE": np.ones(3), "MEAN": np.ones(3)}}
    with pytest.raises(SteerkitError, match="every example of elsewhere"):
        tables.cosines(pairs_of(vectors), make_slopes(), "m")


def test_a_model_without_system_settings_has_the_mean_of_the_others():
    slopes, own = make_slopes(), make_vectors()
    few = {name: {k: v for k, v in some.items() if not k.startswith("SYS")} for name, some in own.items()}
    slopes = slopes[~slopes["setting"].str.startswith("SYS") & ~slopes["vector"].str.startswith("SYS")]
    table = tables.cosines(pairs_of(few), slopes, "m")
    row = table[(table["first"] == "BASE") & (table["second"] == "MEAN")].iloc[0]
    level = slopes[slopes["dataset"] == row["dataset"]].groupby("setting")["baseline"].mean()
    assert len(level) == 3 and row["distance"] == pytest.approx(abs(level["BASE"] - level.mean()))
