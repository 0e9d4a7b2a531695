"""Concept or format: means and shares on finished runs, words and verdicts on made-up ones, ranks against scipy."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from conftest import refused
from scipy.stats import spearmanr

from companion import published
from companion.profiles import load_profile, override
from companion.tan import experiment, texts
from companion.tan.formats import agreement, effects, fullest, headline

FORMATS = ("statement", "letter", "yes-no")
SETS = tuple(published.datasets().index[:12])
COLUMNS = "dataset estimate low high at_zero placebo p profile model source format kind above_zero above_placebo bias_share".split()
SPEED = "computing time of all tables shown, wall times summed"
SHARE = "m: variance explained by the answer in letter, median over sets"


def make_effects(models=("m", "n"), forms=("statement", "letter"), sets=SETS, seed: int = 0) -> pd.DataFrame:
    """Random means of data sets that agree somewhat between models and formats."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=len(sets))
    levels, rows = list(zip(sets, shared, strict=True)), []
    for run in product(models, forms):
        rows += [(*run, name, level + rng.normal(0, 0.7)) for name, level in levels]
    table = pd.DataFrame(rows, columns=["model", "format", "dataset", "estimate"])
    above = {"above_zero": table["estimate"] > 0.5, "above_placebo": table["estimate"] > 1}
    return table.assign(kind="persona", source="bundled", bias_share=np.nan, p=0.5, **above)


def test_a_model_on_two_texts_is_shown_on_the_one_that_was_asked_in_more_formats():
    papers, bundled, qwen = map(load_profile, ("laptop-papers", "laptop-full", "laptop-papers-qwen"))
    every = {"statement": [papers, bundled], "letter": [qwen, papers, bundled], "yes-no": [bundled]}
    assert fullest(every) == {"statement": [bundled], "letter": [qwen, bundled], "yes-no": [bundled]}
    del every["yes-no"]
    assert {each.model for each in fullest(every)["letter"]} == {qwen.model, bundled.model}
    assert len(fullest(every)["statement"]) == 1


def means(table: pd.DataFrame, model: str, form: str) -> pd.Series:
    chosen = table[(table["model"] == model) & (table["format"] == form)]
    return chosen.set_index("dataset")["estimate"]


