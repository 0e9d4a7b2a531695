"""Every family of language models that transformers has, or a reason: tiny random ones, saved, loaded and steered.

`families.json` has a row a family: its configuration, the engine that evaluates it, or what its refusal says. Where the
tree is right, it, the direct engine and hooks on plain transformers give one answer; where it cannot be (recurrence,
positions that follow the order of tokens), the self-check notices and the direct engine gives that answer. Steered text
is that of hooks as well, with a cache of keys and values, of another kind or none.
"""

import json
import warnings
from pathlib import Path

import plain_model
import pytest
import torch
import transformers
from conftest import asked, close, random_vectors, refused
from nnsight import TransformersModel

from steerkit import differences, evaluate, generate, wrap
from steerkit.generation import ends_of, prompt_tokens
from steerkit.load import read_weights

TABLE = json.loads(Path(__file__).with_name("families.json").read_text(encoding="utf-8"))
BASE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4}
BASE |= {"pad_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
MULTIPLIERS, TOLERANCE = [-1.0, 1.0], 1e-4


def saved(folder: Path, kind: str, shapes: str, extra: dict, words: int) -> Path:
    """A random model of a family as a checkpoint, with weights so wide that a wrong mask shows."""
    config = getattr(transformers, f"{kind}Config")
    settings = BASE | {"vocab_size": words}
    for shape in shapes.split():
        settings |= TABLE["shapes"][shape]
    if "text_config" in extra:
        extra, settings = extra | {"text_config": settings | extra["text_config"]}, {}
    config = config(**settings | extra)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        known = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
        other = f"{kind}ForConditionalGeneration"
        family = known[type(config)] if type(config) in known else getattr(transformers, other)
        module = family._from_config(config, attn_implementation="eager").float()
        for weight in module.parameters():
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, std=0.15)
    module.save_pretrained(folder)
    return folder


def loaded(folder: Path, tokenizer):
    module = read_weights(str(folder), dtype=torch.float32).requires_grad_(False)
    return wrap(folder.name, TransformersModel(module, task="text-generation", tokenizer=tokenizer))


@pytest.mark.filterwarnings("ignore:Module .* has a submodule named 'output'")  # nnsight's, of BERT
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # transformers', of GPT-BigCode
@pytest.mark.parametrize("row", TABLE["families"], ids=lambda row: row[0])
def test_a_family_agrees_with_plain_hooks_or_is_refused(row, tokenizer, tmp_path):
    _, kind, shapes, extra, outcome = row
    folder = saved(tmp_path / "model", kind, shapes, extra, len(tokenizer))
    if outcome not in ("tree", "direct"):
        refused(loaded, folder, tokenizer, said=outcome)
        return
    model = loaded(folder, tokenizer)
    depth = len(model.layers)
    layers, vectors = sorted({min(2, depth - 1), depth - 1}), random_vectors(model, ["full"])
    for form in ("letter", "statement"):
        examples = asked(form, model, 2)
        given = model, examples, vectors, MULTIPLIERS
        with warnings.catch_warnings():
            if outcome == "direct":
                warnings.filterwarnings("ignore", ".* (direct engine|forward of its own), because")
            found = evaluate(*given, layers=layers)
            read = differences(model, examples, layers)
        wanted = plain_model.propensities(model, examples, vectors, layers, MULTIPLIERS)
        assert found.engine == outcome and wanted.std() > 0.01
        close(found.propensity, wanted, TOLERANCE)
        if outcome == "tree":
            close(evaluate(*given, layers=layers, engine="direct").propensity, wanted, TOLERANCE)
        close(read, plain_model.differences(model, examples, layers, plain_model.outputs), TOLERANCE)
    check_text(model, vectors, layers[0])


def check_text(model, vectors, layer: int) -> None:
    """Steered text is, token by token, the likeliest by hooks on a whole forward."""
    prompt = prompt_tokens(model, "What is a good day?")
    given = {"layer": layer, "multipliers": [-2.0, 0.0, 2.0], "max_new_tokens": 4}
    for multiplier, text in generate(model, "What is a good day?", vectors, **given):
        tokens, delta = list(prompt), multiplier * vectors.at(layer)[0]
        while len(tokens) < len(prompt) + given["max_new_tokens"]:
            best = int(plain_model.logits(model, tokens, len(prompt) - 1, layer, delta)[-1].argmax())
            if best in ends_of(model):
                break
            tokens.append(best)
        assert text == model.tokenizer.decode(tokens[len(prompt) :], skip_special_tokens=True)
