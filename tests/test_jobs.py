"""Jobs: what names them, what they cost, how a run goes on after it was stopped, and a user's own data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from companion import store
from companion.cost import SHARE_OF_RATE, cost_of, matmul_rate
from companion.outline import outline
from companion.profiles import load_profile, override
from companion.tan import experiment, jobs
from companion.tan.jobs import Job, compute
from steerkit.errors import SteerkitError
from steerkit.steerability import slopes

SMOKE = load_profile("smoke")
LETTER = Job(SMOKE, "grid", "openness", "letter", 1)
BUNDLED = Path(jobs.__file__).parents[1] / "data" / "bundled"
pytestmark = pytest.mark.usefixtures("own_folders")


def key(job: Job) -> str:
    return store.key(jobs.inputs(job))


def changed(**settings) -> Job:
    return replace(LETTER, settings=replace(SMOKE, **settings))


class TestKeys:
    @pytest.mark.parametrize(
        "other",
        [
            changed(model="smollm2-135m"),
            changed(split="as-released"),
            changed(train=3),
            changed(test=5),
            changed(train=None),
            changed(multipliers=(-1.5, 0.0, 1.0)),
            changed(fidelity="paper"),
            changed(spelling="as-released"),
            changed(engine="direct"),
            changed(resamples={"letter": 3}),
            changed(resample_multipliers=(-1.5, 1.5)),
            changed(random_vectors=2),
            changed(seed=1),
            replace(LETTER, layer=2),
            replace(LETTER, format="yes-no"),
            replace(LETTER, dataset="narcissism"),
            replace(LETTER, dataset=str(BUNDLED / "openness.jsonl")),
            replace(LETTER, stage="sweep"),
        ],
    )
    def test_whatever_decides_the_numbers_is_in_the_key(self, other):
        assert key(other) != key(LETTER)

    @pytest.mark.parametrize(
        "other",
        [
            changed(profile="mine"),
            changed(datasets=("openness",)),
            changed(resamples={"letter": 2, "statement": 9}),
        ],
        ids=["profile", "other data sets", "other formats"],
    )
    def test_what_does_not_decide_them_is_not(self, other):
        assert key(other) == key(LETTER)

    def test_only_letters_have_a_fidelity(self):
        statement = replace(LETTER, format="statement")
        assert key(statement) == key(replace(statement, settings=replace(SMOKE, fidelity="paper")))

    def test_another_content_under_the_same_path_is_another_key(self, tmp_path):
        path = tmp_path / "mine.jsonl"
        found = []
        for rows in (40, 42):
            path.write_text("\n".join((BUNDLED / "openness.jsonl").read_text().splitlines()[:rows]))
            jobs.dataset_of.cache_clear()  # as in another process
            found.append(key(replace(LETTER, dataset=str(path))))
        assert found[0] != found[1]


class TestCost:
    def test_the_estimate_is_what_the_run_reports_token_by_token(self, smoke):
        assert len(smoke.passes) == smoke.estimate.tables == 18 and min(smoke.passes.values()) > 0
        assert smoke.estimate.token_passes == sum(smoke.passes.values())

    def test_the_time_follows_from_operations_and_the_measured_rate(self, smoke):
        """By hand: blocks and unembedding of the tiny model, at two operations a weight."""
        about, rate = outline("tiny"), SHARE_OF_RATE * matmul_rate()
        weights = about.parameters - 2 * about.width * about.vocabulary
        assert about.block_parameters == weights  # the tiny model has two embedding matrices and no other
        passes = smoke.estimate.token_passes
        reads = (smoke.estimate.seconds * rate / 2 - weights * passes) / (about.width * about.vocabulary)
        assert reads == pytest.approx(round(reads)) and 0 < reads < passes

    def test_the_prompts_are_the_test_examples(self, smoke):
        sweep, grid = SMOKE.sweep.test, SMOKE.test  # pairs; a letter example for each of two items
        shift = 5 * SMOKE.shift.test  # in every prompt setting
        assert smoke.estimate.prompts == len(SMOKE.datasets) * (2 + 1) * (sweep + grid + shift)

    def test_finished_tables_cost_nothing_and_no_model_is_loaded(self, smoke, monkeypatch):
        monkeypatch.setattr("companion.cost.outline", lambda _: pytest.fail("opened"))
        assert cost_of(SMOKE, ("letter",), ("sweep", "grid")) is None


class TestGoingOn:
    def test_pending_shrinks_as_tables_are_made_and_grids_wait_for_the_sweep(self):
        settings = override(SMOKE, datasets="openness,narcissism")

        def waiting(stage):
            return [(job.dataset, job.layer) for job in experiment.pending(settings, "letter", stage)]

        both = [("openness", None), ("narcissism", None)]
        assert waiting("sweep") == waiting("grid") == both
        experiment.sweep(override(settings, datasets="openness"), "letter")
        assert waiting("sweep") == both[1:]
        experiment.sweep(settings, "letter")
        layer = experiment.layer_of(settings, "letter")
        assert waiting("sweep") == [] and waiting("grid") == [(name, layer) for name, _ in both]
        experiment.grid(settings, "letter")
        assert waiting("grid") == [] and len(experiment.pending(settings, "statement", "sweep")) == 2

    def test_a_run_that_stopped_goes_on_with_the_next_data_set(self, monkeypatch):
        settings, computed = override(SMOKE, layer=1), []

        def stumble(job, progress=None):
            computed.append(job.dataset)
            if computed == ["narcissism", "openness"]:
                raise KeyboardInterrupt
            return compute(job, progress)

        monkeypatch.setattr(experiment, "compute", stumble)
        with pytest.raises(KeyboardInterrupt):
            experiment.grid(settings, "letter")
        assert len(experiment.grid(settings, "letter")["dataset"].unique()) == 3
        assert computed == ["narcissism", "openness", "openness", "myopic-reward"]


class TestOwnData:
    @pytest.mark.parametrize("suffix", [".jsonl", ".json"])
    def test_a_file_of_the_user_works_like_a_data_set_of_the_book(self, tmp_path, suffix):
        rows = [json.loads(line) for line in (BUNDLED / "openness.jsonl").read_text().splitlines()[:60]]
        path = tmp_path / f"my own set{suffix}"
        path.write_text(json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows)))
        settings = override(SMOKE, datasets=str(path), layer=2)
        table = slopes(experiment.grid(settings, "statement"))
        assert set(table["dataset"]) == {str(path)} and set(table["layer"]) == {2}
        assert table["example_id"].str.startswith("my own set/").all() and table["example_id"].nunique() == 6
        assert next(store.artifacts_dir().glob("grid-*.parquet")).match("grid-my own set-statement-*")
        assert list(experiment.intervals(settings, "statement", draws=50)["dataset"]) == [str(path)]

    def test_it_gives_the_numbers_of_the_same_items_in_the_book(self, tmp_path):
        path = tmp_path / "copy.jsonl"
        path.write_bytes((BUNDLED / "openness.jsonl").read_bytes())
        both = [override(SMOKE, datasets=name, layer=1) for name in (str(path), "openness")]
        own, book = (experiment.slopes(settings, "letter") for settings in both)
        assert own["steerability"].equals(book["steerability"])

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"datasets": "opennes"}, "a data set of source 'bundled'"),
            ({"datasets": "/nowhere/mine.jsonl"}, "a data file at"),
            ({"source": "mine"}, "a source"),
            ({"split": "random"}, "a split"),
            ({"engine": "fast"}, "an engine"),
            ({"fidelity": "exact"}, "a fidelity"),
            ({"spelling": "as_released"}, "a spelling"),
            ({"model": "tinny"}, "a registered model"),
        ],
        ids=str,
    )
    def test_a_setting_that_does_not_exist_is_refused_and_nothing_is_written(self, changes, expected):
        with pytest.raises(SteerkitError, match=expected):
            experiment.grid(override(SMOKE, layer=1, **changes), "letter")
        assert not list(store.artifacts_dir().glob("grid-*"))

    def test_an_unknown_answer_format_is_refused_before_anything_is_loaded(self, monkeypatch):
        monkeypatch.setattr(jobs, "model_of", lambda *_: pytest.fail("loaded"))
        for call in (experiment.grid, experiment.sweep, experiment.slopes, experiment.intervals):
            with pytest.raises(SteerkitError, match="an answer format"):
                call(SMOKE, "letters")
