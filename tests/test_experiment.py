"""The protocol as tables: what they hold, that nothing is computed twice, that training never sees a test item."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_model import activations, propensities, strings

from companion import models, store
from companion.data.datasets import load_dataset
from companion.data.splits import group_items
from companion.profiles import override
from companion.tan import experiment, jobs
from companion.tan.jobs import Job
from steerkit.errors import SteerkitError
from steerkit.steerability import SLOPES
from steerkit.vectors import Vectors

FORMATS = ("letter", "statement")
LABELS = "dataset example_id format positive_letter positive_answer vector layer multiplier".split()
GRID = [*LABELS, "matching", "not_matching", "propensity"]
PAIRS = {"letter": 2, "statement": 1, "yes-no": 2}  # examples a pair makes


@pytest.fixture
def stop(monkeypatch):
    """From here on, computing anything is a failure."""
    monkeypatch.setattr(experiment, "compute", lambda *_: pytest.fail("computed although the table is there"))


@pytest.fixture
def one(own_folders, smoke_store):
    """Settings with one data set, and an empty folder for artefacts."""
    return override(smoke_store.settings, datasets="openness")


class TestTables:
    @pytest.mark.parametrize("form", FORMATS)
    def test_the_grid_has_a_row_a_data_set_example_vector_and_multiplier(self, smoke, stop, form):
        table, settings = experiment.grid(smoke.settings, form), smoke.settings
        examples = settings.test * PAIRS[form]
        vectors = ["full", "random-00", "resample-00", "resample-01"]
        assert list(table.columns) == GRID
        assert len(table) == len(settings.datasets) * examples * len(vectors) * len(settings.multipliers)
        assert sorted(table["vector"].unique()) == vectors
        assert tuple(table["dataset"].unique()) == settings.datasets
        assert not table.duplicated(["dataset", "example_id", "vector", "multiplier"]).any()
        assert np.allclose(table["propensity"], table["matching"] - table["not_matching"], atol=1e-12)
        assert set(table["layer"]) == {experiment.layer_of(settings, form)}

    @pytest.mark.parametrize("form", FORMATS)
    def test_the_sweep_has_every_layer_and_the_full_vector_only(self, smoke, stop, form):
        table, sweep = experiment.sweep(smoke.settings, form), smoke.settings.sweep
        examples = sweep.test * PAIRS[form]
        assert len(table) == len(smoke.settings.datasets) * examples * 4 * len(sweep.multipliers)
        assert set(table["vector"]) == {"full"} and sorted(table["layer"].unique()) == [0, 1, 2, 3]

    @pytest.mark.parametrize("form", FORMATS)
    def test_slopes_are_those_of_a_polynomial_fit(self, smoke, stop, form):
        slopes, grid = experiment.slopes(smoke.settings, form), experiment.grid(smoke.settings, form)
        assert list(slopes.columns) == SLOPES and len(slopes) == len(grid) / len(smoke.settings.multipliers)
        fitted = grid.groupby(["dataset", "example_id", "vector"])[["multiplier", "propensity"]].apply(
            lambda part: np.polyfit(part["multiplier"], part["propensity"], 1)[0]
        )
        ours = slopes.set_index(["dataset", "example_id", "vector"])["steerability"]
        assert np.allclose(ours, fitted.loc[ours.index], atol=1e-9)

    @pytest.mark.parametrize("form", FORMATS)
    def test_intervals_hold_the_mean_and_the_placebo_of_each_data_set(self, smoke, stop, form):
        table = experiment.intervals(smoke.settings, form, draws=200)
        slopes = experiment.slopes(smoke.settings, form)
        assert list(table.columns) == ["dataset", "estimate", "low", "high", "random", "sources"]
        assert list(table["dataset"]) == list(smoke.settings.datasets)
        assert (table["low"] < table["high"]).all()
        mean = slopes.groupby(["dataset", "vector"])["steerability"].mean().unstack()
        assert np.allclose(table["estimate"], mean.loc[table["dataset"], "full"])
        assert np.allclose(table["random"], mean.loc[table["dataset"], "random-00"])

    def test_every_part_brings_its_manifest(self, smoke, stop):
        manifests = experiment.slopes(smoke.settings, "letter").attrs["manifests"]
        assert [about["inputs"]["dataset"] for about in manifests] == list(smoke.settings.datasets)
        assert {about["engine"] for about in manifests} == {"tree"} and "self-check" in manifests[0]["reason"]
        assert {(about["train_examples"], about["test_examples"]) for about in manifests} == {(8, 12)}


class TestNumbers:
    @pytest.mark.parametrize("form", FORMATS)
    def test_a_naive_recomputation_agrees(self, smoke, stop, form):
        """Vector, steering and score from plain transformers, one forward a number; a line through them."""
        settings, name = override(smoke.settings, datasets="openness"), "openness"
        layer = experiment.layer_of(smoke.settings, form)
        model = models.model_of("tiny")
        train, test = jobs.examples(Job(settings, "grid", name, form, layer), model)
        pairs = [[answer_mean(model, one, side, layer) for side in (0, 1)] for one in train]
        vector = torch.stack([matching - other for matching, other in pairs]).mean(0)
        vectors = Vectors(("full",), (layer,), vector[None, None])
        found = propensities(model, test[:3], vectors, [layer], [-1.5, 0.0, 1.5])
        expected = [np.polyfit([-1.5, 0.0, 1.5], line, 1)[0] for line in found[:, 0, 0]]
        slopes = experiment.slopes(smoke.settings, form).query("dataset == @name and vector == 'full'")
        ours = slopes.set_index("example_id").loc[[example.id for example in test[:3]], "steerability"]
        assert np.allclose(ours, expected, atol=1e-5) and np.ptp(expected) > 1e-3

    @pytest.mark.parametrize("form", FORMATS)
    def test_the_direct_engine_gives_the_same_slopes(self, smoke, one, form):
        chosen = replace(one, layer={form: experiment.layer_of(one, form)}, resamples={}, random_vectors=0)
        tree, direct = (experiment.slopes(replace(chosen, engine=name), form) for name in ("tree", "direct"))
        assert np.allclose(tree["steerability"], direct["steerability"], atol=1e-5)
        assert {about["engine"] for about in direct.attrs["manifests"]} == {"direct"}


def answer_mean(model, example, side: int, layer: int) -> torch.Tensor:
    """Mean activation [d] over the answer's tokens."""
    start = len(example.prompt) + len(example.lead)
    answer = (example.matching, example.not_matching)[side]
    return activations(model, strings(example)[side], [layer])[0, start : start + len(answer)].mean(0)


