"""What the notebooks of figures 5 to 7 ask for: tables over prompt settings, and what a run shows in their place."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr
from test_shifts import make_slopes

from companion import models, published
from companion.page import BOOK_FORMATS, Run
from companion.profiles import load_profile
from companion.tan import experiment, tables
from companion.tan.jobs import MEAN
from companion.templates import SETTINGS
from steerkit.errors import SteerkitError
from steerkit.formats import FORMATS

NAMES = (*SETTINGS, MEAN)
SETS = tuple(published.datasets().index[:6])


@pytest.fixture
def three(monkeypatch):
    """Three profiles with random slopes of six data sets of the paper, each with a manifest of its own."""
    plain = load_profile("smoke")
    runs = [replace(plain, profile=f"p{i}", model=f"m{i}", seed=i) for i in range(3)]

    def slopes(settings, answer_format):
        table = make_slopes(SETS, vectors=NAMES, seed=settings.seed).assign(format=answer_format)
        table.attrs = {"manifests": [{"name": f"{settings.model}-{answer_format}"}]}
        return table

    monkeypatch.setattr(experiment, "shift_slopes", slopes)
    return runs


def names(manifests: list[dict]) -> list[str]:
    return [manifest["name"] for manifest in manifests]


class TestOfOneProfile:
    def test_the_same_model_on_the_papers_data_has_another_name(self):
        plain = load_profile("smoke")
        assert tables.name_of(plain) == "tiny"
        assert tables.name_of(replace(plain, source="papers")) == "tiny (papers' data)"

    @pytest.mark.parametrize("form", BOOK_FORMATS)
    def test_cosines_are_those_of_the_vectors_in_the_store(self, smoke, form):
        from companion.tan import jobs
        from companion.tan.jobs import vectors_by_setting

        table, manifests = tables.cosines_of(smoke.settings, form)
        assert len(table) == 3 * 15 and len(manifests) == 3
        layer = experiment.layer_of(smoke.settings, form)
        for name, part in table.groupby("dataset"):
            job = jobs.Job(smoke.settings, "shift", name, form, layer)
            kept = vectors_by_setting(job, models.model_of("tiny"))
            vectors = dict(zip(kept.names, kept.values[:, 0].double().numpy(), strict=True))
            assert list(zip(part["first"], part["second"], strict=True)) == list(combinations(NAMES, 2))
            for first, second, cosine in zip(part["first"], part["second"], part["cosine"], strict=True):
                a, b = vectors[first], vectors[second]
                assert cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-6)

    def test_there_are_no_rows_where_nothing_steers_more_than_the_minimum(self, three):
        slopes = experiment.shift_slopes(three[0], "letter").query("vector == setting")
        largest = slopes.groupby(["dataset", "setting"])["steerability"].mean().max()
        table, manifests = tables.relative_of(three[0], "letter", largest)
        assert table.empty and "diagonal" in table and names(manifests) == ["m0-letter"]
        assert len(tables.relative_of(three[0], "letter", largest - 1e-9)[0]) == 5


class TestOverModels:
    def test_profiles_stand_one_below_the_other(self, three):
        table, manifests = tables.over_models(three, "letter")
        assert list(table["model"].unique()) == ["m0", "m1", "m2"] and len(table) == 3 * 6 * 6 * 5
        assert list(table.index) == list(range(len(table)))
        assert names(manifests) == ["m0-letter", "m1-letter", "m2-letter"]
        assert tables.pairs_of_models(table) == [("m0", "m1"), ("m0", "m2"), ("m1", "m2")]
        alone = tables.shifts_of(three[1], "letter")[0]
        pd.testing.assert_frame_equal(table[table["model"] == "m1"].reset_index(drop=True), alone)

    def test_published_rows_come_after_ours_and_have_no_manifest(self, three):
        table, manifests = tables.with_published(three[:1], "letter")
        assert list(table["model"].unique()) == ["m0", "llama2-7b", "qwen1.5-14b", "gemma-2-2b"]
        theirs = published.shifts().query("model == 'qwen1.5-14b'")
        ours = table.query("model == 'qwen1.5-14b'")
        assert ours["mean"].to_numpy() == pytest.approx(theirs["mean"].to_numpy(), nan_ok=True)
        assert names(manifests) == ["m0-letter"]

    def test_correlations_are_those_of_scipy_and_the_papers_own_come_last(self, three):
        table, manifests = tables.all_correlations(dict.fromkeys(("statement", "letter"), three))
        assert list(table["format"].unique()) == ["statement", "letter", "letter, published"]
        per_model = 2 * len(tables.MOVED)  # means and variances
        assert len(table) == (2 * 3 + 2) * per_model and len(manifests) == 6
        wide, _ = tables.over_models(three, "letter")
        for row in table.query("format == 'letter'").to_dict("records"):
            own = wide[wide["model"] == row["model"]].set_index("dataset")
            x = own.query("train == 'BASE' and test == 'BASE'")[row["measure"]]
            y = own[(own["train"] == row["train"]) & (own["test"] == row["test"])][row["measure"]]
            assert row["n"] == len(SETS)
            assert row["spearman"] == pytest.approx(spearmanr(x, y.reindex(x.index)).statistic, abs=5.1e-4)
            assert row["pearson"] == pytest.approx(pearsonr(x, y.reindex(x.index)).statistic, abs=5.1e-4)
        stated = table.query("format == 'letter, published' and measure == 'mean' and model == 'llama2-7b'")
        stated = stated.set_index(["train", "test"])["spearman"]
        for train, test in tables.MOVED:
            expected = published.statistic(f"spearman-id-ood:{train}->{test}", "llama2-7b")
            assert stated[train, test] == pytest.approx(expected, abs=0.006)


class TestRun:
    """What a notebook's parameters come to."""

    def run(self, profile: str = "smoke", folder=None) -> Run:
        return Run("tan-fig-5", load_profile(profile), folder)

    @pytest.mark.parametrize(
        ("given", "expected"),
        [("both", BOOK_FORMATS), ("all", FORMATS), ("yes-no,letter", ("yes-no", "letter"))],
    )
    def test_formats_have_two_short_names_and_may_be_joined(self, given, expected):
        assert self.run().formats(given) == expected

    @pytest.mark.parametrize("given", ["", "letter,prose"])
    def test_an_unknown_format_is_refused(self, given):
        with pytest.raises(SteerkitError, match="an answer format"):
            self.run().formats(given)

    @pytest.mark.parametrize("given", ["both", "prose"])
    def test_the_profile_published_runs_nothing(self, given):
        run = self.run("published")
        assert run.published and run.formats(given) == () and not self.run().published
        assert [s.profile for s in run.compared("", "shift", run.formats(given))] == ["published"]

    def test_a_model_is_named_with_the_data_when_they_are_the_papers(self):
        assert self.run().model_label == "tiny random model"
        papers = Run("x", replace(load_profile("laptop"), source="papers"), None)
        assert papers.model_label == "SmolLM2-135M-Instruct on the papers' data"

    def test_a_gap_says_in_the_place_of_a_figure_why_there_is_none(self, smoke, own_folders, capsys):
        run = self.run(folder=own_folders)
        _, manifests = tables.relative_of(smoke.settings, "letter", 1e9)
        run.show_gap("letter", "Nothing steers more than <1e9>.", manifests)
        frame = pd.read_csv(own_folders / "tan-fig-5-letter.csv")
        assert frame.to_dict("list") == {"no figure, because": ["Nothing steers more than <1e9>."]}
        about = json.loads((own_folders / "tan-fig-5-letter.json").read_text())
        assert about["caption"] == "Nothing steers more than <1e9>." and about["alt"] == ""
        assert len(about["artefacts"]) == 3 and about["profile"] == "smoke" and "smoke" in about["line"]
        assert not list(own_folders.glob("*.png"))
