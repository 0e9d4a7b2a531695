"""How fast the tree is on this machine: a short run of it, at the width of the model and in the precision it will have.

Plain matrix products would say too much or too little: of a forward of a small model most is not one, and a device may be
slow in a precision. A model of a few blocks with constant weights needs neither a download nor the memory of the whole.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import torch
from nnsight import TransformersModel
from transformers import AutoModelForCausalLM

from companion.outline import Outline
from steerkit import Example, Model, Vectors, evaluate, wrap
from steerkit.formats import question
from steerkit.layout import length

WEIGHTS = 450_000_000  # parameters of the blocks that are timed, at least one block: two of Llama 2, all of a small model
VOCABULARY = 1024  # of the small one; the rest of the tables would be memory and nothing else
SECONDS = 1.0  # a run that took as long is believed
RATES: dict[tuple[str, str], float] = {}  # by model and precision, measured once


def tree_rate(
    about: Outline, dtype: str, examples: Sequence[Example], multipliers: Sequence[float], depth: float = 0.5
) -> float:
    """Operations a second, as `companion.cost` counts them, of the given examples at all `multipliers`.

    `depth` is where the steered block stands, as a share of all. One prompt after another is added, twice as many each
    time, until a run takes a second: on a busy machine that is soon.
    """
    if (about.name, dtype) not in RATES:
        model, weights = _short(about, dtype)
        layer = min(len(model.layers) - 1, int(depth * len(model.layers)))
        vectors = Vectors(("full",), (layer,), torch.full((1, 1, model.width), 0.01))
        asked = [_folded(example) for example in examples]
        evaluate(model, asked[:1], vectors, multipliers)  # the self-check, and what is made once

        def seconds(count: int) -> float:
            start = time.perf_counter()
            evaluate(model, asked[:count], vectors, multipliers)
            return time.perf_counter() - start

        count = 1
        while (took := seconds(count)) < SECONDS and count < len(asked):
            count *= 2
        # A moment in which others were busy is no measure.
        took = median([took, seconds(count), seconds(count)])
        conditions = 1 + sum(value != 0 for value in multipliers)
        passes = sum(length(question(example), conditions) for example in asked[:count])
        RATES[about.name, dtype] = 2 * weights * passes / took
    return RATES[about.name, dtype]


def _short(about: Outline, dtype: str) -> tuple[Model, int]:
    """The first blocks of a model with constant weights, and how many weights these blocks have."""
    each = about.block_parameters / about.n_layers
    count = max(1, min(about.n_layers, int(WEIGHTS / each)))
    config = copy.deepcopy(about.config)
    config.num_hidden_layers, config.vocab_size = count, VOCABULARY
    config.pad_token_id = config.bos_token_id = config.eos_token_id = None
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:count]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device("meta"):
        module = AutoModelForCausalLM.from_config(config, attn_implementation=about.attention)
    module = module.to(getattr(torch, dtype)).to_empty(device=device).eval().requires_grad_(False)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():  # a product is a mean: numbers stay near one in every precision
            tensor.fill_(1 / tensor.shape[-1] if tensor.dim() > 1 else 1)
    lm = TransformersModel(module, task="text-generation", tokenizer=about.tokenizer)
    return wrap(about.name, lm), round(count * each)


def _folded(example: Example) -> Example:
    """An example in the small vocabulary: prompts that begin alike still do."""
    parts = ("prompt", "lead", "matching", "not_matching", "closing")
    small = {part: tuple(token % VOCABULARY for token in getattr(example, part)) for part in parts}
    return replace(example, **small)
