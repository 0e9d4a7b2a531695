"""The grid over prompt settings: vectors and scores from plain transformers, and what a model without SYS leaves out."""

import shutil
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import refused
from plain_model import differences, propensities

from companion import cost, store
from companion.cost import job_cost
from companion.data.datasets import load_dataset, personas
from companion.outline import outline
from companion.tan import experiment, jobs, tables, unlabelled, work
from companion.tan.jobs import MEAN, Job, settings_of
from companion.tan.work import compute, pairwise, vectors_by_setting
from companion.templates import SETTINGS
from steerkit import Vectors
from steerkit.templates import DEFAULT_SYSTEM, TEMPLATES

FORMATS = ("statement", "letter")
NAMES = (*SETTINGS, MEAN)
NAME = "openness"
BUNDLED = Path(jobs.__file__).parents[1] / "data" / "bundled"
NO_SYSTEM = ("BASE", "USER_POS", "USER_NEG")
MULTIPLIERS = [-1.5, 0.0, 1.5]
CELL = ["vector", "setting", "example_id", "multiplier"]
EXAMPLES = {"statement": 2, "letter": 4}  # two pairs; a letter example for each of their two items


@pytest.fixture
def model():
    return work.model_of("tiny")


@pytest.fixture
def job(smoke):
    """The finished job of one data set, by format."""
    layers = {form: experiment.layer_of(smoke.settings, form) for form in FORMATS}
    return {form: Job(smoke.settings, "shift", NAME, form, layer) for form, layer in layers.items()}


@pytest.fixture
def no_system(own_folders, smoke_store, model, monkeypatch) -> Job:
    """A job whose model has a template without a place for a system prompt; nothing is computed yet."""
    plain = replace(model, template=TEMPLATES["base"])
    monkeypatch.setattr(work, "model_of", lambda *_: plain)
    return Job(smoke_store.settings, "shift", NAME, "statement", 1)


def plain_vectors(model, job: Job, settings=SETTINGS) -> dict[str, torch.Tensor]:
    """Mean differences [d] before any scaling, by training setting."""
    train = {setting: jobs.examples(job, model, setting)[0] for setting in settings}
    return {setting: differences(model, train[setting], [job.layer]).mean(0)[0] for setting in settings}


def test_vectors_are_mean_differences_with_the_norm_of_base_and_mean_is_taken_before_scaling(job, model):
    for one in job.values():
        found, plain = vectors_by_setting(one, model), plain_vectors(model, one)
        plain[MEAN] = sum(plain.values()) / 5
        norm = plain["BASE"].norm()
        assert found.names == NAMES and found.layers == (one.layer,)
        for name, vector in zip(found.names, found.values[:, 0], strict=True):
            torch.testing.assert_close(vector, plain[name] / plain[name].norm() * norm, atol=1e-5, rtol=1e-4)
            assert float(vector.norm()) == pytest.approx(float(norm), rel=1e-5)
        # Scaling first would give another mean, and the tolerance above would tell.
        late = sum(plain[name] / plain[name].norm() for name in SETTINGS)
        assert (late / late.norm() * norm - found.values[-1, 0]).abs().max() > 1e-3


@pytest.mark.parametrize("form", FORMATS)
def test_the_manifest_and_the_table_hold_the_cosine_of_every_pair(smoke, job, model, form):
    table, manifests = tables.cosines_of(smoke.settings, form)
    assert len(table) == 3 * 15 and len(manifests) == 3
    plain = plain_vectors(model, job[form])
    plain[MEAN] = sum(plain.values()) / 5
    units = {name: v / np.linalg.norm(v) for name, v in plain.items()}
    (about,) = [m for m in manifests if m["inputs"]["dataset"] == NAME]
    rows = table.loc[table["dataset"] == NAME, ["first", "second", "cosine"]]
    assert about["cosines"] == rows.to_numpy().tolist() and about["settings_without_a_place"] == []
    assert [tuple(pair[:2]) for pair in about["cosines"]] == list(combinations(NAMES, 2))
    for first, second, cosine in about["cosines"]:
        assert cosine == pytest.approx(float(units[first] @ units[second]), abs=1e-4)


