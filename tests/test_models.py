"""Loading models: by name, from a folder, and never by running what a checkpoint brings along."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import steerkit
from companion import models
from companion.tiny import tiny_lm, tiny_tokenizer
from steerkit.errors import SteerkitError
from steerkit.extraction import differences, mean_difference
from steerkit.grid import evaluate

WORDS = (
    "You are a helpful , honest and concise assistant . Tell me something about yourself I love hate people"
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A checkpoint folder as `save_pretrained` writes it."""
    folder = tmp_path_factory.mktemp("saved") / "tiny-llama"
    tokenizer = tiny_tokenizer([WORDS])
    module = tiny_lm("llama", tokenizer)._module
    module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def checkpoint(saved, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(saved, tmp_path / "checkpoint"))


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def example_of(model: steerkit.Model):
    """An example that needs no data set."""
    return steerkit.ask(model, [("Tell me something about yourself", "I love people", "I hate people")])[0]


class TestFolders:
    def test_a_saved_model_loads_and_gives_the_numbers_of_the_one_in_memory(self, saved):
        loaded = models.load_model(str(saved), template="plain")  # as `wrap` asks; by itself: a base model
        grids = []
        for model in (loaded, steerkit.wrap("original", tiny_lm("llama", tiny_tokenizer([WORDS])))):
            example = example_of(model)
            vectors = mean_difference(differences(model, [example], [1, 2]), [1, 2])
            grids.append(evaluate(model, [example], vectors, [-1.0, 0.0, 1.0]).scores)
        torch.testing.assert_close(grids[0], grids[1], rtol=0, atol=1e-6)
        assert grids[0].std() > 1e-3

    def test_its_source_says_where_it_came_from_and_in_which_precision(self, saved):
        model = models.load_model(str(saved), dtype="bfloat16")
        assert (model.name, model.dtype, model.dtype_reason) == ("tiny-llama", torch.bfloat16, "asked for")
        assert next(model.lm._module.parameters()).dtype == torch.bfloat16
        assert model.source["sha256"] == models.fingerprint(str(saved))
        assert model.source["dtype"] == "bfloat16"
        assert len(model.layers) == 4

    def test_a_chat_template_of_the_checkpoint_is_used(self, checkpoint):
        text = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
        (checkpoint / "chat_template.jinja").write_text(text)
        template = models.load_model(str(checkpoint)).template
        assert template.render("S", "U") == "<system>S<user>U<assistant>"

    @pytest.mark.parametrize(
        "name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"]
    )
    def test_the_fingerprint_follows_every_file_that_decides_numbers(self, checkpoint, name):
        before = models.fingerprint(str(checkpoint))
        with (checkpoint / name).open("ab") as file:
            file.write(b"\n")
        assert models.fingerprint(str(checkpoint)) != before


class TestRefusals:
    def test_pickled_weights_are_refused_and_not_opened(self, checkpoint, tmp_path):
        class Trap:
            def __reduce__(self):
                return Path.touch, (tmp_path / "opened",)

        (checkpoint / "model.safetensors").unlink()
        torch.save({"weight": Trap()}, checkpoint / "pytorch_model.bin")
        with pytest.raises(SteerkitError, match="safetensors weights"):
            models.load_model(str(checkpoint))
        assert not (tmp_path / "opened").exists()

    @pytest.mark.parametrize("kind", ["config", "tokenizer", "unknown type"])
    def test_code_that_comes_with_a_checkpoint_is_never_run(self, checkpoint, tmp_path, monkeypatch, kind):
        """Not even when somebody would say yes: transformers asks on the terminal unless told not to."""
        monkeypatch.setattr("builtins.input", lambda *_: "y")
        (checkpoint / "own.py").write_text(
            f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
            "from transformers import LlamaConfig as C, LlamaForCausalLM as M, PreTrainedTokenizerFast as T\n"
        )
        own = {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}
        if kind == "tokenizer":
            edit(checkpoint / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "own.T"]})
        else:
            changed = {"model_type": "own"} if kind == "unknown type" else {}
            edit(checkpoint / "config.json", auto_map=own, **changed)
        if kind == "unknown type":
            with pytest.raises(SteerkitError, match="causal language model"):
                models.load_model(str(checkpoint))
        else:
            assert len(models.load_model(str(checkpoint)).layers) == 4
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        ("name", "kept"), [("model.safetensors", 5000), ("config.json", 0), ("tokenizer.json", 0)]
    )
    def test_an_incomplete_folder_is_one_clear_error(self, checkpoint, name, kept):
        begin = (checkpoint / name).read_bytes()[:kept]
        (checkpoint / name).unlink()
        if kept:
            (checkpoint / name).write_bytes(begin)
        with pytest.raises(SteerkitError, match="causal language model with safetensors weights at"):
            models.load_model(str(checkpoint))

    @pytest.mark.parametrize("name", ["smollm", "", "./nowhere", "/nowhere/at/all", "~/model"])
    def test_an_unknown_name_is_answered_with_the_known_ones(self, name):
        for call in (models.load_model, models.fingerprint):
            with pytest.raises(SteerkitError, match="smollm2-135m") as found:
                call(name)
            assert found.value.found == repr(name)

    def test_an_unknown_chat_template_is_refused(self, saved):
        with pytest.raises(SteerkitError, match="chat template"):
            models.load_model(str(saved), template="llama-7")


class TestRegistry:
    def test_a_hub_id_may_carry_a_revision(self):
        assert models.fingerprint("org/name@v1") == "org/name@v1"
        assert models.fingerprint("org/name") == "org/name@main"

    def test_the_tiny_model_is_the_same_every_time_and_differs_from_the_default(self):
        assert models.fingerprint("tiny") == models.fingerprint("tiny") != models.fingerprint("smollm2-135m")
        first, second = (models.load_model("tiny").lm._module.state_dict() for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)
