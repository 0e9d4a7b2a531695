"""The page on cost, the benchmark for a GPU (tried with tiny shapes on a CPU), and how large a batch is."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from _ext.measured import scaling as scaling_page
from conftest import raising, random_examples, random_vectors, refused
from plain_model import Watch
from plain_model import blocks as blocks_of
from torch.testing import assert_close

from companion import cost
from companion.outline import LENGTHS, config_of
from companion.profiles import load_profile
from steerkit import differences, evaluate
from steerkit import trust as memory
from steerkit.extraction import contrast_length
from steerkit.extraction import extract as mean_vector

BENCHMARK = Path(cost.__file__).parents[1] / "benchmarks" / "gpu.py"
CUDA = torch.device("cuda")


def gpu(monkeypatch, free: int, reserved: int = 0, allocated: int = 0) -> None:
    """torch reports this much memory on a GPU that is not there."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (free, 10 * free))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device=None: reserved)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device=None: allocated)


def shaped(name: str, attention: str) -> SimpleNamespace:
    """What `room` asks of a model of the papers."""
    config = config_of(name)
    config._attn_implementation = attention
    lm = SimpleNamespace(_module=SimpleNamespace(config=config))
    about = {"dtype": torch.bfloat16, "device": torch.device("cuda"), "remote": None}
    return SimpleNamespace(lm=lm, config=config, **about)


class TestRoom:
    def test_a_large_gpu_gets_large_batches_and_a_full_one_fewer_tokens_in_proportion(self, monkeypatch):
        model, found = shaped("llama2-7b", "sdpa"), []
        gpu(monkeypatch, 120 * 10**9)
        assert memory.room(model) == memory.GPU_TOKENS
        head = memory.head_bytes(model.lm._module.config)
        for free in (10**9, 2 * 10**9):
            gpu(monkeypatch, head + free)
            found.append(memory.room(model))
        gpu(monkeypatch, 0)
        assert memory.room(model) == 1  # one prompt at a time and not none
        assert 1000 < found[0] < memory.GPU_TOKENS and found[1] == pytest.approx(2 * found[0], abs=2)

    def test_what_torch_keeps_in_reserve_is_free_and_eager_attention_takes_more(self, monkeypatch):
        gpu(monkeypatch, 10**9, reserved=5 * 10**9, allocated=3 * 10**9)
        assert memory.free_bytes(CUDA) == 3 * 10**9
        rooms = {kind: memory.room(shaped("gemma-2-2b", kind)) for kind in ("sdpa", "eager")}
        assert rooms["eager"] < rooms["sdpa"]

    def test_on_a_cpu_and_a_server_it_is_what_makes_it_fast_or_what_fits_here(self, model, monkeypatch):
        """The device of the model decides, and not the machine."""
        gpu(monkeypatch, 0)
        there = SimpleNamespace(**vars(shaped("llama2-7b", "sdpa")) | {"remote": "http://localhost:9"})
        assert memory.room(there) == memory.room(model) == memory.CPU_TOKENS
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10**6))
        assert memory.room(model) < memory.CPU_TOKENS

    def test_engine_and_extraction_obey_it(self, model, monkeypatch):
        examples = random_examples("letter", 6, len(model.tokenizer))

        def work():
            scores = evaluate(model, examples, random_vectors(model, ["full"]), [1.0]).scores
            return scores, differences(model, examples, [1, 3])

        wanted = work()
        for module in ("steerkit.grid", "steerkit.extraction"):
            monkeypatch.setattr(f"{module}.room", lambda *_: 1)
        with Watch(model) as watch:
            found = work()
        assert {shape[0] for shape in watch.blocks[0]} == {1} and len(watch.blocks[0]) == 12
        for here, there in zip(found, wanted, strict=True):
            assert_close(here, there, atol=1e-5, rtol=0.0)


class TestExtractionWithoutRoom:
    def test_half_the_batch_gives_the_same_numbers(self, model):
        """It runs out as in life: inside a block, inside a trace."""
        examples, failed, steps = random_examples("statement", 5, len(model.tokenizer)), [], []
        wanted = differences(model, examples, [1, 3])
        limit = 2 * max(map(contrast_length, examples))

        def too_big(block, inputs):
            if inputs[0].shape[1] > limit:
                failed.append(inputs[0].shape[1])
                raise torch.OutOfMemoryError

        with blocks_of(model.lm._module)[1].register_forward_pre_hook(too_big):
            found = differences(model, examples, [1, 3], progress=steps.append)
            mean = mean_vector(model, examples, [1, 3])
        assert failed[0] > failed[1] > limit and len(steps) == 3
        assert_close(found, wanted, atol=1e-5, rtol=0.0)
        assert_close(mean.values[0], wanted.mean(0), atol=1e-5, rtol=0.0)
        # When one example does not fit, the user is told.
        block, failing = blocks_of(model.lm._module)[0], raising(torch.OutOfMemoryError())
        with block.register_forward_pre_hook(failing):
            refused(differences, model, examples, [1], said="memory for one prompt")


