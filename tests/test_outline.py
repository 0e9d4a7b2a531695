"""Outlines: the sizes of a model are those of the loaded one, and none of its weights are needed."""

import pytest
import transformers
from conftest import raising, refused
from plain_model import blocks

from companion.models import MODELS
from companion.outline import outline
from steerkit.load import SMALL_FILES, TWICE

# What belongs neither to a block nor to the tables of the vocabulary: the final norm, in GPT-2 the positions as well.
BESIDES = {"gpt2": 2 * 32 + 2048 * 32, "gpt_neox": 2 * 32}


@pytest.fixture
def without_weights(tokenizer, tmp_path) -> str:
    """A folder with configuration and tokenizer of a small Llama, and no weights."""
    shape = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 2}
    shape |= {"vocab_size": len(tokenizer), "architectures": ["LlamaForCausalLM"]}
    transformers.LlamaConfig(**shape).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.fixture(autouse=True)
def forget():
    """No test is answered with what another one opened."""
    outline.cache_clear()
    yield
    outline.cache_clear()


class TestSizes:
    def test_they_are_those_of_every_architecture_in_memory(self, any_model, tmp_path):
        lm = any_model.lm._module
        lm.config.save_pretrained(tmp_path)
        any_model.lm.tokenizer.save_pretrained(tmp_path)
        found = outline(str(tmp_path))
        tables = {lm.get_input_embeddings().weight, lm.get_output_embeddings().weight}
        inside = sum(weight.numel() for weight in blocks(lm).parameters())
        assert found.parameters == sum(weight.numel() for weight in lm.parameters())
        assert found.block_parameters == found.parameters - sum(weight.numel() for weight in tables)
        assert found.block_parameters == inside + BESIDES.get(any_model.name, 32)
        assert (found.n_layers, found.width) == (len(any_model.layers), any_model.width)
        assert found.vocabulary == lm.get_output_embeddings().weight.shape[0]


class TestWithoutWeights:
    def test_a_model_larger_than_any_memory_is_measured(self, without_weights):
        """Eighty blocks wide enough for 11 TB of weights: whatever allocates them fails. By hand, a Llama has four
        attention matrices, three of the feed-forward part and two norms a block, and a final norm."""
        d, f = 65536, 131072
        shape = {"hidden_size": d, "intermediate_size": f, "num_hidden_layers": 80, "num_attention_heads": 64}
        transformers.LlamaConfig(vocab_size=1000, **shape).save_pretrained(without_weights)
        found = outline(without_weights)
        assert found.block_parameters == 80 * (4 * d * d + 3 * d * f + 2 * d) + d
        assert found.parameters == found.block_parameters + 2 * 1000 * d > 1e13 / 4
        assert (found.n_layers, found.width, found.vocabulary) == (80, d, 1000)
        assert found is outline(without_weights)  # read once

    def test_of_a_hub_model_only_small_files_are_fetched(self, without_weights, monkeypatch):
        asked = []

        def download(hub_id, **how):
            asked.append((hub_id, how))
            return without_weights

        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        monkeypatch.setattr("companion.outline.load_model", lambda _: pytest.fail("loaded"))
        found = outline("llama2-7b")
        spec = MODELS["llama2-7b"]
        how = {"allow_patterns": list(SMALL_FILES), "ignore_patterns": list(TWICE)}
        assert asked == [(spec.hub_id, {"revision": spec.revision} | how)]
        assert found.name == "llama2-7b" and found.template.name == "llama-2"
        large = ("model.safetensors", "pytorch_model.bin", "model.gguf", "consolidated.00.pth", "a.npz")
        assert not any(name.endswith(pattern.lstrip("*")) for name in large for pattern in SMALL_FILES)


class TestRefused:
    @pytest.mark.parametrize("kind", [OSError, RuntimeError, ValueError])
    def test_a_hub_that_gives_nothing_is_one_message(self, monkeypatch, kind):
        failing = raising(kind("no connection\nsecond line"))
        monkeypatch.setattr("huggingface_hub.snapshot_download", failing)
        error = refused(outline, "gemma-2-2b", said="tokenizer of google/gemma-2-2b-it")
        assert error.found == f"{kind.__name__}: no connection"
        assert error.done == "Nothing was loaded." and "hf auth login" in error.next_step

    def test_a_folder_that_holds_no_model_is_refused(self, tmp_path):
        error = refused(outline, str(tmp_path), said="tokenizer of a causal language model at")
        assert "\n" not in str(error) and "config.json" in error.found
