"""When a fast pass may be trusted, and how much fits into it.

What a hand-built attention mask gets wrong is silent: a sliding window that is ignored, an attention kernel that drops
the mask, positions that are not where they seem. So an evaluation begins with a comparison of both engines on the prompt
that reaches farthest; a difference means the slow engine and a loud reason. When memory runs out, the batch is halved,
then the sequence, and then there is a clear error.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch

from steerkit.errors import need
from steerkit.layout import rows_of, size
from steerkit.model import Model
from steerkit.prompts import Example
from steerkit.propensity import Question
from steerkit.remote import JOB_TOKENS
from steerkit.traces import HEAD_ROWS
from steerkit.vectors import Vectors

Engine = Literal["tree", "direct"]
ENGINES = ("tree", "direct")
HALF = (torch.bfloat16, torch.float16)
AS_DIRECT = "differs from the direct engine"
# What torch and transformers say to a mask or positions that they cannot take.
UNTAKEN = (IndexError, KeyError, RuntimeError, TypeError, ValueError)
MASKED = ("sdpa", "eager")  # attention implementations that take a 4-D mask
# Largest difference of a score; in half precision as a share of `yardstick`. Half precision rounds differently when
# batches have other shapes, and by an amount that grows with the scores, so that no absolute number fits all models:
# what a forgotten window does to a tiny model is less than what rounding does to the logits of a real one.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float16: 0.03}
SHARE_OF_SCORE = 0.1
SEQUENCE_TOKENS = 768  # longest branched sequence: attention grows with its square
SHORTEST = 64  # below this, halving the sequence frees nothing worth having
# Tokens of one forward that make it fast. On a CPU throughput is flat from about half of this; a GPU wants more, and
# beyond this gains nothing but padding.
CPU_TOKENS, GPU_TOKENS = 2048, 16384
SHARE_OF_FREE = 0.5  # `token_bytes` is an estimate, and the allocator keeps gaps
Work = Callable[[], torch.Tensor]
Attempt = Callable[[list[int], int], Any]  # (indices, tokens of a sequence)
Packed = Callable[[list[list[Question]], int], Any]  # (questions of each forward, tokens of a sequence)
Parts = Iterator[tuple[list[int], Any]]  # indices, and what was found for them

_PROOFS: WeakKeyDictionary[torch.nn.Module, dict[tuple, tuple[int, float]]] = WeakKeyDictionary()


def choose_engine(
    model: Model, questions: Sequence[Question], engine: Engine, check: Callable[[Question], float]
) -> tuple[Engine, str]:
    """The engine to use and the reason in words; the tree has to prove itself first."""
    if engine == "direct":
        return "direct", "asked for"
    one, tolerance = max(questions, key=reach), TOLERANCE[model.dtype]
    if not (why := unsuited(model, reach(one))):
        kind = (one.scale, len(one.branches), model.config._attn_implementation)
        difference = proven(model, kind, one, lambda: check(one))
        if difference <= tolerance:
            return "tree", f"self-check on the longest prompt: {AS_DIRECT} by {difference:.1e}"
        unit = ", as a share of the effect of steering" if model.dtype in HALF else ""
        largest = f"{difference:.2g} (tolerance {tolerance:g}{unit})"
        why = f"on the longest prompt the tree {AS_DIRECT} by {largest}"
    warnings.warn(f"steerkit: using the slow direct engine, because {why}", RuntimeWarning, stacklevel=3)
    return "direct", why


def unsuited(model: Model, longest: int) -> str:
    """Why prompts of so many tokens cannot share a sequence in this model, or nothing. With rope type "longrope" the
    length of a whole sequence encodes positions, so a short prompt would get those of a long one, which no self-check
    sees."""
    attention = model.config._attn_implementation
    if attention not in MASKED:
        why = f"attention implementation {attention!r} ignores custom masks"
        return f"{why}; load the model with sdpa or eager"
    for rope in ropes(model.config):
        if rope["rope_type"] == "longrope" and longest > (limit := rope["original_max_position_embeddings"]):
            return f"positions are encoded in another way in sequences of more than {limit} tokens"
    return ""


def reach(question: Question) -> int:
    """Last position of a question plus one: what a sliding window is outgrown by."""
    return len(question.prefix) + max(len(branch.tokens) for branch in question.branches)


def proven(model: Model, kind: tuple, one: Question, check: Callable[[], float]) -> float:
    """Largest difference found by checks of this kind; checks again when a prompt reaches farther than any before."""
    proofs = _PROOFS.setdefault(model.lm._module, {})
    tried, difference = proofs.get(kind, (0, 0.0))
    if reach(one) > tried:
        try:
            [(_, found)] = halving(lambda *_: check(), [0], SHORTEST)
        except UNTAKEN:  # and if it is not the mask, the slow engine will say it again
            found = float("inf")
        difference = max(difference, found)
        proofs[kind] = (reach(one), difference)
    return difference


def branches_work(model: Model, kind: tuple, one: Question, slow: Work, fast: Work, instead: str) -> bool:
    """Whether answers that share a sequence give what plain sequences give, tried on one question: the largest
    difference, relative to the largest entry. If it is too large a warning says what is done `instead`."""

    def check() -> float:
        expected, found = slow(), fast()
        step = "check the weights of the model; a half precision that overflows needs float32 or bfloat16."
        need(bool(expected.isfinite().all()), f"finite activations for item {one.id}", "others", step)
        return float(((expected - found).abs() / expected.abs().max()).nan_to_num(torch.inf).max())

    why = unsuited(model, reach(one))
    kind = (*kind, model.config._attn_implementation)
    if not why and proven(model, kind, one, check) <= TOLERANCE[model.dtype]:
        return True
    why = why or "this model's attention does not take the mask that would let two share one"
    warnings.warn(f"steerkit: {instead}, because {why}", RuntimeWarning, stacklevel=4)
    return False


def sibling(one: Question) -> Question:
    """The same question after a shorter prefix: in a row of both it stands first, and would leak into the other."""
    return replace(one, prefix=one.prefix[: len(one.prefix) // 2])


def yardstick(scores: torch.Tensor) -> float:
    """What a difference is large or small against: the largest effect of steering, at least a tenth of the `scores` [2
    sides, 1 + cells], first column unsteered: half precision keeps two to three digits, steering may be below them."""
    found = scores.nan_to_num(0.0, 0.0, 0.0)
    effect, size = (found - found[:, :1]).abs().max(), found.abs().max()
    return float(torch.maximum(effect, SHARE_OF_SCORE * size).clamp(min=torch.finfo(torch.float32).tiny))


def small(scores: torch.Tensor) -> float:
    """By how much the tolerance of single precision shrinks where steering does less than a hundred times as much, down
    to a twentieth, which is rounding. `scores` are as in `yardstick`."""
    found = scores.nan_to_num(0.0, 0.0, 0.0)
    effect = float((found - found[:, :1]).abs().max())
    return min(1.0, max(effect / (100 * TOLERANCE[torch.float32]), 0.05))


def check_examples(model: Model, examples: Sequence[Example]) -> None:
    """Raise when there are none, and for tokens or positions that the model does not have. Where positions are computed
    there is one for every token: a warning then names an item longer than the texts that the model was made for."""
    need(bool(examples), "at least one example", "none", "check the split and the limits on items.")
    other = next((one for one in examples if not isinstance(one, Example)), None)
    found = f"a {type(other).__name__}"
    need(other is None, "examples", found, "make them of prompts and answers with steerkit.ask.")
    known = model.lm._module.get_input_embeddings().weight.shape[0]
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    expected, mend = f"tokens below {known}, as {model.name} has them", "use the tokenizer of this model."
    for one in examples:
        top = max(max(tokens, default=0) for tokens in parts_of(one))
        need(top < known, expected, f"token {top} in item {one.id}", mend)
    long = max(examples, key=longest)
    found = f"{longest(long)} tokens in item {long.id}"
    if limit and longest(long) > limit:
        expected = f"prompts of at most {limit} tokens, the positions of {model.name}"
        mend = "leave the item out, or take a model that reads more."
        need(not in_table(model, limit), expected, found, mend)
        text = f"steerkit: {model.name} was made for texts of at most {limit} tokens; found {found}"
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def parts_of(one: Example) -> tuple[tuple[int, ...], ...]:
    """All tokens of an example, part by part."""
    return one.prompt, one.lead, one.matching, one.not_matching, one.closing


def longest(one: Example) -> int:
    """Tokens of an example with the longer of its answers."""
    prompt, lead, *answers, closing = map(len, parts_of(one))
    return prompt + lead + max(answers) + closing


def in_table(model: Model, limit: int) -> bool:
    """Whether there are no positions beyond the limit: they stand in a table (GPT-2, OPT, GPT-J), or are "dynamic" and
    follow the longest sequence that was ever seen, so that numbers depend on what ran before."""
    module = model.lm._module
    words, kinds = module.get_input_embeddings(), [rope["rope_type"] for rope in ropes(model.config)]
    tables = [part for part in module.modules() if isinstance(part, torch.nn.Embedding) and part is not words]
    # Some begin with padding.
    sizes = {table.num_embeddings - spare for table in tables for spare in (0, 1, 2)}
    return limit in sizes.union(*(buffer.shape for buffer in module.buffers())) or "dynamic" in kinds


def ropes(config: Any) -> list[dict[str, Any]]:
    """The rotary embeddings of a configuration: one, or one for each kind of layer, or none."""
    found = getattr(config.get_text_config(), "rope_parameters", None) or {}
    return [each for each in (found, *found.values()) if isinstance(each, dict) and "rope_type" in each]


def check_layers(model: Model, layers: Sequence[int]) -> None:
    """Raise for no layers, repeated ones, and ones the model lacks."""
    last, wanted = len(model.layers) - 1, "different layers, at least one"
    for layer in layers:
        known = f"a layer from 0 to {last} of {model.name}"
        need(0 <= layer <= last, known, f"layer {layer}", "choose one of them.")
    need(len(set(layers)) == len(layers) > 0, wanted, f"{list(layers)}", "list each layer once.")


def check_steering(
    model: Model, vectors: Vectors, layers: Sequence[int], multipliers: Sequence[float], named: Iterable[str]
) -> None:
    """Raise for repeated multipliers, vectors of another model, layers it or they lack, and names that no vector has."""
    different, wanted = len(set(multipliers)) == len(multipliers) > 0, "different multipliers, at least one"
    need(different, wanted, f"{list(multipliers)}", "list each multiplier once.")
    wanted, mend = f"the residual stream of {model.name}", "extract the vectors with this model."
    fits, found = vectors.width == model.width, f"width {vectors.width}"
    need(fits, f"vectors of width {model.width}, {wanted}", found, mend)
    check_layers(model, layers)
    for layer in layers:
        vectors.at(layer)
    unknown = ", ".join(sorted(set(named) - set(vectors.names)))
    need(not unknown, f"names of vectors ({', '.join(vectors.names)})", unknown, "check the spelling.")


def batches(
    questions: Sequence[Question], conditions: int, tokens: int, most: int = SEQUENCE_TOKENS
) -> list[list[int]]:
    """Indices of questions for one forward each: whole rows of `steerkit.layout`, as many as fit into `tokens`."""
    found, count, widest = [], 0, 0
    for row in rows_of(questions, conditions, min(most, tokens)):
        own = min(most, size([questions[n] for n in row], conditions))
        if found and (count + 1) * max(widest, own) <= tokens:
            found[-1] += row
            count, widest = count + 1, max(widest, own)
        else:
            found.append(row)
            count, widest = 1, own
    return found


def in_jobs(
    model: Model,
    questions: Sequence[Question],
    conditions: int,
    tokens: int,
    work: Packed,
    total: bool = False,
) -> Parts:
    """`work(parts, most)` of all questions, part by part, with the indices of each; memory decides how many are one.

    A part is one forward here, and on a server a job of several. What `work` gives has a row a question, or with `total`
    one row for all of them.
    """
    remote = model.remote is not None

    def attempt(part: list[int], most: int) -> torch.Tensor:
        asked = [questions[i] for i in part]
        forwards = batches(asked, conditions, tokens, most) if remote else [range(len(asked))]
        found = work([[asked[i] for i in each] for each in forwards], most)
        order = torch.tensor([index for each in forwards for index in each]).argsort()
        return found if total else found[order]

    for part in batches(questions, conditions, max(tokens, JOB_TOKENS) if remote else tokens):
        yield from halving(attempt, part, row_tokens(model))


def room(model: Model) -> int:
    """Tokens for one forward: as many as make it fast, fewer where memory is short."""
    if model.remote is not None:  # nobody knows what is free there
        return CPU_TOKENS
    config = model.config
    each = token_bytes(config, model.dtype.itemsize, SEQUENCE_TOKENS, config._attn_implementation)
    fits = SHARE_OF_FREE * (free_bytes(model.device) - head_bytes(config)) / each
    return max(1, min(int(fits), CPU_TOKENS if model.device.type == "cpu" else GPU_TOKENS))


def row_tokens(model: Model) -> int:
    """Longest branched sequence of a model: some hold a buffer of as many tokens as they have positions."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return min(SEQUENCE_TOKENS, limit or SEQUENCE_TOKENS)


