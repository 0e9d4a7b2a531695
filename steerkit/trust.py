"""Which engine runs: the tree, if it can show on the longest prompt that it agrees with the direct one.

What a hand-built attention mask gets wrong is silent: a sliding window that is ignored, an attention kernel that drops
the mask, positions that are not where they seem. So an evaluation begins with a comparison, and a difference means the
slow engine and a loud reason. A comparison holds for prompts that reach no further than the one it was made on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary

import torch

from steerkit import direct, tree
from steerkit.memory import SEQUENCE_TOKENS, is_out_of_memory, nothing_fits

if TYPE_CHECKING:
    from steerkit.model import Model
    from steerkit.propensity import Question
    from steerkit.vectors import Vectors

Engine = Literal["tree", "direct"]
ENGINES = ("tree", "direct")
HALF = (torch.bfloat16, torch.float16)
MASKED = ("sdpa", "eager")  # attention implementations that take a 4-D mask

# Largest difference of a score; in half precision as a share of `yardstick`. Half precision rounds differently when
# batches have other shapes, and by an amount that grows with the scores, so that no absolute number fits all models:
# what a forgotten window does to a tiny model is less than what rounding does to the logits of a real one.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.15, torch.float16: 0.03}
SHARE_OF_SCORE = 0.1

_PROOFS: WeakKeyDictionary[torch.nn.Module, dict[tuple, tuple[int, float]]] = WeakKeyDictionary()


def choose_engine(
    model: Model,
    questions: Sequence[Question],
    vectors: Vectors,
    layers: Sequence[int],
    multipliers: Sequence[float],
    engine: Engine,
) -> tuple[Engine, str]:
    """The engine to use and the reason in words; the tree has to prove itself first."""
    if engine == "direct":
        return "direct", "asked for"
    attention = attention_of(model)
    if attention not in MASKED:
        return _fall_back(
            f"attention implementation {attention!r} ignores custom masks; load the model with sdpa or eager"
        )
    one = max(questions, key=reach)
    kind = (one.scale, len(one.branches), attention)
    difference = proven(model, kind, one, lambda: self_check(model, one, vectors, layers, multipliers))
    tolerance = TOLERANCE[model.dtype]
    if not difference <= tolerance:
        return _fall_back(
            f"on the longest prompt the tree differs from the direct engine by {difference:.2g} (tolerance {tolerance:g}"
            f"{', as a share of the effect of steering' if model.dtype in HALF else ''})"
        )
    return "tree", f"self-check on the longest prompt: differs from the direct engine by {difference:.1e}"


def attention_of(model: Model) -> str:
    """Name of the attention implementation a model runs with."""
    return model.lm._module.config._attn_implementation


def reach(question: Question) -> int:
    """Last position of a question plus one: what a sliding window is outgrown by."""
    return len(question.prefix) + max(len(branch.tokens) for branch in question.branches)


def proven(model: Model, kind: tuple, one: Question, check: Callable[[], float]) -> float:
    """Largest difference found by checks of this kind; checks again when a prompt reaches further than any before.

    Raises
    ------
    SteerkitError
        When even one prompt does not fit in memory.
    """
    proofs = _PROOFS.setdefault(model.lm._module, {})
    tried, difference = proofs.get(kind, (0, 0.0))
    if reach(one) > tried:
        try:
            difference = max(difference, check())
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise nothing_fits() from error
            raise
        proofs[kind] = (reach(one), difference)
    return difference


def self_check(
    model: Model, one: Question, vectors: Vectors, layers: Sequence[int], multipliers: Sequence[float]
) -> float:
    """Largest difference between the two engines on one question, lowest and highest layer, strongest multiplier.

    In half precision it is divided by `yardstick`.
    """
    ends = sorted({min(layers), max(layers)})
    strongest = max(multipliers, key=abs)
    few = vectors.select(names=list(vectors.names[:1]), layers=ends)
    cells = [(0, layer, strongest) for layer in ends]
    slow = direct.evaluate_question(model, one, few, cells)
    fast = tree.evaluate_batch(model, [one], few, cells, SEQUENCE_TOKENS)[0]
    gaps = (slow - fast).abs()[slow.isfinite()]  # a model that gives NaN gives it in either engine
    if not len(gaps):
        return 0.0
    unit = yardstick(slow) if model.dtype in HALF else 1.0
    return float((gaps / unit).nan_to_num(torch.inf).max())


def yardstick(scores: torch.Tensor) -> float:
    """What a difference is large or small against: the largest effect of steering, at least a tenth of the scores.

    `scores` are [2 sides, 1 + cells], the first column unsteered. The second part is for vectors that do nothing:
    half precision keeps two to three digits of a score, and steering may be below them.
    """
    found = scores.nan_to_num(0.0, 0.0, 0.0)
    effect, size = (found - found[:, :1]).abs().max(), found.abs().max()
    return float(torch.maximum(effect, SHARE_OF_SCORE * size).clamp(min=torch.finfo(torch.float32).tiny))


def _fall_back(why: str) -> tuple[Engine, str]:
    warnings.warn(f"steerkit: using the slow direct engine, because {why}", RuntimeWarning, stacklevel=4)
    return "direct", why
