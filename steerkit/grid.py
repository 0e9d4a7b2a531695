"""`evaluate`: every example under every vector, layer and multiplier, by one of two engines that give one answer.

`direct` is the obvious one, a plain forward of the whole sequence for every branch and cell, meant to be read
(`steerkit.traces.direct`). `tree` does the whole grid of a batch of prompts in one forward: tokens before the first
steered one are shared by all conditions (`layout`), and a condition has no tokens of its own below the block that it
steers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import torch

from steerkit import traces, trust
from steerkit.errors import need, one_of
from steerkit.formats import question
from steerkit.layout import length
from steerkit.model import Model
from steerkit.prompts import Example
from steerkit.propensity import Fidelity, Question
from steerkit.remote import run
from steerkit.trust import SEQUENCE_TOKENS, Engine, Parts, room
from steerkit.vectors import Vectors, check_multipliers

if TYPE_CHECKING:
    import pandas as pd

Cells = Sequence[tuple[int, int, float]]  # vector index, layer, multiplier


@dataclass(frozen=True)
class Grid:
    """Scores of a set of examples, labelled.

    `scores` is float64 [p, 2, v, l, k], side 0 matching, side 1 not matching: logits in `letter` and `yes-no`
    (log-probabilities with fidelity "bench"), nats per token in `statement`. `engine` ran, for that `reason`.
    """

    examples: tuple[Example, ...]
    vectors: tuple[str, ...]
    layers: tuple[int, ...]
    multipliers: tuple[float, ...]
    scores: torch.Tensor
    engine: str
    reason: str

    @property
    def propensity(self) -> torch.Tensor:
        """Matching minus not matching, [p, v, l, k]."""
        return self.scores[:, 0] - self.scores[:, 1]

    def table(self, dataset: str = "") -> pd.DataFrame:
        """Long form, one row a cell that was run, the columns every later step relies on."""
        import numpy as np
        import pandas as pd

        matching, other = self.scores[:, 0].numpy(), self.scores[:, 1].numpy()
        propensity = matching - other
        cell = p, v, layer, k = np.nonzero(np.isfinite(propensity))  # cells that `fewer` left out are NaN
        columns = {"dataset": dataset}  # type: dict
        for name in ("example_id", "format", "positive_letter", "positive_answer"):
            values = [getattr(one, name.removeprefix("example_")) for one in self.examples]
            columns[name] = np.asarray(values)[p]
        columns |= {"vector": np.asarray(self.vectors)[v], "layer": np.asarray(self.layers)[layer]}
        columns |= {"multiplier": np.asarray(self.multipliers)[k], "matching": matching[cell]}
        return pd.DataFrame(columns | {"not_matching": other[cell], "propensity": propensity[cell]})


def evaluate(
    model: Model,
    examples: Sequence[Example],
    vectors: Vectors,
    multipliers: Sequence[float],
    *,
    layers: Sequence[int] | None = None,
    fewer: Mapping[str, Sequence[float]] | None = None,
    fidelity: Fidelity = "letter",
    engine: Engine = "tree",
    batch_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Grid:
    """Steer every example with every vector at every layer and multiplier.

    Parameters
    ----------
    multipliers : k numbers; 0 is the unsteered run and costs one branch for all vectors and layers
    layers : default all layers of `vectors`
    fewer : for vectors named here, the multipliers to run; 0 comes free, the other cells are NaN
    fidelity : how letters are scored, see `steerkit.propensity`
    engine : "tree", or "direct"; a tree that fails its self-check falls back to direct, and a warning says why
    batch_tokens : tokens of one forward, halved and retried when memory runs out; default: `steerkit.trust.room`
    progress : called with the token-passes just done
    """
    layers, multipliers = list(vectors.layers if layers is None else layers), [float(m) for m in multipliers]
    trust.check_examples(model, examples)
    one_of("an engine", engine, trust.ENGINES)
    trust.check_steering(model, vectors, layers, multipliers, fewer or {})
    check_multipliers(vectors.select(layers=layers), multipliers, model.dtype)
    questions = [question(example, fidelity) for example in examples]
    check = partial(self_check, model, vectors=vectors, layers=layers, multipliers=multipliers)
    engine, reason = trust.choose_engine(model, questions, engine, check)
    cells = cells_of(vectors.names, layers, multipliers, fewer or {})
    conditions = 1 + len(cells)
    shape = (len(questions), 2, len(vectors.names), len(layers), len(multipliers))
    scores = torch.full(shape, torch.nan, dtype=torch.float64)
    places = [(v, layers.index(layer), multipliers.index(m)) for v, layer, m in cells]
    at = [list(axis) for axis in zip(*places, strict=True)]  # [v], [l], [k]
    tokens = batch_tokens or room(model)
    mend = "use a smaller multiplier, or float32 instead of half precision."
    for part, values in _parts(model, questions, vectors, cells, engine, tokens):
        for index, found in zip(part, values, strict=True):  # found is [2, 1 + cells]
            broken = f"NaN or infinity for example {examples[index].id}"
            need(bool(found.isfinite().all()), "finite scores", broken, mend)
            if cells:
                scores[index][(slice(None), *at)] = found[:, 1:]  # type: ignore[index]
            if 0 in multipliers:
                scores[index, ..., multipliers.index(0)] = found[:, :1, None]
        if progress is not None:
            progress(sum(length(questions[i], conditions) for i in part))
    return Grid(tuple(examples), vectors.names, tuple(layers), tuple(multipliers), scores, engine, reason)


def cells_of(
    names: Sequence[str], layers: Sequence[int], multipliers: Sequence[float], fewer: Mapping[str, Sequence]
) -> Cells:
    """The steered cells of a grid; multiplier 0 is the unsteered run and no cell."""
    every = product(enumerate(names), layers, multipliers)
    return [(v, layer, m) for (v, name), layer, m in every if m and m in fewer.get(name, multipliers)]


def direct(model: Model, question: Question, vectors: Vectors, cells: Cells) -> torch.Tensor:
    """Scores [2 sides, 1 + cells] of one question, one plain forward a branch and cell; the first column is unsteered."""
    every = [(0, cells[0][1] if cells else vectors.layers[0], 0.0), *cells]
    [scores] = run(model, traces.direct, question, _by_layer(vectors, every), every)
    return scores.double()


def tree(
    model: Model, parts: Sequence[Sequence[Question]], vectors: Vectors, cells: Cells, most: int
) -> torch.Tensor:
    """Scores [p, 2 sides, 1 + cells] of the questions of all parts, one forward each and one job on a server;
    conditions that do not fit into rows of `most` tokens go into further forwards, which repeat the prefix."""
    [scores] = run(model, traces.tree, parts, _by_layer(vectors, cells), cells, most)
    return scores.double()


def self_check(
    model: Model, one: Question, vectors: Vectors, layers: Sequence[int], multipliers: Sequence[float]
) -> float:
    """Largest difference between the engines on one question, lowest and highest layer, strongest multiplier; in half
    precision over `yardstick`. The tree has it beside another, whose tokens must not reach it (as recurrence lets
    them)."""
    ends = sorted({min(layers), max(layers)})
    few = vectors.select(names=list(vectors.names[:1]), layers=ends)
    cells = [(0, layer, max(multipliers, key=abs)) for layer in ends]
    together, most = [trust.sibling(one), one], SEQUENCE_TOKENS + length(one, 1)
    slow, fast = direct(model, one, few, cells), tree(model, [together], few, cells, most)[1]
    gaps = (slow - fast).abs()[slow.isfinite()]  # a model that gives NaN gives it in either engine
    unit = trust.yardstick(slow) if model.dtype in trust.HALF else trust.small(slow)
    return float((gaps / unit).nan_to_num(torch.inf).max()) if len(gaps) else 0.0


def _by_layer(vectors: Vectors, cells: Cells) -> dict[int, torch.Tensor]:
    """The vectors [v, d] of each layer that some cell steers: what an engine needs, and a server is sent."""
    return {layer: vectors.at(layer) for layer in sorted({cell[1] for cell in cells})}


def _parts(
    model: Model, questions: Sequence[Question], vectors: Vectors, cells: Cells, engine: Engine, tokens: int
) -> Parts:
    """Scores [p, 2, 1 + cells] part by part, with the indices of the part; a job on a server holds several forwards."""
    if engine == "direct":
        for index, one in enumerate(questions):
            yield [index], direct(model, one, vectors, cells)[None]
        return

    def work(parts: Sequence[Sequence[Question]], most: int) -> torch.Tensor:
        return tree(model, parts, vectors, cells, most)

    yield from trust.in_jobs(model, questions, 1 + len(cells), tokens, work)