@pytest.fixture(scope="module")
def table(smoke_store) -> pd.DataFrame:
    """Effects of the three sets of `smoke`, and of another run with two of them, in two formats."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEERKIT_ARTIFACTS", str(smoke_store.folder))
        layers = {form: experiment.layer_of(smoke_store.settings, form) for form in ("statement", "letter")}
        fewer = override(smoke_store.settings, datasets="openness,narcissism")
        both = (smoke_store.settings, replace(fewer, profile="mine", layer=layers))
        return pd.concat([effects({form: [run] for form in layers}) for run in both], ignore_index=True)


class TestEffects:
    def test_there_is_a_row_a_run_format_and_data_set(self, table, smoke_store):
        assert list(table.columns) == COLUMNS and len(table) == 2 * (3 + 2)
        assert not table.duplicated(["profile", "format", "dataset"]).any()
        assert set(table["profile"]) == {"smoke", "mine"} and set(table["model"]) == {"tiny"}
        assert list(table["dataset"][:3]) == list(smoke_store.settings.datasets)
        kinds = [texts.kind_of(name, "papers") for name in ("openness", "myopic-reward")]
        assert kinds == ["persona", "choice"] and set(table["kind"]) == set(kinds)
        refused(effects, {"letter": [load_profile("smoke"), load_profile("smoke")]}, said="found tiny, tiny")

    @pytest.mark.parametrize("form", ["statement", "letter"])
    def test_means_are_those_of_the_slopes_and_flags_those_of_the_interval(self, table, smoke, form):
        slopes = experiment.slopes(smoke.settings, form)
        by_set = slopes.groupby(["vector", "dataset"])["steerability"].mean()
        rows = table[(table["format"] == form) & (table["profile"] == "smoke")].set_index("dataset")
        assert np.allclose(rows["estimate"], by_set["full"][rows.index])
        assert (rows["above_zero"] == (rows["low"] > 0)).all()
        assert (rows["above_placebo"] == (rows["p"] <= 0.05)).all()

    def test_the_share_explained_is_that_of_least_squares_on_letter_and_answer(self, table, smoke):
        slopes = experiment.slopes(smoke.settings, "letter").query("vector == 'full'")
        for name, part in slopes.groupby("dataset"):
            sides = [part["positive_letter"] == "A", part["positive_answer"] == "Yes"]
            design = np.column_stack([np.ones(len(part)), *sides]).astype(float)
            y = part["steerability"].to_numpy()
            expected = 1 - (y - design @ np.linalg.lstsq(design, y, rcond=None)[0]).var() / y.var()
            shares = table[(table["format"] == "letter") & (table["dataset"] == name)]["bias_share"]
            assert len(shares) >= 1 and np.allclose(shares, expected) and 0 < expected < 1
        assert table.loc[table["format"] == "statement", "bias_share"].isna().all()  # it has no letter


class TestAgreement:
    def test_models_on_one_source_and_formats_of_a_model_are_paired_in_this_order(self):
        table = make_effects()
        papers = make_effects(seed=1).assign(source="papers")
        papers["model"] += " (papers' data)"
        pairs = agreement(pd.concat([table, papers], ignore_index=True)).query("sets == 'all'")
        named = [tuple(row) for row in pairs[["kind", "first", "second"]].to_numpy()]
        runs = (("m", "n"), ("m (papers' data)", "n (papers' data)"))
        models = [("models", f"{a}, {form}", f"{b}, {form}") for a, b in runs for form in FORMATS[:2]]
        formats = [("formats", f"{run}, statement", f"{run}, letter") for pair in runs for run in pair]
        assert sorted(named[:4]) == sorted(models) and sorted(named[4:]) == sorted(formats)

    def test_every_estimate_is_that_of_scipy_over_the_sets_of_both_sides(self):
        table = make_effects()
        table = table.drop(table.index[(table["model"] == "n") & table["dataset"].isin(SETS[:4])])
        for row in agreement(table).query("sets == 'all'").itertuples():
            x, y = (means(table, *side.split(", ")) for side in (row.first, row.second))
            both = pd.concat([x, y], axis=1, join="inner")
            assert row.n == len(both) == (12 if row.first == "m, statement" and "m, " in row.second else 8)
            assert row.estimate == pytest.approx(spearmanr(*both.to_numpy().T).statistic)

    @pytest.mark.parametrize("case", ["two sets", "a constant side"])
    def test_what_has_no_correlation_is_nan_and_keeps_its_row(self, case):
        table = make_effects(("m", "n"), ("letter",), SETS[:2] if case == "two sets" else SETS)
        if case == "a constant side":
            table.loc[table["model"] == "n", "estimate"] = 1.0
        pairs = agreement(table)
        assert len(pairs) == 3 and pairs[["estimate", "low", "high"]].isna().all(axis=None)

    def test_a_format_that_favours_a_kind_turns_the_order_over_all_sets_and_not_within_kinds(self):
        table = make_effects(("m",))
        order = table["dataset"].map({name: i for i, name in enumerate(SETS)})
        choice = order % 2 == 0
        level = order + 100 * (choice & (table["format"] == "letter"))
        table = table.assign(kind=choice.map({True: "choice", False: "persona"}), estimate=level)
        found = agreement(table).set_index("sets")["estimate"]
        assert found[["within kinds", "persona", "choice"]].min() == pytest.approx(1) and found["all"] < 0.7


def judged(table: pd.DataFrame, pairs: pd.DataFrame | None = None, seconds=None) -> pd.DataFrame:
    pairs = agreement(table) if pairs is None else pairs
    return headline(table, pairs, seconds or {"smoke": 60.0}).set_index("measure")


class TestHeadline:
    def sets(self, above: int, total: int = 10, shuffled: int = 0) -> pd.DataFrame:
        """One model in `statement` with so many data sets above zero, and above shuffled labels."""
        order = np.arange(total)
        table = pd.DataFrame({"dataset": [f"set-{i}" for i in order], "estimate": order.astype(float)})
        about = {"model": "m", "source": "bundled", "format": "statement", "kind": "persona"}
        about |= {"bias_share": np.nan, "p": 0.5}
        return table.assign(above_zero=order < above, above_placebo=order < shuffled, **about)

    @pytest.mark.parametrize(("above", "total", "met"), [(7, 10, "yes"), (27, 40, "no")])
    def test_seven_in_ten_data_sets_are_asked_for(self, above, total, met):
        row = judged(self.sets(above, total, 3)).loc["m: data sets steerable in statement"]
        assert row["met"] == met and row["expected"] == f"{7 * total // 10} of {total}"
        assert row["found"] == f"{above} of {total} (3 above shuffled labels)"
        row = judged(self.sets(above, total).assign(p=np.nan)).loc["m: data sets steerable in statement"]
        assert row["found"] == f"{above} of {total}"  # no placebos were run

    @pytest.mark.parametrize(("estimate", "met"), [(0.6, "yes"), (0.599, "no"), (np.nan, "no")])
    def test_the_models_agree_from_six_tenths_on(self, estimate, met):
        pairs = pd.DataFrame({"first": ["m, letter", "m, statement"], "estimate": [0.99, estimate]})
        pairs = pairs.assign(kind="models", second="n, statement", n=40, low=0.1, high=0.8, sets="all")
        row = judged(self.sets(7), pairs).loc["Spearman of m, statement with n, statement"]
        assert row["met"] == met and row["expected"] == "at least 0.6"
        assert row["found"] == f"{estimate:.2f} [0.10, 0.80], n = 40"

    @pytest.mark.parametrize(
        ("shares", "minutes", "met"), [((0.1, 0.81, 0.9), 45, "yes"), ((0.7, 0.8, 0.99), 46, "no")]
    )
    def test_the_median_share_and_the_summed_time_are_asked_for(self, shares, minutes, met):
        table = self.sets(7, len(shares)).assign(format="letter", bias_share=list(shares))
        found = judged(table, seconds={"a": 60.0, "b": (minutes - 1) * 60.0})
        assert found["met"][[SHARE, SPEED]].tolist() == [met, met]
        assert found["found"][[SHARE, SPEED]].tolist() == [f"{np.median(shares):.2f}", f"{minutes} minutes"]

    def test_what_was_not_run_has_no_row(self):
        frame = judged(make_effects())
        assert {f"{model}: data sets steerable in statement" for model in "mn"} <= set(frame.index)
        assert "Spearman of m, statement with n, statement" in frame.index
        alone = judged(make_effects(("m",), ("letter",)).assign(bias_share=0.5))
        assert list(alone.index) == [SHARE, SPEED]
