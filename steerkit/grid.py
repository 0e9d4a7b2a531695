"""`evaluate`: the scores of every example under every vector, layer and multiplier, and who computed them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from steerkit import direct, tree
from steerkit.guards import check_examples, check_finite, check_grid, check_names
from steerkit.layout import length
from steerkit.memory import SEQUENCE_TOKENS, halving, room
from steerkit.propensity import Fidelity, Question, question
from steerkit.remote import JOB_TOKENS
from steerkit.trust import Engine, choose_engine

if TYPE_CHECKING:
    import pandas as pd

    from steerkit.model import Model
    from steerkit.prompts import Example
    from steerkit.vectors import Vectors


@dataclass(frozen=True)
class Grid:
    """Scores of a set of examples, labelled.

    Attributes
    ----------
    scores : float64 [p, 2, v, l, k], side 0 matching, side 1 not matching
        Logits in `letter` and `yes-no` (log-probabilities with fidelity "bench"), nats per token in `statement`.
    engine, reason : which engine ran and why
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
        """Long form, one row a cell, the columns every later step relies on."""
        import numpy as np
        import pandas as pd

        run = self.propensity.isfinite().numpy().ravel()  # cells that `fewer` left out are NaN
        at = [index.ravel()[run] for index in np.indices(self.propensity.shape)]

        def pick(values: Sequence[object], axis: int) -> np.ndarray:
            return np.asarray(values)[at[axis]]

        return pd.DataFrame(
            {
                "dataset": dataset,
                "example_id": pick([e.id for e in self.examples], 0),
                "format": pick([e.format for e in self.examples], 0),
                "positive_letter": pick([e.positive_letter for e in self.examples], 0),
                "positive_answer": pick([e.positive_answer for e in self.examples], 0),
                "vector": pick(self.vectors, 1),
                "layer": pick(self.layers, 2),
                "multiplier": pick(self.multipliers, 3),
                "matching": self.scores[:, 0].numpy().ravel()[run],
                "not_matching": self.scores[:, 1].numpy().ravel()[run],
                "propensity": self.propensity.numpy().ravel()[run],
            }
        )


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
    model : Model
    examples : p tokenised examples (`steerkit.prompts`)
    vectors : v vectors for at least the layers asked for
    multipliers : k numbers; 0 is the unsteered run and costs one branch for all vectors and layers
    layers : default all layers of `vectors`
    fewer : for vectors named here, the multipliers to run; 0 comes free, the other cells are NaN
    fidelity : how letters are scored, see `steerkit.propensity`
    engine : "tree", or "direct" for one plain forward a cell
    batch_tokens : tokens of one forward, halved and retried when memory runs out; default: see `engine.memory.room`
    progress : called with the token-passes just done

    Returns
    -------
    Grid
        Its `engine` is "direct" when the tree's self-check failed; a warning says why.

    Raises
    ------
    SteerkitError
        For vectors of another width, a layer the model lacks, no examples, or a score that is not finite.
    """
    layers, multipliers = list(vectors.layers if layers is None else layers), [float(m) for m in multipliers]
    check_examples(examples)
    check_grid(model, vectors, layers, multipliers, engine)
    check_names(vectors, fewer or {})
    questions = [question(example, fidelity) for example in examples]
    engine, reason = choose_engine(model, questions, vectors, layers, multipliers, engine)
    cells = cells_of(vectors.names, layers, multipliers, fewer or {})
    scores = torch.full(
        (len(questions), 2, len(vectors.names), len(layers), len(multipliers)), torch.nan, dtype=torch.float64
    )
    places = _places(cells, layers, multipliers)
    together = batch_tokens or room(model, max(length(one, 1 + len(cells)) for one in questions))
    for part, values in _run(model, questions, vectors, cells, engine, together):
        check_finite(values, [examples[i] for i in part])
        _fill(scores, part, values, places, multipliers)
        if progress is not None:
            progress(sum(length(questions[i], 1 + len(cells)) for i in part))
    return Grid(tuple(examples), vectors.names, tuple(layers), tuple(multipliers), scores, engine, reason)


def cells_of(
    names: Sequence[str],
    layers: Sequence[int],
    multipliers: Sequence[float],
    fewer: Mapping[str, Sequence[float]],
) -> list[direct.Cell]:
    """The steered cells of a grid, (vector, layer, multiplier); multiplier 0 is the unsteered run and no cell."""
    return [
        (v, layer, m)
        for v, name in enumerate(names)
        for layer in layers
        for m in multipliers
        if m != 0 and m in fewer.get(name, multipliers)
    ]


def _places(
    cells: Sequence[direct.Cell], layers: Sequence[int], multipliers: Sequence[float]
) -> tuple[list[int], ...]:
    """Indices [v], [l], [k] of the cells in the grid."""
    return (
        [v for v, _, _ in cells],
        [layers.index(layer) for _, layer, _ in cells],
        [multipliers.index(m) for _, _, m in cells],
    )


def _fill(
    scores: torch.Tensor,
    part: list[int],
    values: torch.Tensor,
    places: tuple[list[int], ...],
    multipliers: Sequence[float],
) -> None:
    """Put [p, 2, 1 + cells] into the grid; the unsteered column wherever the multiplier is 0."""
    for row, index in enumerate(part):
        scores[index][(slice(None), *places)] = values[row, :, 1:]
        if 0 in multipliers:
            scores[index, :, :, :, multipliers.index(0)] = values[row, :, 0, None, None]


def _batches(
    questions: Sequence[Question], conditions: int, batch_tokens: int, sequence_tokens: int = SEQUENCE_TOKENS
) -> Iterator[list[int]]:
    """Indices of questions of similar length, so that little is padding; longer sequences count as `sequence_tokens`,
    the most of one forward."""
    order = sorted(range(len(questions)), key=lambda i: (length(questions[i], 1), i))
    batch: list[int] = []
    for index in order:
        if (
            batch
            and (len(batch) + 1) * min(length(questions[index], conditions), sequence_tokens) > batch_tokens
        ):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _run(
    model: Model,
    questions: Sequence[Question],
    vectors: Vectors,
    cells: Sequence[direct.Cell],
    engine: Engine,
    batch_tokens: int,
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Scores [p, 2, 1 + cells] part by part, with the indices of the part."""
    if engine == "direct":
        for index, one in enumerate(questions):
            yield [index], direct.evaluate_question(model, one, vectors, cells)[None]
        return

    def run(part: list[int], sequence_tokens: int) -> torch.Tensor:
        return tree.evaluate_batch(model, [questions[i] for i in part], vectors, cells, sequence_tokens)

    def run_job(part: list[int], sequence_tokens: int) -> torch.Tensor:
        """Several forwards in one job; `part` is sorted by length already."""
        asked = [questions[i] for i in part]
        forwards = _batches(asked, 1 + len(cells), batch_tokens)
        return tree.evaluate_batches(
            model, [[asked[i] for i in each] for each in forwards], vectors, cells, sequence_tokens
        )

    if model.remote is None:
        parts, call = _batches(questions, 1 + len(cells), batch_tokens), run
    else:
        tokens = max(batch_tokens, JOB_TOKENS)
        parts, call = _batches(questions, 1 + len(cells), tokens, tokens), run_job
    for indices in parts:
        yield from halving(call, indices)
