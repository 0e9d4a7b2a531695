"""The protocol as tables: what they hold, that nothing is computed twice, that training never sees a test item."""

from dataclasses import replace

import numpy as np
import pytest
from plain_model import differences, propensities

from companion import models
from companion.data.datasets import load_dataset
from companion.data.splits import group_items
from companion.profiles import override
from companion.tan import experiment, jobs, work
from companion.tan.jobs import Job
from companion.templates import SETTINGS
from steerkit.vectors import Vectors

FORMATS = ("letter", "statement")
LABELS = "dataset example_id format positive_letter positive_answer vector layer multiplier".split()
GRID = [*LABELS, "matching", "not_matching", "propensity"]
PAIRS = {"letter": 2, "statement": 1, "yes-no": 2}  # examples a pair makes


@pytest.fixture
def stop(monkeypatch):
    """From here on, computing anything is a failure."""
    monkeypatch.setattr(work, "compute", lambda *_: pytest.fail("computed although the table is there"))


@pytest.fixture
def one(own_folders, smoke_store):
    """Settings with one data set, and an empty folder for artefacts."""
    return override(smoke_store.settings, datasets="openness")


class TestTables:
    @pytest.mark.parametrize("form", FORMATS)
    def test_grid_and_sweep_have_a_row_a_data_set_example_vector_and_multiplier(self, smoke, stop, form):
        table, settings, sweep = experiment.grid(smoke.settings, form), smoke.settings, smoke.settings.sweep
        assert list(table.columns) == GRID and set(table["vector"]) == {"full"}
        rows = len(settings.datasets) * settings.test * PAIRS[form] * len(settings.multipliers)
        assert len(table) == rows and tuple(table["dataset"].unique()) == settings.datasets
        assert not table.duplicated(["dataset", "example_id", "vector", "multiplier"]).any()
        assert np.allclose(table["propensity"], table["matching"] - table["not_matching"], atol=1e-12)
        assert set(table["layer"]) == {experiment.layer_of(settings, form)}
        table = experiment.sweep(settings, form)  # every layer, and the full vector only
        rows = len(settings.datasets) * sweep.test * PAIRS[form] * 4 * len(sweep.multipliers)
        assert len(table) == rows and set(table["vector"]) == {"full"}
        assert sorted(table["layer"].unique()) == [0, 1, 2, 3]

    @pytest.mark.parametrize("form", FORMATS)
    def test_intervals_hold_the_mean_of_each_data_set_and_its_rank_among_shuffled_labels(self, smoke, form):
        table, beside = experiment.intervals(smoke.settings, form), experiment.placebo(smoke.settings, form)
        slopes = experiment.slopes(smoke.settings, form)
        assert list(table["dataset"]) == list(smoke.settings.datasets)
        assert ((table["low"] < table["estimate"]) & (table["estimate"] < table["high"])).all()
        assert np.allclose(table["estimate"], slopes.groupby("dataset", sort=False)["steerability"].mean())
        means = beside.pivot_table(index="dataset", columns="vector", values="slope").loc[table["dataset"]]
        shuffled = means.filter(like="shuffled")
        higher = (shuffled.to_numpy() >= means[["full"]].to_numpy()).sum(axis=1)
        assert shuffled.shape[1] == 99 and np.allclose(table["p"], (1 + higher) / 100)
        assert np.allclose(table["placebo"], np.quantile(shuffled, 0.95, axis=1))

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
        vectors = Vectors(("full",), (layer,), differences(model, train, [layer]).mean(0)[None])
        found = propensities(model, test[:3], vectors, [layer], [-1.5, 0.0, 1.5])
        expected = [np.polyfit([-1.5, 0.0, 1.5], line, 1)[0] for line in found[:, 0, 0]]
        slopes = experiment.slopes(smoke.settings, form).query("dataset == @name and vector == 'full'")
        ours = slopes.set_index("example_id").loc[[example.id for example in test[:3]], "steerability"]
        assert np.allclose(ours, expected, atol=1e-5) and np.ptp(expected) > 1e-3

    def test_the_direct_engine_gives_the_same_slopes(self, smoke, one):
        chosen = replace(one, layer={"letter": experiment.layer_of(one, "letter")})
        tree, direct = (experiment.slopes(replace(chosen, engine=e), "letter") for e in ("tree", "direct"))
        assert np.allclose(tree["steerability"], direct["steerability"], atol=1e-5)
        assert {about["engine"] for about in direct.attrs["manifests"]} == {"direct"}


class TestLayers:
    @pytest.mark.parametrize("form", FORMATS)
    def test_the_sweep_chooses_the_layer_with_the_highest_mean_over_data_sets(self, smoke, stop, form):
        table = experiment.sweep(smoke.settings, form)
        key = ["dataset", "example_id", "layer"]
        ends = table.pivot(index=key, columns="multiplier", values="propensity")
        by_layer = (ends[1.5] - ends[-1.5]).groupby(["dataset", "layer"]).mean().groupby("layer").mean()
        assert experiment.layer_of(smoke.settings, form) == by_layer.idxmax()
        summary = experiment.layer_summary(smoke.settings, form).assign(mean=1.0)  # the earliest of equals
        assert experiment.choose_layer(summary.sort_values("layer", ascending=False)) == 0

    def test_a_layer_that_is_set_is_taken_without_a_sweep(self, one, stop):
        assert experiment.layer_of(override(one, layer=2), "statement") == 2


@pytest.mark.parametrize("name", ["narcissism", "myopic-reward"])
@pytest.mark.parametrize("form", [*FORMATS, "yes-no"])
def test_no_test_item_shares_a_group_with_a_training_item_of_any_stage(smoke_store, name, form):
    stages = {stage: getattr(smoke_store.settings, stage) for stage in ("sweep", "shift")}
    whole = {stage: replace(part, train=None, test=None) for stage, part in stages.items()}
    settings, items = replace(smoke_store.settings, train=None, test=None, **whole), load_dataset(name).items
    group_of = dict(zip((item.id for item in items), group_items(items), strict=True))

    def groups(stage, setting="BASE"):
        made = jobs.examples(Job(settings, stage, name, form, 0), models.model_of("tiny"), setting)
        return [{group_of[example.id] for example in part} for part in made]

    (train, test), (swept, judged) = groups("grid"), groups("sweep")
    assert len(train) == 24 and len(test) == 30 and not train & test
    assert swept and judged and not swept & judged and not test & (swept | judged)
    assert all(groups("shift", setting) == [train, test] for setting in SETTINGS)