@pytest.mark.parametrize("form", FORMATS)
def test_a_persona_sentence_is_where_its_setting_says_and_nowhere_else(job, model, form):
    positive, negative = personas(NAME)
    base = jobs.examples(job[form], model, "BASE")
    asked = [DEFAULT_SYSTEM, "\n\n", positive, negative]
    old, gap, *sentences = model.tokenizer(asked, add_special_tokens=False).input_ids
    for setting in SETTINGS[1:]:
        sentence = sentences[setting.endswith("NEG")]
        new = sentence if setting.startswith("SYS") else old + gap + sentence
        for part, changed in zip(base, jobs.examples(job[form], model, setting), strict=True):
            for plain, example in zip(part, changed, strict=True):
                before, after = (list(one.prompt[1:]) for one in (plain, example))  # without BOS
                assert before[: len(old)] == old and after == new + before[len(old) :]
                assert (example.id, example.matching) == (plain.id, plain.matching)


class TestUnlabelled:
    """Vectors with labels drawn at random, over prompt settings."""

    def test_labels_are_drawn_alike_in_all_settings(self, job, model):
        one = job["statement"]
        drawn = []
        for setting in SETTINGS:
            vectors = unlabelled.vectors(one, model, setting)
            train, _ = jobs.examples(one, model, setting)
            pairs = differences(model, train, [one.layer])[:, 0]  # [p, d]
            weights = torch.linalg.lstsq(pairs.T, vectors.values[:, 0].T).solution
            torch.testing.assert_close(pairs.T @ weights, vectors.values[:, 0].T, atol=1e-5, rtol=1e-4)
            drawn.append(weights.sign())
        assert vectors.names == ("full", *(f"shuffled-{i:02d}" for i in range(unlabelled.DRAWS)))
        assert (drawn[0][:, 0] == 1).all() and (drawn[0] < 0).any()
        assert all((signs == drawn[0]).all() for signs in drawn)

    @pytest.mark.parametrize("form", FORMATS)
    def test_the_slope_is_that_of_a_small_step_with_plain_transformers(self, job, model, form):
        one, step = job[form], 0.02
        table, plain = unlabelled.table(one, model), plain_vectors(model, one)
        assert set(map(tuple, table[["vector", "setting"]].to_numpy())) == set(product(SETTINGS, SETTINGS))
        for train, setting in (("SYS_POS", "USER_NEG"), ("BASE", "BASE")):
            vector = plain[train] / plain[train].norm() * plain["BASE"].norm()
            vectors = Vectors((train,), (one.layer,), vector[None, None])
            example = jobs.examples(one, model, setting)[1][1]
            ends = propensities(model, [example], vectors, [one.layer], [-step, step])[0, 0, 0]
            wanted = f"vector == '{train}' and setting == '{setting}' and example_id == '{example.id}'"
            own = table.query(f"{wanted} and labels == 'full'")["slope"].item()
            assert own == pytest.approx(float(ends[1] - ends[0]) / (2 * step), rel=0.02, abs=2e-4)

    def test_the_manifest_has_the_cosines_of_every_two_settings_draw_by_draw(self, job, model):
        about = unlabelled.table(job["statement"], model).attrs
        vectors = {each: unlabelled.vectors(job["statement"], model, each).values[:, 0] for each in SETTINGS}
        assert about["settings"] == SETTINGS and len(about["cosines"]) == 1 + unlabelled.DRAWS
        for i, found in enumerate(about["cosines"]):
            expected = pairwise({name: each[i].numpy() for name, each in vectors.items()})
            assert found == pytest.approx([cosine for *_, cosine in expected], abs=2e-5)


