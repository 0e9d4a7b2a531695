"""How much goes into one forward; and when memory runs out: half the batch, then half the sequence, then a clear error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from steerkit.errors import SteerkitError

if TYPE_CHECKING:
    from steerkit.model import Model

SEQUENCE_TOKENS = 1024  # longest branched sequence: attention grows with its square
HEAD_ROWS = 512  # positions whose full logits exist at the same time
SHORTEST = 64  # below this, halving the sequence frees nothing worth having
# Tokens of one forward that make it fast. On a CPU throughput is flat from about half of this; a GPU wants more, and
# beyond this gains nothing but padding.
CPU_TOKENS, GPU_TOKENS = 2048, 16384
SHARE_OF_FREE = 0.5  # `token_bytes` is an estimate, and the allocator keeps gaps


def room(model: Model, sequence: int) -> int:
    """Tokens for one forward of sequences of so many tokens: as many as make it fast, fewer where memory is short."""
    if model.remote is not None:  # nobody knows what is free there
        return CPU_TOKENS
    config = model.lm._module.config
    attention = config._attn_implementation
    each = token_bytes(config, model.dtype.itemsize, min(sequence, SEQUENCE_TOKENS), attention)
    fits = SHARE_OF_FREE * (free_bytes(model.device) - head_bytes(config)) / each
    return max(1, min(int(fits), CPU_TOKENS if model.device.type == "cpu" else GPU_TOKENS))


def free_bytes(device: torch.device) -> int:
    """Memory that a forward on this device can have, what torch holds in reserve included."""
    if device.type == "cuda":
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserve
    import psutil

    return psutil.virtual_memory().available


def token_bytes(config: Any, itemsize: int, sequence: int, attention: str) -> int:
    """Bytes that one token of a sequence takes in one block: hidden states, feed-forward part, its row of the mask.

    Eager attention also holds scores and probabilities of every head, one of them in float32.
    """
    text = config.get_text_config()
    inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    states = itemsize * (8 * text.hidden_size + 3 * inner)
    mask = sequence * (itemsize + 3)
    return states + mask + (attention == "eager") * text.num_attention_heads * sequence * (2 * itemsize + 4)


def head_bytes(config: Any) -> int:
    """Bytes of the logits that exist at the same time, in the precision of the model and twice in float32."""
    return HEAD_ROWS * config.get_text_config().vocab_size * 12


def halving(
    run: Callable[[list[int], int], torch.Tensor], part: list[int], sequence_tokens: int = SEQUENCE_TOKENS
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """`run(part, sequence_tokens)`, in smaller and smaller pieces as long as memory runs out.

    Raises
    ------
    SteerkitError
        When one prompt with one condition does not fit.
    """
    values = _attempt(run, part, sequence_tokens)
    if values is not None:
        yield part, values
    elif len(part) > 1:
        middle = len(part) // 2
        yield from halving(run, part[:middle], sequence_tokens)
        yield from halving(run, part[middle:], sequence_tokens)
    elif sequence_tokens > SHORTEST:
        yield from halving(run, part, sequence_tokens // 2)
    else:
        raise nothing_fits()


def _attempt(
    run: Callable[[list[int], int], torch.Tensor], part: list[int], tokens: int
) -> torch.Tensor | None:
    """None when memory ran out. The exception ends here, and with it the tensors that its traceback holds."""
    try:
        return run(part, tokens)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None


def is_out_of_memory(error: RuntimeError) -> bool:
    """CUDA has an exception of its own; the CPU allocator raises a RuntimeError that says so."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)


def nothing_fits() -> SteerkitError:
    """The error for a machine that is too small."""
    return SteerkitError(
        "memory for one prompt with one condition",
        "none left",
        next_step="use a smaller model, a lower precision or a larger device.",
    )
