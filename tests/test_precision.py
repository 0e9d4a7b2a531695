"""Precision and place: who decides them, that they are in the key, and that half precision is still checked."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
import transformers
from conftest import random_examples, random_vectors

import steerkit
from companion import store
from companion.models import dtype_of, load_model
from companion.profiles import load_profile
from companion.registry import MODELS
from companion.tan import jobs
from companion.tan.jobs import Job
from companion.tiny import ARCHITECTURES, tiny_lm
from steerkit import load, traces, trust
from steerkit.errors import SteerkitError
from steerkit.extraction import differences
from steerkit.grid import evaluate
from steerkit.model import _TUPLES, find_sites, wrap

WINDOWED = ("mistral", "gemma2", "gemma3")


@pytest.fixture
def gpu(monkeypatch):
    """A machine that says it has a GPU; nothing can be put on it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def half(architecture: str, tokenizer, dtype: torch.dtype, seed: int = 0) -> steerkit.Model:
    model = wrap(architecture, tiny_lm(architecture, tokenizer, seed=seed))
    model.lm._module.to(dtype)
    return replace(model, dtype=dtype)


class TestDtype:
    @pytest.mark.parametrize("name", MODELS)
    def test_of_a_registered_model_it_is_the_same_on_every_device(self, name, monkeypatch):
        here = dtype_of(name)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert dtype_of(name) == here == MODELS[name].dtype

    def test_the_papers_models_run_in_half_precision_and_the_small_ones_in_single(self):
        assert {
            name: MODELS[name].dtype for name in ("llama2-7b", "qwen1.5-14b", "gemma-2-2b")
        } == dict.fromkeys(("llama2-7b", "qwen1.5-14b", "gemma-2-2b"), "float16")
        for name in ("tiny", "tiny-gemma3", "smollm2-135m", "gemma3-270m"):
            assert MODELS[name].dtype == "float32"

    def test_of_any_other_model_it_follows_the_device(self, gpu):
        assert dtype_of("org/name") == "bfloat16"

    def test_and_on_a_cpu_it_is_single(self):
        assert dtype_of("org/name") == "float32"

    def test_it_is_in_the_key_and_the_device_is_not(self, monkeypatch):
        job = Job(load_profile("smoke"), "grid", "openness", "letter", 1)
        before = jobs.inputs(job)
        assert before["dtype"] == "float32" and "device" not in before
        monkeypatch.setattr(jobs, "dtype_of", lambda *_: "bfloat16")
        assert store.key(jobs.inputs(job)) != store.key(before)

    def test_the_manifest_of_table_and_vectors_says_where_and_in_what(self, smoke):
        for suffix in ("parquet", "safetensors"):
            path = next(smoke.folder.glob(f"*grid-openness-letter-*.{suffix}"))
            if suffix == "parquet":
                about = store.read_table(path).attrs["manifest"]
            else:
                from steerkit.vectors import load_vectors

                about = load_vectors(path).manifest
            assert about["source"]["device"] == "cpu" and about["source"]["dtype"] == "float32"
            assert about["inputs"]["dtype"] == "float32"

    def test_the_tiny_model_is_in_the_precision_asked_for(self):
        model = load_model("tiny", dtype="bfloat16")
        assert next(model.lm._module.parameters()).dtype == model.dtype == torch.bfloat16
        assert model.source["dtype"] == "bfloat16" and model.dtype_reason == "asked for"

    @pytest.mark.parametrize("dtype", ["float23", "int8", "float8_e4m3fn", "torch.float32", ""])
    def test_what_torch_does_not_know_or_no_model_runs_in_is_refused(self, monkeypatch, dtype):
        monkeypatch.setattr(load, "open_folder", lambda *_: pytest.fail("loaded"))
        with pytest.raises(SteerkitError, match="torch dtype") as error:
            load_model("tiny", dtype=dtype)
        assert error.value.found == repr(dtype)