class TestTable:
    @pytest.mark.parametrize("form", FORMATS)
    def test_it_has_a_row_a_data_set_vector_setting_example_and_multiplier(self, smoke, form):
        table, settings = experiment.shift(smoke.settings, form), smoke.settings
        assert list(table["dataset"].unique()) == list(settings.datasets)
        assert len(table) == len(settings.datasets) * 6 * 5 * EXAMPLES[form] * len(MULTIPLIERS)
        assert not table.duplicated(["dataset", *CELL]).any()
        assert list(table["vector"].unique()) == list(NAMES)
        assert list(table["setting"].unique()) == list(SETTINGS)
        assert set(table["layer"]) == {experiment.layer_of(settings, form)} and set(table["format"]) == {form}
        slopes = experiment.shift_slopes(settings, form)
        assert len(slopes) * len(MULTIPLIERS) == len(table)
        assert slopes.attrs["manifests"] == table.attrs["manifests"]
        pair = {item.id: (name, item.pair) for name in settings.datasets for item in load_dataset(name).items}
        assert (slopes["group"].groupby(slopes["example_id"].map(pair)).nunique() == 1).all()
        assert slopes["group"].nunique() == len(settings.datasets) * settings.shift.test

    @pytest.mark.parametrize("form", FORMATS)
    def test_every_pair_of_settings_is_what_plain_transformers_give(self, smoke, job, model, form):
        """Vector, steering and score by hand for three of the thirty pairs, one example each, and the slope."""
        plain, table = plain_vectors(model, job[form]), experiment.shift(smoke.settings, form)
        plain[MEAN] = sum(plain.values()) / 5
        slopes = experiment.shift_slopes(smoke.settings, form)
        for train, setting in (("SYS_POS", "USER_NEG"), (MEAN, "SYS_NEG"), ("USER_POS", "BASE")):
            vector = plain[train] / plain[train].norm() * plain["BASE"].norm()
            vectors = Vectors((train,), (job[form].layer,), vector[None, None])
            example = jobs.examples(job[form], model, setting)[1][1]
            expected = propensities(model, [example], vectors, [job[form].layer], MULTIPLIERS)[0, 0, 0]
            wanted = f"vector == '{train}' and setting == '{setting}' and example_id == '{example.id}'"
            rows = table.query(wanted).sort_values("multiplier")
            slope = slopes.query(wanted)["steerability"].item()
            assert np.allclose(rows["propensity"], expected, atol=1e-5) and np.ptp(expected.numpy()) > 1e-3
            assert slope == pytest.approx(np.polyfit(rows["multiplier"], rows["propensity"], 1)[0], abs=1e-9)


class TestWithoutSystemPrompt:
    def test_three_settings_and_their_mean_are_left_and_the_others_are_named(self, no_system, monkeypatch):
        """And the estimate of its cost is what the run reports: every test example in every setting left."""
        steps: list[int] = []
        frame = compute(no_system, steps.append)
        monkeypatch.setattr(cost, "outline", lambda name: replace(outline(name), template=TEMPLATES["base"]))
        planned = job_cost(no_system)
        passes, reads = planned.token_passes, planned.reads
        assert planned.prompts == 3 * EXAMPLES["statement"]
        assert passes == sum(steps) and len(steps) > 1 and 0 < reads < passes
        assert list(frame["setting"].unique()) == list(NO_SYSTEM)
        assert list(frame["vector"].unique()) == [*NO_SYSTEM, MEAN]
        assert len(frame) == 3 * 4 * EXAMPLES["statement"] * 3 and not frame.duplicated(CELL).any()
        assert frame.attrs["settings_without_a_place"] == ["SYS_NEG", "SYS_POS"]
        assert [pair[:2] for pair in frame.attrs["cosines"]] == list(combinations([*NO_SYSTEM, MEAN], 2))
        plain = work.model_of("tiny")
        raw = plain_vectors(plain, no_system, NO_SYSTEM)
        mean = sum(raw.values()) / 3
        found = vectors_by_setting(no_system, plain).values[-1, 0]
        torch.testing.assert_close(found, mean / mean.norm() * raw["BASE"].norm(), atol=1e-5, rtol=1e-4)
        left = {name: settings_of(replace(plain, template=t)) for name, t in TEMPLATES.items()}
        assert left.pop("base") == NO_SYSTEM and set(left.values()) == {SETTINGS}


def test_a_set_without_persona_sentences_or_a_layer_the_model_lacks_is_refused(own_folders, smoke_store):
    path = Path(shutil.copy(BUNDLED / f"{NAME}.jsonl", own_folders / "mine.jsonl"))
    own = {"datasets": (str(path),), "layer": {"statement": 1}}
    cases = {r"persona sentence for .*mine\.jsonl": own}
    cases["a layer from 0 to 3 of tiny"] = {"layer": {"statement": 4}}
    for message, changes in cases.items():
        refused(experiment.shift, replace(smoke_store.settings, **changes), "statement", said=message)
    assert not list(store.artifacts_dir().glob("shift-*.parquet"))
