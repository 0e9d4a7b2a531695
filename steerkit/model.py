"""Where things are in a model: its blocks, the final norm, the unembedding, and what each layer may see.

One small table of module paths instead of a renaming layer: the paths of the decoder families the papers and
this book use. Whether they mean what we think is not guessed but tested: the tree engine compares itself with
the direct one before its first use (`steerkit.grid.self_check`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from steerkit.errors import need
from steerkit.templates import Template, template_for

if TYPE_CHECKING:
    import torch

# (blocks, final norm): Llama, Qwen, Gemma, Mistral, OLMo, Phi-3 / GPT-2 / GPT-NeoX, Pythia / multimodal Gemma 3.
_PATHS = (
    ("model.layers", "model.norm"),
    ("transformer.h", "transformer.ln_f"),
    ("gpt_neox.layers", "gpt_neox.final_layer_norm"),
    ("model.language_model.layers", "model.language_model.norm"),
)
# Families with one of these paths whose blocks give (residual stream, something else) in transformers 5.
_TUPLES = ("bloom", "codegen", "falcon", "gpt_neo", "gptj")


def find_sites(lm: Any) -> tuple[list[Any], Any, Any]:
    """The envoys of an nnsight model's blocks, final norm and unembedding."""
    module = lm._module
    name, single = type(module).__name__, module.config.model_type not in _TUPLES
    expected = "decoder blocks that give one tensor, the residual stream"
    mend = "choose a model of another family (Llama, Qwen, Gemma, Mistral, GPT-2, GPT-NeoX, ...)."
    need(single, expected, f"a {name}, whose blocks give a tuple", mend, "Nothing was run.")
    modules = dict(module.named_modules())
    there = [paths for paths in _PATHS if modules.keys() >= {*paths}]
    expected = f"decoder blocks under one of {', '.join(path for path, _ in _PATHS)}"
    mend = "add the two module paths of this architecture to steerkit/model.py."
    need(bool(there), expected, f"a {name} without any of them", mend)
    blocks, norm = there[0]
    head = next(name for name, each in modules.items() if each is module.get_output_embeddings())
    return list(attrgetter(blocks)(lm)), attrgetter(norm)(lm), attrgetter(head)(lm)


def windows(config: Any) -> list[int | None]:
    """Per layer, how many tokens back attention reaches; None is unlimited.

    A 4-D attention mask given to transformers replaces the sliding window instead of being combined with it,
    silently, so whoever builds a mask by hand has to build the window in.
    """
    config = config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    return [window if kind == "sliding_attention" else None for kind in kinds]


@dataclass(frozen=True)
class Model:
    """A loaded model and what the rest of the package asks of it."""

    name: str
    lm: Any  # the nnsight model; `lm.trace(...)` is all of nnsight
    layers: list[Any]  # blocks; in a trace `layers[l].output` is the residual stream after block l, [p, s, d]
    norm: Any
    head: Any  # the unembedding
    template: Template
    device: torch.device
    dtype: torch.dtype
    dtype_reason: str
    source: dict[str, Any] = field(default_factory=dict)  # goes into every manifest
    remote: str | None = None  # address of the server that holds the weights, None when they are here

    @property
    def config(self) -> Any:
        """The transformers configuration."""
        return self.lm._module.config

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer."""
        return self.lm.tokenizer

    @property
    def width(self) -> int:
        """d, the width of the residual stream."""
        return self.config.get_text_config().hidden_size


def plain(dtype: torch.dtype) -> str:
    """`float32` of `torch.float32`."""
    return str(dtype).removeprefix("torch.")


def wrap(
    name: str, lm: Any, template: str = "plain", reason: str = "as given", source: dict | None = None
) -> Model:
    """A `Model` around an nnsight `TransformersModel` that is already in memory, called `name` in manifests.

    `template` is a name in `steerkit.templates.TEMPLATES`, or "auto" for the tokenizer's own. An architecture whose
    blocks are under none of the known paths, or give no single tensor, is refused. `source` says in manifests where it
    came from, `reason` why it has this precision.
    """
    weight, chosen = next(lm._module.parameters()), template_for(template, lm.tokenizer)
    how = {"dtype": plain(weight.dtype), "device": weight.device.type, "template": chosen.name}
    about = source | how if source else {"model": name}
    return Model(name, lm, *find_sites(lm), chosen, weight.device, weight.dtype, reason, about)
