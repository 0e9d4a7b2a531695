"""Outlines: the sizes of a model are those of the loaded one, and none of its weights are needed."""

from __future__ import annotations

import pytest
import transformers
from plain_model import blocks

from companion import outline as module
from companion.models import load_model, spec_of
from companion.outline import _measured, outline
from companion.registry import MODELS
from steerkit.errors import SteerkitError
from steerkit.load import SMALL_FILES

# What belongs neither to a block nor to the tables of the vocabulary: the final norm, in GPT-2 the positions as well.
BESIDES = {"gpt2": 2 * 32 + 2048 * 32, "gpt_neox": 2 * 32}


@pytest.fixture
def without_weights(tokenizer, tmp_path) -> str:
    """A folder with configuration and tokenizer of a small Llama, and no weights."""
    shape = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 2}
    transformers.LlamaConfig(
        vocab_size=len(tokenizer), architectures=["LlamaForCausalLM"], **shape
    ).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


class TestSizes:
    def test_they_are_those_of_every_architecture_in_memory(self, any_model):
        lm = any_model.lm._module
        found = _measured(spec_of("tiny"), lm.config, any_model.lm.tokenizer)
        tables = {
            id(w): w.numel() for w in (lm.get_input_embeddings().weight, lm.get_output_embeddings().weight)
        }
        weights = {id(w): w.numel() for w in lm.parameters()}
        inside = sum(weight.numel() for weight in blocks(lm).parameters())
        assert found.parameters == sum(weights.values())
        assert found.block_parameters == sum(weights.values()) - sum(tables.values())
        assert found.block_parameters == inside + BESIDES.get(any_model.name, 32)
        assert (found.n_layers, found.width) == (any_model.sites.n_layers, any_model.width)
        assert found.vocabulary == lm.get_output_embeddings().weight.shape[0]

    @pytest.mark.parametrize("name", ["tiny", "tiny-gemma3"])
    def test_a_model_by_name_has_the_tokenizer_and_template_with_which_it_runs(self, name):
        found, model = outline(name), load_model(name)
        assert found.name == name and found.template == model.template
        assert found.tokenizer.get_vocab() == model.tokenizer.get_vocab()
        assert found.parameters == sum(w.numel() for w in set(model.lm._module.parameters()))

    def test_by_hand(self, without_weights, tokenizer):
        """Llama: four attention matrices, three of the feed-forward part, two norms a block, and a final norm."""
        found, d, n = outline(without_weights), 24, len(tokenizer)
        assert found.block_parameters == 3 * (4 * d * d + 3 * d * 40 + 2 * d) + d
        assert found.parameters == found.block_parameters + 2 * n * d
        assert (found.n_layers, found.width, found.vocabulary) == (3, d, n)
        assert found is outline(without_weights)  # read once


class TestWithoutWeights:
    def test_a_model_larger_than_any_memory_is_measured(self, tokenizer):
        """Eighty blocks wide enough for 11 TB of weights: whatever allocates them fails."""
        shape = {"hidden_size": 65536, "intermediate_size": 131072, "num_hidden_layers": 80}
        config = transformers.LlamaConfig(vocab_size=1000, num_attention_heads=64, **shape)
        found = _measured(spec_of("tiny"), config, tokenizer)
        d, f = 65536, 131072
        assert found.block_parameters == 80 * (4 * d * d + 3 * d * f + 2 * d) + d
        assert found.parameters * 4 > 1e13

    def test_of_a_hub_model_only_small_files_are_fetched(self, without_weights, monkeypatch):
        asked = []

        def download(hub_id, **how):
            asked.append((hub_id, how))
            return without_weights

        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        monkeypatch.setattr(module, "load_model", lambda _: pytest.fail("loaded"))
        found = outline.__wrapped__("llama2-7b")
        spec = MODELS["llama2-7b"]
        assert asked == [(spec.hub_id, {"revision": spec.revision, "allow_patterns": list(SMALL_FILES)})]
        assert found.name == "llama2-7b" and found.template.name == "llama-2"
        large = ("model.safetensors", "pytorch_model.bin", "model.gguf", "consolidated.00.pth", "a.npz")
        assert not any(name.endswith(pattern.lstrip("*")) for name in large for pattern in SMALL_FILES)


class TestRefused:
    @pytest.mark.parametrize(
        "reason", [OSError("no connection\nsecond line"), RuntimeError("401 gated"), ValueError("bad")]
    )
    def test_a_hub_that_gives_nothing_is_one_message(self, monkeypatch, reason):
        def download(*_, **__):
            raise reason

        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        with pytest.raises(
            SteerkitError, match="configuration and tokenizer of google/gemma-2-2b-it"
        ) as error:
            outline.__wrapped__("gemma-2-2b")
        assert error.value.found == f"{type(reason).__name__}: {str(reason).splitlines()[0]}"
        assert error.value.done == "Nothing was computed." and "hf auth login" in error.value.next_step

    def test_an_unknown_name_is_refused(self):
        with pytest.raises(SteerkitError, match="a registered model"):
            outline("tinny")

    def test_terms_that_were_not_accepted_stop_it(self, monkeypatch):
        def refuse(_):
            raise SteerkitError("terms accepted", "not yet", next_step="accept them.")

        monkeypatch.setattr("companion.models.obtain", refuse)
        with pytest.raises(SteerkitError, match="terms accepted"):
            outline.__wrapped__("gemma3-270m")

    def test_a_folder_that_holds_no_model_is_refused(self, tmp_path):
        with pytest.raises(
            SteerkitError, match="configuration and tokenizer of a causal language model at"
        ) as error:
            outline(str(tmp_path))
        assert "\n" not in str(error.value) and "config.json" in error.value.found
