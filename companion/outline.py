"""What can be known of a model without its weights: tokenizer, template, layers and sizes."""

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from companion.models import MODELS, ModelSpec, load_model, location, spec_of
from steerkit.errors import first_line, told
from steerkit.files import cache_dir
from steerkit.templates import Template, template_for

DEFAULT = "smollm2-135m"
SHAPES = tuple(name for name, spec in MODELS.items() if spec.shape)  # models known without any download
# Tokens of a prompt: 32 evenly spaced quantiles over 30 letter prompts of each of the 40 sets of Tan et al. 2024, in
# the chat template of Llama 2, cut by the tokenizer of the default model.
LENGTHS = (61, 64, 66, 67, 68, 68, 69, 70, 71, 71, 72, 73, 74, 75, 76, 77)
LENGTHS += (78, 80, 82, 84, 87, 90, 94, 100, 106, 115, 125, 136, 157, 183, 209, 255)

# Folders of vocabularies that `tools/tokenizers.sh` fetches: gated models have theirs elsewhere, under the same ids.
VOCABULARIES = {
    "llama2-7b": "llama2",
    "qwen1.5-14b": "qwen3",
    "qwen2.5-coder-1.5b": "qwen3",
    "gemma-2-2b": "gemini",
    "gemma3-270m": "gemma3",
    "llama3.1-70b": "llama3_1",
}


@dataclass(frozen=True)
class Outline:
    """`parameters` counts all weights, `block_parameters` all but the two vocabulary tables; `width` is d.

    `tokenizer_of` names the model whose tokenizer it is: another one's where the own could not be had (`stand_in`).
    """

    name: str
    tokenizer: Any
    template: Template
    n_layers: int
    width: int
    vocabulary: int
    parameters: int
    block_parameters: int
    config: Any = None
    attention: str = "sdpa"
    tokenizer_of: str = ""


@lru_cache(maxsize=4)
def outline(name: str) -> Outline:
    """The outline of a model, or a refusal; of a hub model only configuration and tokenizer are fetched."""
    spec = spec_of(name)
    if spec.tiny:
        lm = load_model(name).lm
        return _measured(spec, lm._module.config, lm.tokenizer)
    place = location(spec)
    expected = f"configuration and tokenizer of a causal language model at {place}"
    with told((OSError, ValueError), expected, "check the folder.", "Nothing was computed.", first_line):
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    return _measured(spec, config, tokenizer)


def stand_in(name: str) -> Outline | None:
    """The outline of a model without a download: the shape in the registry, and the model's vocabulary where it is here.

    Else the tokenizer of the default model, which cuts text into about as many tokens. None where the shape is not known.
    """
    spec = spec_of(name)
    if spec.shape is None:
        return None
    place = vocabulary(name)
    own = None if place else outline(DEFAULT)
    found = _measured(spec, config_of(name), own.tokenizer if own else opened(place))
    return replace(found, tokenizer_of=own.name) if own else found


def vocabulary(name: str) -> Path | None:
    """The folder with the vocabulary of a model (STEERKIT_TOKENIZERS, else the cache), None where it was not fetched."""
    root = os.environ.get("STEERKIT_TOKENIZERS") or cache_dir("tokenizers")
    place = Path(root, VOCABULARIES.get(name, name))
    return place if (place / "tokenizer.json").exists() else None


@lru_cache(maxsize=8)
def opened(place: Path) -> Any:
    """The tokenizer in a folder; one of 256,000 pieces takes seconds to read."""
    return AutoTokenizer.from_pretrained(str(place), trust_remote_code=False)


def layers_of(name: str) -> int:
    """How many blocks a model has; of one whose shape is registered without a download."""
    return config_of(name).num_hidden_layers if spec_of(name).shape else outline(name).n_layers


def config_of(name: str, **other: Any) -> Any:
    """The transformers configuration of a model whose shape is registered; `other` settings replace its own."""
    shape = {**spec_of(name).shape, **other}
    return getattr(transformers, shape.pop("class"))(**shape)


def _measured(spec: ModelSpec, config: Any, tokenizer: Any) -> Outline:
    """Sizes from a model without memory (torch's meta device)."""
    text = config.get_text_config()
    with torch.device("meta"):
        module = AutoModelForCausalLM.from_config(text)
    total = sum(weight.numel() for weight in module.parameters())
    outside = {module.get_input_embeddings().weight, module.get_output_embeddings().weight}
    sizes = text.num_hidden_layers, text.hidden_size, text.vocab_size
    weights = total, total - sum(weight.numel() for weight in outside)
    template = template_for(spec.template, tokenizer)
    return Outline(spec.name, tokenizer, template, *sizes, *weights, text, spec.attention, spec.name)
