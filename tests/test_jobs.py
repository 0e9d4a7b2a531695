"""Jobs: what names them, what they cost, how a run goes on after it was stopped, and a user's own data."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import refused

from companion import store
from companion.outline import outline
from companion.profiles import load_profile, override
from companion.tan import experiment, jobs, work
from companion.tan.jobs import Job

SMOKE = load_profile("smoke")
LETTER = Job(SMOKE, "grid", "openness", "letter", 1)
BUNDLED = Path(jobs.__file__).parents[1] / "data" / "bundled"
pytestmark = pytest.mark.usefixtures("own_folders")


def key(job: Job) -> str:
    return store.key(jobs.inputs(job))


def changed(**settings) -> Job:
    return replace(LETTER, settings=replace(SMOKE, **settings))


class TestKeys:
    def test_whatever_decides_the_numbers_is_in_the_key_and_nothing_else_is(self):
        deciding = {"model": "smollm2-135m", "split": "as-released", "train": 3, "test": 5, "seed": 1}
        deciding |= {"multipliers": (-1.5, 0.0, 1.0), "fidelity": "paper", "spelling": "as-released"}
        deciding |= {"engine": "direct"}
        keys = {key(changed(**{name: value})) for name, value in deciding.items()}
        assert len(keys | {key(LETTER), key(changed(train=None))}) == len(deciding) + 2
        own = {"dataset": str(BUNDLED / "openness.jsonl")}
        for part in ({"layer": 2}, {"format": "yes-no"}, {"dataset": "narcissism"}, own, {"stage": "sweep"}):
            assert key(replace(LETTER, **part)) != key(LETTER)
        for part in ({"profile": "mine"}, {"datasets": ("openness",)}):
            assert key(changed(**part)) == key(LETTER)
        statement = replace(LETTER, format="statement")  # only letters have a fidelity
        assert key(statement) == key(replace(statement, settings=replace(SMOKE, fidelity="paper")))
        beside = replace(LETTER, stage="placebo")  # has the vectors of the next data sets
        assert key(beside) != key(replace(beside, settings=replace(SMOKE, datasets=("openness",))))

    def test_another_content_under_the_same_path_is_another_key(self, tmp_path):
        path, found = tmp_path / "mine.jsonl", set()
        for rows in (40, 42):
            path.write_text("\n".join((BUNDLED / "openness.jsonl").read_text().splitlines()[:rows]))
            jobs.dataset_of.cache_clear()  # as in another process
            found.add(key(replace(LETTER, dataset=str(path))))
        assert len(found) == 2


@pytest.mark.parametrize("paired", [True, False])
def test_a_size_is_as_many_pairs_of_statements_with_and_without_pair_numbers(paired, tmp_path):
    rows = [json.loads(line) for line in (BUNDLED / "openness.jsonl").read_text().splitlines()]
    for row in rows if not paired else ():
        del row["pair"]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    job = replace(changed(train=5, test=3, balanced=True), dataset=str(path))
    for form, sizes in (("statement", (10, 6)), ("letter", (10, 6) if paired else (5, 3))):
        split = jobs.split_of(replace(job, format=form))
        assert (len(split.train), len(split.test)) == sizes  # items
    train, test = jobs.examples(replace(job, format="statement"), work.model_of("tiny", None))
    assert (len(train), len(test)) == (5, 3)


class TestCost:
    def test_the_estimate_is_what_the_run_reports_token_by_token(self, smoke):
        assert len(smoke.passes) == smoke.estimate.tables == 24 and min(smoke.passes.values()) > 0
        assert smoke.estimate.token_passes == sum(smoke.passes.values())
        # Pairs, with a letter example for each of two items; the shift asks them in every prompt setting.
        tested = SMOKE.sweep.test + 2 * SMOKE.test + 5 * SMOKE.shift.test
        assert smoke.estimate.prompts == len(SMOKE.datasets) * (2 + 1) * tested

    def test_the_time_follows_from_operations_and_the_measured_rate(self, smoke):
        """By hand: blocks and unembedding of the tiny model, at two operations a weight."""
        about, rate = outline("tiny"), smoke.estimate.rate
        weights = about.parameters - 2 * about.width * about.vocabulary
        assert about.block_parameters == weights  # the tiny model has two embedding matrices and no other
        passes = smoke.estimate.token_passes
        reads = (smoke.estimate.seconds * rate / 2 - weights * passes) / (about.width * about.vocabulary)
        assert reads == pytest.approx(round(reads)) and 0 < reads < passes


def test_pending_shrinks_as_tables_are_made_and_grids_wait_for_the_sweep():
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


class TestOwnData:
    @pytest.mark.parametrize("suffix", [".jsonl", ".json"])
    def test_a_file_of_the_user_gives_the_numbers_of_the_same_items_in_the_book(self, tmp_path, suffix):
        rows = [json.loads(line) for line in (BUNDLED / "openness.jsonl").read_text().splitlines()]
        path = tmp_path / f"my own set{suffix}"
        path.write_text(json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows)))
        settings = override(SMOKE, datasets=str(path), layer=2)
        own = experiment.slopes(settings, "statement")
        book = experiment.slopes(override(SMOKE, datasets="openness", layer=2), "statement")
        assert own["steerability"].equals(book["steerability"])
        assert set(own["dataset"]) == {str(path)} and set(own["layer"]) == {2}
        assert own["example_id"].str.startswith("my own set/").all() and own["example_id"].nunique() == 6
        assert list(store.artifacts_dir().glob("grid-my own set-statement-*.parquet"))
        assert list(experiment.intervals(settings, "statement")["dataset"]) == [str(path)]

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"source": "mine"}, "a source"),
            ({"engine": "fast"}, "an engine"),
            ({"fidelity": "exact"}, "a fidelity"),
            ({"spelling": "as_released"}, "a spelling"),
            ({"layer": {"letter": -3}}, "a layer from 0 to 3 of tiny"),
        ],
        ids=str,
    )
    def test_a_setting_that_does_not_exist_is_refused_and_nothing_is_written(self, changes, expected):
        settings = replace(override(SMOKE, layer=1, datasets="openness"), **changes)
        refused(experiment.grid, settings, "letter", said=expected)
        assert not list(store.artifacts_dir().glob("grid-*"))

    def test_an_unknown_answer_format_is_refused_before_anything_is_loaded(self, monkeypatch):
        monkeypatch.setattr(work, "model_of", lambda *_: pytest.fail("loaded"))
        for call in (experiment.grid, experiment.sweep, experiment.slopes, experiment.intervals):
            refused(call, SMOKE, "letters", said="an answer format")
