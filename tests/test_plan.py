"""The planner: what it says before a run is what the run does, token by token."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from conftest import command_line, random_examples, random_vectors
from plain_model import Watch

from companion import cost, outline, store
from companion.cost import cost_of, job_cost, plan
from companion.models import MODELS, model_of
from companion.profiles import Settings, load_profile, override
from companion.tan import experiment
from companion.tan.jobs import Job, compute, examples, inputs, vectors_of
from steerkit.errors import SteerkitError
from steerkit.extraction import differences
from steerkit.formats import question
from steerkit.grid import evaluate
from steerkit.layout import length
from steerkit.ndif.address import OFF
from steerkit.traces import SHARE_FROM, site_of

SMOKE = load_profile("smoke")
TOTALS = {  # parameters as the checkpoints on the hub state them
    "llama2-7b": 6_738_415_616,
    "qwen1.5-14b": 14_167_290_880,
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
    def test_the_plan_is_what_the_first_block_really_sees(
        self, one_at_a_time, tmp_path, monkeypatch, stage, form
    ):
        """Block 1 is steered (in the sweep all are), so block 0 runs over every token that there is."""
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
        assert sum(map(tokens, watch.blocks)) == sum(
            one * shared + tree * (4 - shared) for tree, one in sizes
        )

    def test_the_formula_of_the_page_is_the_count(self):
        """One prompt of 97 tokens by hand: 96 before the branch, and two for each of 193 conditions."""
        assert cost.grid_passes(97, 2, 1, 32) == (96 + 2 * 193, 2 * 32 * 7 * 100)

    def test_a_sample_estimates_what_all_prompts_cost(self):
        whole = replace(SMOKE, train=None, test=None)
        for form in ("letter", "statement"):
            job = Job(whole, "grid", "openness", form, 1)
            exact, guess = job_cost(job), job_cost(job, most=8)
            assert job_cost(job, most=1000) == exact
            assert guess.prompts == exact.prompts and guess.token_passes != exact.token_passes
            assert guess.token_passes == pytest.approx(exact.token_passes, rel=0.1)
            assert guess.received == pytest.approx(exact.received, rel=0.1)


class TestRequests:
    @pytest.mark.parametrize("form", ["letter", "statement"])
    def test_they_are_about_as_many_as_are_sent(self, monkeypatch, form):
        """A server that runs here and counts; jobs are made small, so that there are some."""
        job, sent = Job(replace(SMOKE, train=None, test=None), "grid", "openness", form, 1), []
        for module in ("steerkit.grid", "steerkit.extraction", "companion.cost"):
            monkeypatch.setattr(f"{module}.JOB_TOKENS", 900)
        monkeypatch.setattr("steerkit.trust.CPU_TOKENS", 400)
        here = model_of("tiny", OFF)
        train, test = examples(job, here)
        vectors = vectors_of(job, [1], train)
        multipliers = job.part.multipliers
        fewer = {name: (-1.5, 1.5) for name in vectors.names if name != "full"}
        evaluate(here, test, vectors, multipliers, fewer=fewer)  # the self-check

        def counted(model, work, *args):
            sent.append(work.__name__)
            return work(site_of(here), *args)

        for module in ("steerkit.grid", "steerkit.extraction"):
            monkeypatch.setattr(f"{module}.run", counted)
        there = replace(here, remote="http://localhost:9")
        differences(there, train, [1])
        evaluate(there, test, vectors, multipliers, fewer=fewer)
        assert len(sent) > 8
        assert job_cost(job).requests == pytest.approx(len(sent), rel=0.2)

    def test_bytes_grow_with_scores_and_not_with_the_vocabulary(self):
        job = Job(SMOKE, "grid", "openness", "letter", 1)
        finer = replace(job, settings=replace(SMOKE, multipliers=(-1.5, 0.0, 1.0, 1.5)))
        few, more = job_cost(job), job_cost(finer)
        cells = few.prompts  # one cell more a prompt, the full vector's
        assert more.received - few.received == cost.SCORE_BYTES * cells


def test_a_model_of_unknown_shape_has_no_stand_in_and_its_plan_is_the_hubs_error(without_hub):
    assert outline.stand_in("org/name") is None
    with pytest.raises(SteerkitError, match="a hub"):
        plan(replace(SMOKE, model="org/name"), ("letter",))


class TestShapes:
    @pytest.mark.parametrize("name", outline.SHAPES)
    def test_they_have_the_parameters_of_the_checkpoints(self, without_hub, name):
        found = outline.stand_in(name)
        assert found.parameters == TOTALS[name] and found.name == name
        assert found.tokenizer_of == "tiny" and found.n_layers > MODELS[name].layer


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
        assert kinds == {(stage, form) for stage in cost.STAGES for form in ("letter", "statement")}
        assert found["hours"] > 0 and found["notes"] == [] and found["tokenizer"] == found["model"] == "tiny"

    def test_memory_is_the_weights_and_a_batch_in_the_precision_of_the_model(self, without_hub):
        found, about = plan(SMOKE, ("letter",)), outline.stand_in("llama2-7b")
        assert found["weights_bytes"] == 4 * outline.outline("tiny").parameters < found["memory_bytes"] < 1e9
        single, half = cost.memory(about, "float32"), cost.memory(about, "float16")
        assert 2 * about.parameters < half < 2.5 * about.parameters
        assert single - half > 2 * about.parameters

    def test_without_the_tokenizer_another_counts_and_the_plan_says_so(self, without_hub, papers):
        found = plan(papers, ("letter",), remote=True)
        assert found["tokenizer"] == "tiny" and found["dtype"] == "float16"
        assert found["weights_bytes"] == 2 * TOTALS["llama2-7b"]
        assert "could not be fetched" in found["notes"][0] and "estimates" in found["notes"][0]
        assert found["hours"] is None and "has not been run" in found["hours_from"]
        sweep, main, shift = found["rows"]
        each = outline.stand_in("llama2-7b").block_parameters
        assert main["operations"] == 2 * each * main["token_passes"]
        assert sweep["requests"] > 0 and shift["sent_bytes"] > 0

    def test_hours_on_a_server_are_those_of_the_record(self, without_hub, monkeypatch):
        monkeypatch.setattr(cost, "measured_rate", lambda _: 1e15)
        found = plan(SMOKE, ("letter",), remote=True)
        assert found["hours"] == pytest.approx(found["total"]["operations"] / 1e15 / 3600)

    def test_weights_that_do_not_fit_here_are_said(self, without_hub, papers, monkeypatch):
        monkeypatch.setattr(cost, "free_bytes", lambda _: 10**9)
        monkeypatch.setattr(cost, "matmul_rate", lambda _: 1e9)
        assert "The weights need 13 GB, and 1 GB are free" in plan(papers, ("letter",))["notes"][-1]

    def test_a_server_in_the_profile_is_asked_nothing(self):
        found = plan(replace(SMOKE, remote="http://localhost:9"), ("letter",), remote=True)
        assert found["total"]["tables"] == 9

    @pytest.mark.parametrize("settings", [load_profile("published"), replace(SMOKE, recorded=True)])
    def test_profiles_that_read_finished_numbers_have_no_plan(self, settings):
        with pytest.raises(SteerkitError, match="a profile that computes something"):
            plan(settings, ("letter",))

    def test_that_of_a_run_that_was_stopped_is_what_is_left(self):
        before, job = plan(SMOKE, ("letter",)), experiment.pending(SMOKE, "letter", "sweep")[0]
        store.table(job.name, inputs(job), lambda: compute(job))
        after, passes = plan(SMOKE, ("letter",)), "token_passes"
        assert before["total"][passes] - after["total"][passes] == job_cost(job).token_passes

    def test_finished_tables_cost_nothing_and_no_model_is_opened_for_them(self, smoke, monkeypatch):
        monkeypatch.setattr(cost, "outline", lambda _: pytest.fail("opened"))
        assert cost_of(SMOKE, ("letter",), ("sweep", "grid")) is None


class TestCommand:
    def test_people_get_a_table_with_a_sum_and_what_it_needs(self):
        code, screen = command_line("plan", "--profile", "smoke", "--format", "letter")
        assert code == 0 and "token_passes" in screen and "│ all" in screen
        assert "tiny:" in screen and "Hours here: under 0.1" in screen and "requests" not in screen
        code, screen = command_line("plan", "--profile", "smoke", "--format", "letter", "--remote")
        assert code == 0 and "requests" in screen and "kB" in screen and "on the server" in screen

    def test_machines_get_all_numbers(self):
        code, screen = command_line("plan", "--profile", "smoke", "--format", "statement", "--json")
        about = json.loads(screen)
        assert code == 0 and about["total"]["tables"] == 9 == sum(row["tables"] for row in about["rows"])
        assert about["profile"] == "smoke" and about["remote"] is False
        committed = json.loads(next(cost.PLANS.glob("*.json")).read_text())
        assert list(about) == list(committed) and list(about["rows"][0]) == list(committed["rows"][0])

    def test_when_everything_is_there_it_says_so(self, smoke):
        code, screen = command_line("plan", "--profile", "smoke")
        assert code == 0 and screen.startswith("Nothing to compute: all tables of smoke are there.")

    def test_wrong_words_are_refused(self):
        for arguments in (("--profile", "smok"), ("--profile", "smoke", "--format", "prose")):
            assert command_line("plan", *arguments)[0] != 0