def free_bytes(device: torch.device) -> int:
    """Memory that a forward on this device can have, what torch holds in reserve included."""
    if device.type == "cuda":
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserve
    import psutil

    return psutil.virtual_memory().available


def token_bytes(config: Any, itemsize: int, sequence: int, attention: str) -> int:
    """Bytes that one token of a sequence takes in one block: hidden states, feed-forward part, its row of the mask;
    with eager attention also scores and probabilities of every head, one of them in float32."""
    text = config.get_text_config()
    inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    heads = getattr(text, "num_attention_heads", 1)  # a recurrent model has none
    states, mask = itemsize * (8 * text.hidden_size + 3 * inner), sequence * (itemsize + 3)
    return states + mask + (attention == "eager") * heads * sequence * (2 * itemsize + 4)


def head_bytes(config: Any) -> int:
    """Bytes of the logits that exist at the same time, in the precision of the model and twice in float32."""
    return HEAD_ROWS * config.get_text_config().vocab_size * 12


def halving(attempt: Attempt, part: list[int], sequence_tokens: int = SEQUENCE_TOKENS) -> Parts:
    """`attempt(part, sequence_tokens)`, in smaller and smaller pieces as long as memory runs out."""
    values = None
    try:
        values = attempt(part, sequence_tokens)
    except RuntimeError as error:  # CUDA's own kind, or one of the CPU allocator that says so
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
    # Out here the exception is gone, and with it the tensors that its traceback held.
    if values is not None:
        yield part, values
        return
    fits = len(part) > 1 or sequence_tokens > SHORTEST
    mend = "use a smaller model, a lower precision or a larger device."
    need(fits, "memory for one prompt with one condition", "none left", mend)
    middle = len(part) // 2
    for half in (part[:middle], part[middle:]) if middle else (part,):
        yield from halving(attempt, half, sequence_tokens if middle else sequence_tokens // 2)
