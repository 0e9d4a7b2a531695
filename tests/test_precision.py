"""Precision and place: who decides them, that they are in the key, and that half precision is still checked."""

import pytest
import torch
from conftest import asked, own_model, random_vectors, refused

from companion import store
from companion.models import MODELS, dtype_of, load_model
from companion.profiles import load_profile
from companion.tan import jobs
from companion.tan.jobs import Job
from companion.tiny import ARCHITECTURES
from steerkit import differences, evaluate, load, load_vectors, traces


class TestDtype:
    def test_of_a_registered_model_it_is_its_own_and_of_any_other_that_of_the_device(self, monkeypatch):
        """With a GPU, too; nothing can be put on the one here. What a CPU only emulates it computes in float32."""
        cases = (False, True, "float32"), (False, False, "float32"), (True, False, "bfloat16")
        for gpu, half, other in cases:
            monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
            monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda half=half: half)
            slow = () if gpu else ("float16",) if half else ("float16", "bfloat16")
            own = {name: other if spec.dtype in slow else spec.dtype for name, spec in MODELS.items()}
            assert {name: dtype_of(name) for name in MODELS} == own
            assert dtype_of("org/name") == other
        assert {MODELS[name].dtype for name in ("llama2-7b", "qwen1.5-14b", "gemma-2-2b")} == {"float16"}
        assert {MODELS[name].dtype for name in ("tiny", "smollm2-135m", "gemma3-270m")} == {"float32"}

    def test_it_is_in_the_key_and_the_device_is_not(self, monkeypatch):
        job = Job(load_profile("smoke"), "grid", "openness", "letter", 1)
        before = jobs.inputs(job)
        assert before["dtype"] == "float32" and "device" not in before
        monkeypatch.setattr(jobs, "dtype_of", lambda *_: "bfloat16")
        assert store.key(jobs.inputs(job)) != store.key(before)

    def test_the_manifest_of_table_and_vectors_says_where_and_in_what(self, smoke):
        one = "*grid-openness-letter-*"
        table, vectors = (next(smoke.folder.glob(f"{one}.{end}")) for end in ("parquet", "safetensors"))
        for about in (store.read_table(table).attrs["manifest"], load_vectors(vectors).manifest):
            assert about["source"]["device"] == "cpu" and about["source"]["dtype"] == "float32"
            assert about["inputs"]["dtype"] == "float32"

    @pytest.mark.parametrize("dtype", ["Tensor", "int8", "float8_e4m3fn", "torch.float32", ""])
    def test_what_no_model_runs_in_is_refused_before_anything_is_loaded(self, monkeypatch, dtype):
        monkeypatch.setattr(load, "open_folder", lambda *_: pytest.fail("loaded"))
        for call, name in ((load_model, "tiny"), (load.load_model, "org/name")):
            assert refused(call, name, dtype=dtype, said="torch dtype").found == repr(dtype)


@pytest.mark.parametrize("device", ["quantum", "cuda:99", ""])
def test_a_device_that_is_not_there_is_refused_before_anything_is_loaded(monkeypatch, device):
    monkeypatch.setattr(load, "open_folder", lambda *_: pytest.fail("loaded"))
    error = refused(load_model, "tiny", device=device, said="a device that torch can use here")
    assert repr(device) in error.found and len(error.found) < 100


ENDS = [0, 3]  # the layers on which the engines are compared


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", ["letter", "statement"])
class TestHalfPrecision:
    """A check that passes everything checks nothing; one that fails what only rounds wastes the fast engine."""

    @pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
    def test_rounding_is_not_taken_for_a_fault(self, tokenizer, architecture, dtype, form):
        """There would be a warning, which is an error here."""
        model = own_model(tokenizer, architecture, dtype)
        found = evaluate(model, asked(form, model), random_vectors(model), [-1.5, 1.0], layers=ENDS)
        differences(model, asked(form, model), ENDS)
        assert found.engine == "tree"

    @pytest.mark.parametrize("architecture", ["mistral", "gemma2", "gemma3"])
    def test_a_forgotten_window_is_noticed(self, tokenizer, monkeypatch, architecture, dtype, form):
        monkeypatch.setattr(traces, "windows", lambda config: [None] * config.num_hidden_layers)
        model = own_model(tokenizer, architecture, dtype)
        with pytest.warns(RuntimeWarning, match="as a share of the effect of steering"):
            found = evaluate(model, asked(form, model), random_vectors(model), [-1.5, 1.0], layers=ENDS)
        assert found.engine == "direct"
        with pytest.warns(RuntimeWarning, match="reading each answer in a forward of its own"):
            differences(model, asked(form, model), [3])


def test_a_letters_score_is_not_rounded_to_half_precision(tokenizer):
    """Logits of real models are so large that half precision would keep no difference between two multipliers."""
    model = own_model(tokenizer, dtype=torch.bfloat16)
    scores = evaluate(model, asked("letter", model, 4), random_vectors(model), [-1.0, 1.0]).scores
    kept = scores.to(torch.bfloat16).double() == scores
    assert kept.float().mean() < 0.2
