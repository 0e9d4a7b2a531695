"""What can be known of a model without its weights: tokenizer, template, layers and sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from companion.models import MODELS, ModelSpec, load_model, location, spec_of
from steerkit.errors import first_line, told
from steerkit.templates import Template, template_for

DEFAULT = "smollm2-135m"
SHAPES = tuple(name for name, spec in MODELS.items() if spec.shape)  # models known without any download
# Tokens of a prompt: 32 evenly spaced quantiles over 30 letter prompts of each of the 40 sets of Tan et al. 2024, in
# the chat template of Llama 2, cut by the tokenizer of the default model.
LENGTHS = (61, 64, 66, 67, 68, 68, 69, 70, 71, 71, 72, 73, 74, 75, 76, 77)
LENGTHS += (78, 80, 82, 84, 87, 90, 94, 100, 106, 115, 125, 136, 157, 183, 209, 255)


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
    from transformers import AutoConfig, AutoTokenizer

    place = location(spec)
    expected = f"configuration and tokenizer of a causal language model at {place}"
    with told((OSError, ValueError), expected, "check the folder.", "Nothing was computed.", first_line):
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    return _measured(spec, config, tokenizer)


def stand_in(name: str) -> Outline | None:
    """The outline of a model without a download: the shape in the registry, and the tokenizer of the default model,
    which cuts text into about as many tokens. None where the shape is not known."""
    spec = spec_of(name)
    if spec.shape is None:
        return None
    own = outline(DEFAULT)
    return replace(_measured(spec, config_of(name), own.tokenizer), tokenizer_of=own.name)


def config_of(name: str, **other: Any) -> Any:
    """The transformers configuration of a model whose shape is registered; `other` settings replace its own."""
    import transformers

    shape = {**spec_of(name).shape, **other}
    return getattr(transformers, shape.pop("class"))(**shape)


def _measured(spec: ModelSpec, config: Any, tokenizer: Any) -> Outline:
    """Sizes from a model without memory (torch's meta device)."""
    import torch
    from transformers import AutoModelForCausalLM

    text = config.get_text_config()
    with torch.device("meta"):
        module = AutoModelForCausalLM.from_config(text)
    total = sum(weight.numel() for weight in module.parameters())
    outside = {module.get_input_embeddings().weight, module.get_output_embeddings().weight}
    sizes = text.num_hidden_layers, text.hidden_size, text.vocab_size
    weights = total, total - sum(weight.numel() for weight in outside)
    template = template_for(spec.template, tokenizer)
    return Outline(spec.name, tokenizer, template, *sizes, *weights, text, spec.attention, spec.name)