class TestPage:
    def test_it_shows_one_prompt_the_check_and_the_plans(self):
        page = scaling_page()
        assert "| llama2-7b | layer sweep | 44,800 | 482 | 93 |" in page
        for name, planned, done in cost.counted():
            assert planned == done and f"| {name} | {planned} | {done} |" in page
        assert len(cost.counted()) == 4
        for path in cost.PLANS.glob("*.json"):  # of profiles that exist, and they add up
            about = json.loads(path.read_text())
            assert load_profile(path.stem).model == about["model"] and about["profile"] == path.stem
            for name, total in about["total"].items():
                assert total == sum(row[name] for row in about["rows"])
            assert f"| {path.stem} | {about['tokenizer']} |" in page

    def test_without_a_record_and_plans_it_says_so(self, tmp_path, monkeypatch):
        monkeypatch.setattr(cost, "RECORD", tmp_path / "gpu.json")
        monkeypatch.setattr(sys.modules[scaling_page.__module__], "PLANS", tmp_path)
        assert "has not been run on a GPU" in scaling_page()
        assert "No plan of the papers' profiles is committed" in scaling_page()
        assert cost.measured_rate("llama2-7b") is None


@pytest.fixture(scope="module")
def tried(tmp_path_factory) -> dict:
    out = tmp_path_factory.mktemp("gpu") / "gpu.json"
    command = [sys.executable, str(BENCHMARK), "llama2-7b", "gemma-2-2b", "--tiny", "--out", str(out)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(out.read_text())


class TestBenchmark:
    def test_the_same_code_runs_with_tiny_shapes_on_a_cpu(self, tried):
        assert tried["tiny"] and tried["device"] == "CPU" and tried["matmul_rate"] > 0
        stages = [(row["model"], row["stage"]) for row in tried["rows"]]
        models = ("llama2-7b", "gemma-2-2b")
        assert stages == [(model, stage) for model in models for stage in ("extraction", "sweep", "grid")]
        for row in tried["rows"]:
            assert row["prompts_per_second"] == pytest.approx(row["prompts"] / row["seconds"])
            assert row["share"] == pytest.approx(row["operations"] / row["seconds"] / tried["matmul_rate"])
            # What prompts and conditions share runs once and is counted once; padding is counted.
            planned = row["operations_per_second"] * row["seconds"]
            assert 0.2 * planned < row["operations"] < 1.2 * planned

    def test_token_passes_are_those_of_the_prompt_lengths(self, tried):
        """Four prompts: 24 conditions in the sweep of four blocks, 36 for six vectors, and one more."""
        lengths, rows = LENGTHS[:4], {row["stage"]: row["token_passes"] for row in tried["rows"][:3]}
        assert rows["extraction"] == sum(n + 1 + 2 for n in lengths)
        assert rows["sweep"] == sum(n - 1 + 2 * 25 for n in lengths)
        assert rows["grid"] == sum(n - 1 + 2 * 37 for n in lengths)
        # Hours of the whole grid are those of the plan.
        rows = {row["stage"]: row for row in tried["rows"][:3]}
        about = json.loads((cost.PLANS / "llama2-7b.json").read_text())
        kinds = {(row["stage"], row["format"]): row["operations"] for row in about["rows"]}
        hours = kinds["shift", "letter"] / rows["grid"]["operations_per_second"] / 3600
        assert rows["grid"]["whole_hours"] == pytest.approx(hours)
        assert rows["extraction"]["whole_hours"] is None

    def test_the_page_and_the_planner_read_its_record(self, tried, tmp_path, monkeypatch):
        record = tmp_path / "gpu.json"
        record.write_text(json.dumps(tried))
        monkeypatch.setattr(cost, "RECORD", record)
        assert cost.measured_rate("gemma-2-2b") == tried["rows"][5]["operations_per_second"]
        page = scaling_page()
        assert "python benchmarks/gpu.py --tiny" in page and "has not been run" not in page
        assert "| gemma-2-2b | grid | 4 |" in page
        # Without a GPU the real one refuses.
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(sys, "argv", [str(BENCHMARK)])
        monkeypatch.syspath_prepend(str(BENCHMARK.parent))
        with pytest.raises(SystemExit, match="needs a GPU"):
            runpy.run_path(str(BENCHMARK), run_name="__main__")
