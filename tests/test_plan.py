"""The planner: what it says before a run is what the run does, token by token."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import command_line, random_examples, random_vectors, refused
from plain_model import Watch

from companion import cost, outline, rate, store
from companion.cost import cost_of, job_cost, plan
from companion.models import MODELS, model_of
from companion.profiles import Settings, load_profile, override
from companion.tan import experiment
from companion.tan.jobs import Job, inputs
from companion.tan.work import compute
from steerkit import SteerkitError, evaluate, traces
from steerkit.formats import question
from steerkit.layout import length
from steerkit.traces import SHARE_FROM

SMOKE = load_profile("smoke")
VOCABULARIES = os.environ.get("STEERKIT_TOKENIZERS")
TOTALS = {  # parameters as the checkpoints on the hub state them
    "llama2-7b": 6_738_415_616,
    "qwen1.5-14b": 14_167_290_880,
    "qwen2.5-coder-1.5b": 1_543_714_304,
    "gemma-2-2b": 2_614_341_888,
    "llama3.1-70b": 70_553_706_496,
}
pytestmark = pytest.mark.usefixtures("own_folders")


@pytest.fixture
def one_at_a_time(monkeypatch):
    """No batch holds two sequences, so that no padding blurs a count."""
    for module in ("steerkit.grid", "steerkit.extraction"):
        monkeypatch.setattr(f"{module}.room", lambda *_: 1)


@pytest.fixture
def without_hub(monkeypatch):
    """Every model but the tiny one is out of reach, whose tokenizer stands in."""
    real = outline.outline

    def reach(name):
        if name != "tiny":
            raise SteerkitError("a hub", "none", next_step="connect.")
        return real(name)

    for module in (outline, cost):
        monkeypatch.setattr(module, "outline", reach)
    monkeypatch.setattr(outline, "DEFAULT", "tiny")
    monkeypatch.setenv("STEERKIT_TOKENIZERS", "none")


def seen(job: Job, tmp_path, monkeypatch) -> Watch:
    """What blocks and unembedding see in one job, after another run has made the self-checks."""
    for run in ("first", "second"):
        monkeypatch.setenv("STEERKIT_ARTIFACTS", str(tmp_path / run))
        with Watch(model_of("tiny")) as watch:
            compute(job)
    return watch


def tokens(counter) -> int:
    return sum(rows * width for rows, width in counter)


class TestTokenPasses:
    @pytest.mark.parametrize("form", ["letter", "statement"])
    @pytest.mark.parametrize("stage", ["sweep", "grid", "shift"])
    def test_it_is_what_the_first_block_really_sees(self, one_at_a_time, tmp_path, monkeypatch, stage, form):
        """Block 1 is steered (in the sweep all are), so in one stage block 0 runs over every token that there is."""
        monkeypatch.setattr(traces, "STAGES", 2)
        job = Job(SMOKE, stage, "openness", form, 1)
        watch, planned = seen(job, tmp_path, monkeypatch), job_cost(job)
        assert tokens(watch.blocks[0]) == planned.token_passes
        assert sum(rows for (rows,) in watch.head) == planned.reads
        assert (planned.reads > 0) == (form == "statement")

    @pytest.mark.parametrize("layer", [0, 1, 2, 3])
    def test_below_the_lowest_steered_block_less_is_done(self, one_at_a_time, model, layer):
        asked, made = random_examples("letter", 3, len(model.tokenizer)), random_vectors(model)
        evaluate(model, asked, made, [1.0, 2.0], layers=[layer])
        with Watch(model) as watch:
            evaluate(model, asked, made, [1.0, 2.0], layers=[layer])
        sizes = [(length(question(e), 5), length(question(e), 1)) for e in asked]
        shared = layer + 1 if layer >= SHARE_FROM else 0
        planned = sum(one * shared + tree * (4 - shared) for tree, one in sizes)
        assert sum(map(tokens, watch.blocks)) == planned

    def test_a_sample_estimates_what_all_prompts_cost(self):
        whole = replace(SMOKE, train=None, test=None)
        for form in ("letter", "statement"):
            job = Job(whole, "grid", "openness", form, 1)
            exact, guess = job_cost(job), job_cost(job, most=8)
            assert job_cost(job, most=1000) == exact
            assert guess.prompts == exact.prompts and guess.token_passes != exact.token_passes
            assert guess.token_passes == pytest.approx(exact.token_passes, rel=0.1)
            assert guess.received == pytest.approx(exact.received, rel=0.1)

    def test_bytes_grow_with_scores_and_not_with_the_vocabulary(self):
        job = Job(SMOKE, "grid", "openness", "letter", 1)
        finer = replace(job, settings=replace(SMOKE, multipliers=(-1.5, 0.0, 1.0, 1.5)))
        few, more = job_cost(job), job_cost(finer)
        cells = few.prompts  # one cell more a prompt, the full vector's
        assert more.received - few.received == cost.SCORE_BYTES * cells


@pytest.mark.parametrize("name", outline.SHAPES)
def test_a_model_out_of_reach_is_planned_with_its_own_vocabulary_where_it_is_here(name, monkeypatch):
    if not (VOCABULARIES and Path(VOCABULARIES, outline.VOCABULARIES[name]).exists()):
        pytest.skip(f"STEERKIT_TOKENIZERS has no tokenizer of {name}: sh tools/tokenizers.sh fetches it")
    found = outline.stand_in(name)
    assert found.tokenizer_of == name and len(found.tokenizer) <= found.vocabulary
    assert found.template.name == MODELS[name].template


def test_the_rate_is_that_of_a_run_of_the_tree_in_its_precision(monkeypatch):
    """Of as many blocks as fit: a model is timed that no memory holds."""
    about = outline.outline("tiny")
    monkeypatch.setattr(rate, "WEIGHTS", 2.5 * about.block_parameters / about.n_layers)
    model, weights = rate._short(about, "bfloat16")
    assert model.dtype is torch.bfloat16 and model.width == about.width
    assert len(model.layers) == 2 and weights == round(about.block_parameters / 2)
    monkeypatch.setattr(rate, "RATES", {})
    monkeypatch.setattr(rate, "SECONDS", 0.01)
    asked = random_examples("statement", 2, about.vocabulary)
    found = rate.tree_rate(about, "float32", asked, (-1.0, 0.0, 1.0))
    assert found > 0 and rate.tree_rate(about, "float32", asked, (0.0, 1.0)) == found  # measured once


@pytest.mark.parametrize("name", outline.SHAPES)
def test_a_model_out_of_reach_has_the_shape_of_its_checkpoint(without_hub, name):
    found = outline.stand_in(name)
    assert found.parameters == TOTALS[name] and found.name == name
    assert found.tokenizer_of == "tiny" and found.n_layers > (MODELS[name].layer or 0)
    assert outline.stand_in("org/name") is None  # whose plan is the hub's error
    refused(plan, replace(SMOKE, model="org/name"), ("letter",), said="a hub")


@pytest.fixture
def papers() -> Settings:
    """What Tan et al. run on Llama 2, for one data set that is here."""
    found = override(load_profile("llama2-7b"), source="bundled", datasets="openness", split="clean")
    return replace(found, sweep=replace(found.sweep, datasets=("openness",)))


class TestPlan:
    def test_it_counts_every_missing_table_by_stage_and_format(self, smoke_store):
        found = plan(SMOKE, ("letter", "statement"))
        for name in ("tables", "token_passes", "prompts"):
            assert found["total"][name] == getattr(smoke_store.estimate, name)
        kinds = {(row["stage"], row["format"]) for row in found["rows"]}
        assert kinds == {(stage, form) for stage in cost.USUAL for form in ("letter", "statement")}
        assert found["hours"] > 0 and found["notes"] == [] and found["tokenizer"] == found["model"] == "tiny"

    def test_memory_is_the_weights_and_a_batch_in_the_precision_of_the_model(self, without_hub):
        found, about = plan(SMOKE, ("letter",)), outline.stand_in("llama2-7b")
        assert found["weights_bytes"] == 4 * outline.outline("tiny").parameters < found["memory_bytes"] < 1e9
        single, half = cost.memory(about, "float32"), cost.memory(about, "float16")
        assert 2 * about.parameters < half < 2.5 * about.parameters
        assert single - half > 2 * about.parameters

    def test_without_the_tokenizer_another_counts_and_it_says_so(self, without_hub, papers, monkeypatch):
        found = plan(papers, ("letter",), remote=True)
        assert found["tokenizer"] == "tiny" and found["dtype"] == "float16"
        assert found["weights_bytes"] == 2 * TOTALS["llama2-7b"]
        assert "could not be fetched" in found["notes"][0] and "estimates" in found["notes"][0]
        assert found["hours"] is None and "has not been run" in found["hours_from"]
        sweep, main, beside, shift = found["rows"]
        assert 0 < beside["token_passes"] < main["token_passes"]
        each = outline.stand_in("llama2-7b").block_parameters
        assert main["operations"] == 2 * each * main["token_passes"]
        assert sweep["requests"] > 0 and shift["sent_bytes"] > 0
        # Hours on a server are those of the record.
        monkeypatch.setattr(cost, "measured_rate", lambda _: 1e15)
        found = plan(SMOKE, ("letter",), remote=True)
        assert found["hours"] == pytest.approx(found["total"]["operations"] / 1e15 / 3600)
        # Weights that do not fit here are said.
        monkeypatch.setattr(cost, "free_bytes", lambda _: 10**9)
        monkeypatch.setattr(cost, "tree_rate", lambda *_: 1e9)
        assert "The weights need 27 GB, and 1 GB are free" in plan(papers, ("letter",))["notes"][-1]

    def test_hours_take_items_away_and_no_data_set_and_say_what_is_left_out(self, monkeypatch):
        monkeypatch.setattr(cost, "tree_rate", lambda *_: 1e6)
        settings = replace(SMOKE, train=None, test=None)
        whole = plan(settings, ("letter",))
        found = plan(settings, ("letter",), hours=whole["hours"] / 2)
        assert 0.35 < found["hours"] / whole["hours"] <= 0.55
        assert found["total"]["tables"] == whole["total"]["tables"] and whole["notes"] == []
        assert any("test items; the rest is left out" in note for note in found["notes"])
        assert plan(settings, ("letter",), hours=2 * whole["hours"]) == whole

    def test_no_server_is_asked_and_profiles_that_read_finished_numbers_have_no_plan(self):
        found = plan(replace(SMOKE, remote="http://localhost:9"), ("letter",), remote=True)
        assert found["total"]["tables"] == 12
        for settings in (load_profile("published"), replace(SMOKE, recorded=True)):
            refused(plan, settings, ("letter",), said="a profile that computes something")

    def test_that_of_a_run_that_was_stopped_is_what_is_left(self):
        before, job = plan(SMOKE, ("letter",)), experiment.pending(SMOKE, "letter", "sweep")[0]
        store.table(job.name, inputs(job), lambda: compute(job))
        after, passes = plan(SMOKE, ("letter",)), "token_passes"
        assert before["total"][passes] - after["total"][passes] == job_cost(job).token_passes


class TestCommand:
    def test_people_get_a_table_with_a_sum_and_what_it_needs(self):
        code, screen = command_line("plan", "--profile", "smoke", "--format", "letter")
        assert code == 0 and "token_passes" in screen and "│ all" in screen
        assert "tiny:" in screen and "Hours here: under 0.1" in screen and "requests" not in screen
        code, screen = command_line("plan", "--profile", "smoke", "--format", "letter", "--remote")
        assert code == 0 and "requests" in screen and "kB" in screen and "on the server" in screen

    def test_machines_get_all_numbers_and_wrong_words_are_refused(self):
        code, screen = command_line("plan", "--profile", "smoke", "--format", "statement", "--json")
        about = json.loads(screen)
        assert code == 0 and about["total"]["tables"] == 12 == sum(row["tables"] for row in about["rows"])
        assert about["profile"] == "smoke" and about["remote"] is False
        committed = json.loads(next(cost.PLANS.glob("*.json")).read_text())
        assert list(about) == list(committed) and list(about["rows"][0]) == list(committed["rows"][0])
        for wrong in (("smok",), ("smoke", "--format", "prose")):
            assert command_line("plan", "--profile", *wrong)[0] != 0

    def test_when_everything_is_there_it_says_so_and_opens_no_model(self, smoke, monkeypatch):
        code, screen = command_line("plan", "--profile", "smoke")
        assert code == 0 and screen.startswith("Nothing to compute: all tables of smoke are there.")
        monkeypatch.setattr(cost, "outline", lambda _: pytest.fail("opened"))
        assert cost_of(SMOKE, ("letter",), ("sweep", "grid")) is None