class TestLayers:
    def test_a_layer_that_is_set_is_taken_without_a_sweep(self, one, stop):
        assert experiment.layer_of(override(one, layer=2), "statement") == 2

    @pytest.mark.parametrize("form", FORMATS)
    def test_else_the_sweep_chooses_the_layer_with_the_highest_mean_over_data_sets(self, smoke, stop, form):
        table = experiment.sweep(smoke.settings, form)
        key = ["dataset", "example_id", "layer"]
        ends = table.pivot(index=key, columns="multiplier", values="propensity")
        by_layer = (ends[1.5] - ends[-1.5]).groupby(["dataset", "layer"]).mean().groupby("layer").mean()
        assert experiment.layer_of(smoke.settings, form) == by_layer.idxmax()

    def test_the_earliest_of_equal_layers_is_chosen(self, smoke):
        summary = experiment.layer_summary(smoke.settings, "letter").assign(mean=1.0)
        assert experiment.choose_layer(summary.sort_values("layer", ascending=False)) == 0

    @pytest.mark.parametrize("layer", [4, 99, -3])
    def test_a_layer_the_model_lacks_is_refused_and_nothing_is_written(self, one, layer):
        with pytest.raises(SteerkitError, match="a layer from 0 to 3 of tiny"):
            experiment.grid(replace(one, layer={"letter": layer}), "letter")
        assert not list(store.artifacts_dir().glob("[!.]*"))


class TestLeakage:
    @pytest.mark.parametrize(
        ("name", "form"),
        [("narcissism", "yes-no"), *((name, f) for name in ("narcissism", "myopic-reward") for f in FORMATS)],
    )
    def test_no_test_item_shares_a_group_with_a_training_item_of_any_stage(self, smoke_store, name, form):
        settings = replace(smoke_store.settings, train=None, test=None)
        settings = replace(settings, sweep=replace(settings.sweep, train=None, test=None))
        items = load_dataset(name).items
        group_of = dict(zip((item.id for item in items), group_items(items), strict=True))
        parts = {}
        for stage, layer in (("grid", 0), ("sweep", None)):
            made = jobs.examples(Job(settings, stage, name, form, layer), models.model_of("tiny"))
            parts[stage] = [{group_of[example.id] for example in part} for part in made]
        train, test = parts["grid"]
        assert len(train) == 24 and len(test) == 30 and not train & test
        assert parts["sweep"][0] and parts["sweep"][1] and not parts["sweep"][0] & parts["sweep"][1]
        assert not test & (parts["sweep"][0] | parts["sweep"][1])