@pytest.mark.parametrize("device", ["quantum", "cuda:99", ""])
def test_a_device_that_is_not_there_is_refused_before_anything_is_loaded(monkeypatch, device):
    monkeypatch.setattr(load, "open_folder", lambda *_: pytest.fail("loaded"))
    with pytest.raises(SteerkitError, match="a device that torch can use here") as error:
        load_model("tiny", device=device)
    assert repr(device) in error.value.found and len(error.value.found) < 100


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", ["letter", "statement"])
class TestHalfPrecision:
    """A check that passes everything checks nothing; one that fails what only rounds wastes the fast engine."""

    @pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
    def test_rounding_is_not_taken_for_a_fault(self, tokenizer, architecture, dtype, form):
        model, examples = half(architecture, tokenizer, dtype), random_examples(form, 3, len(tokenizer))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert evaluate(model, examples, random_vectors(model), [-1.5, 1.0]).engine == "tree"
            differences(model, examples, [0, 3])

    @pytest.mark.parametrize("architecture", WINDOWED)
    def test_a_forgotten_window_is_noticed(self, tokenizer, monkeypatch, architecture, dtype, form):
        model, examples = half(architecture, tokenizer, dtype), random_examples(form, 3, len(tokenizer))
        forget_windows(monkeypatch)
        with pytest.warns(RuntimeWarning, match="as a share of the effect of steering"):
            found = evaluate(model, examples, random_vectors(model), [-1.5, 1.0])
        assert found.engine == "direct"
        with pytest.warns(RuntimeWarning, match="reading each answer in a forward of its own"):
            differences(model, examples, [3])


def forget_windows(monkeypatch) -> None:
    """The engine believes that every layer sees everything."""
    real = traces.masked_inputs

    def blind(site, batch):
        site.windows = [None] * len(site.windows)
        return real(site, batch)

    monkeypatch.setattr(traces, "masked_inputs", blind)


def test_a_letters_score_is_not_rounded_to_half_precision(tokenizer):
    """Logits of real models are so large that half precision would keep no difference between two multipliers."""
    model = half("llama", tokenizer, torch.bfloat16)
    scores = evaluate(
        model, random_examples("letter", 4, len(tokenizer)), random_vectors(model), [-1.0, 1.0]
    ).scores
    kept = scores.to(torch.bfloat16).double() == scores
    assert kept.float().mean() < 0.2


@pytest.mark.parametrize(
    ("scores", "wanted"),
    [([[1.0, 3.5, 0.5], [-1.0, -1.2, -1.1]], 2.5), ([[-36.0] * 3] * 2, 3.6), ([[0.0, 0.0]] * 2, 0.0)],
)
def test_the_yardstick_is_the_largest_effect_or_a_tenth_of_the_scores_and_never_zero(scores, wanted):
    found = trust.yardstick(torch.tensor(scores))
    assert found == pytest.approx(wanted) and found > 0


SHAPE = {"vocab_size": 40, "num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2}
KINDS = {
    "bloom": ("BloomConfig", {"n_layer": 2, "n_head": 2}),
    "codegen": ("CodeGenConfig", {"n_embd": 16, "n_layer": 2, "num_attention_heads": 4, "rotary_dim": 4}),
    "falcon": ("FalconConfig", {}),
    "gpt_neo": ("GPTNeoConfig", {"num_layers": 2, "num_heads": 2, "attention_types": [[["global"], 2]]}),
    "gptj": ("GPTJConfig", {"n_embd": 16, "n_layer": 2, "n_head": 2, "rotary_dim": 4}),
}


class TestTuples:
    @pytest.mark.parametrize("name", _TUPLES)
    def test_a_family_whose_blocks_give_tuples_is_refused_by_name(self, tokenizer, name):
        """And they do: the list says nothing that torch does not confirm."""
        from nnsight import TransformersModel

        kind, extra = KINDS[name]
        config = getattr(transformers, kind)(**(SHAPE | extra))
        module = transformers.AutoModelForCausalLM.from_config(config).eval()
        given = []
        with module.transformer.h[0].register_forward_hook(lambda m, i, output: given.append(type(output))):
            module(input_ids=torch.tensor([[3, 4, 5]]))
        assert given == [tuple]
        lm = TransformersModel(module, task="text-generation", tokenizer=tokenizer)
        with pytest.raises(SteerkitError, match=f"a {type(module).__name__}, whose blocks give a tuple"):
            find_sites(lm)

    def test_no_supported_family_is_among_them(self, any_model):
        assert any_model.lm._module.config.model_type not in _TUPLES
