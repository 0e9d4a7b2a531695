"""Where things are in a model: its blocks, the unembedding, and what each layer may see.

No table of module paths and no renaming layer: they are found by what they are. Whether they mean what we think is not
guessed but tested: the tree engine compares itself with the direct one before its first use
(`steerkit.grid.self_check`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from steerkit.errors import need, told
from steerkit.templates import Template, template_for

if TYPE_CHECKING:
    import torch

NOT_RUN = "Nothing was run."


def find_sites(lm: Any) -> tuple[list[Any], Any]:
    """The envoys of an nnsight model's decoder blocks, the one list of modules that is as long as the decoder is deep,
    and of its unembedding; whatever stands between them (a norm, a projection) is read where it enters the latter."""
    import torch

    module, mend = lm._module, "choose a model of another family (Llama, Qwen, Gemma, Mistral, GPT-2, ...)."
    name, depth = type(module).__name__, module.config.get_text_config().num_hidden_layers
    paths = {each: path for path, each in module.named_modules()}
    lists = [each for each in paths if isinstance(each, torch.nn.ModuleList) and len(each) == depth]
    inside = {part for each in lists for part in each.modules() if part is not each}
    outer = [each for each in lists if each not in inside]
    if len(outer) > 1:  # a vision tower that is as deep
        outer = [each for each in outer if each in {*module.get_decoder().modules()}]
    expected = f"one list of {depth} decoder blocks"
    need(len(outer) == 1, expected, f"a {name} with {len(outer)}", mend, NOT_RUN)
    [blocks], head = outer, module.get_output_embeddings()
    need(head is not None, "one unembedding", f"a {name} without", mend, NOT_RUN)
    return list(attrgetter(paths[blocks])(lm)), attrgetter(paths[head])(lm)


def try_out(lm: Any, block: Any) -> None:
    """Refuse a block that does not give the residual stream, or lets a token see later ones: tried on two short texts."""
    import nnsight
    import torch

    kind, mend = type(lm._module).__name__, "choose a model of another family."
    texts, width = torch.tensor([[0, 0, 0], [0, 0, 1]]), lm._module.config.get_text_config().hidden_size
    with (
        told((Exception,), f"a {kind} that runs", mend, NOT_RUN),
        torch.no_grad(),
        lm.trace(input_ids=texts, use_cache=False) as tracer,
    ):
        given = nnsight.save(block.output)
        tracer.stop()
    given = given[0] if isinstance(given, tuple | list) else given
    found, wanted = list(getattr(given, "shape", [])), [*texts.shape, width]
    expected = f"decoder blocks that give the residual stream, {wanted} for two texts of three tokens"
    need(found == wanted, expected, f"a {kind} whose blocks give {found}", mend, NOT_RUN)
    ahead = (given[0, :2] - given[1, :2]).abs().max() > 0.01 * given.abs().max()
    need(not ahead, "attention to earlier tokens only", f"a {kind} that attends to later ones", mend, NOT_RUN)


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

    `template` is a name in `steerkit.templates.TEMPLATES`, or "auto" for the tokenizer's own. An architecture without one
    list of causal blocks, or whose blocks do not give the residual stream, is refused. `source` says in manifests where
    it came from, `reason` why it has this precision.
    """
    step = 'wrap it: nnsight.TransformersModel(model, task="text-generation", tokenizer=tokenizer).'
    need(hasattr(lm, "_module"), "a model of nnsight", f"a {type(lm).__name__}", step)
    weight, chosen = next(lm._module.parameters()), template_for(template, lm.tokenizer)
    blocks, head = find_sites(lm)
    try_out(lm, blocks[0])
    how = {"dtype": plain(weight.dtype), "device": weight.device.type, "template": chosen.about()}
    about = source | how if source else {"model": name}
    return Model(name, lm, blocks, head, chosen, weight.device, weight.dtype, reason, about)
