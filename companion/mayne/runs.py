"""The runs behind `companion.mayne.activations`: what a model is made to do, one function a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from companion.data.plain_text import SKIP, PlainText, windows
from companion.mayne.activations import ANSWER_TOKENS, CAA_PARTS, Case
from companion.tan import jobs
from steerkit import traces
from steerkit.remote import JOB_TOKENS, run

if TYPE_CHECKING:
    from steerkit.model import Model
    from steerkit.prompts import Example
    from steerkit.vectors import Vectors

TOGETHER = 16  # windows of plain text in one forward


def examples(case: Case, model: Model) -> tuple[list[Example], list[Example]]:
    """Training and test examples; CAA's own parts where the data set is one of them."""
    from steerkit.prompts import Prompter

    if case.dataset not in CAA_PARTS:
        return jobs.examples(case.job, model)
    settings, asked = case.settings, Prompter(model.tokenizer, model.template, case.settings.spelling)
    sides = []
    for part, limit in zip(CAA_PARTS[case.dataset], case.job.limits, strict=True):
        dataset = jobs.dataset_of(part, settings.source)
        items = range(len(dataset.items))[:limit]
        sides.append(
            jobs.examples_of(asked, dataset, items, case.format, settings.seed, case.job.counterbalanced)
        )
    return sides[0], sides[1]


def answers(case: Case) -> pd.DataFrame:
    """Activations at the answers of the training examples: example_id, group, side, part, then the coordinates.

    `part` is "mean" over the answer's tokens, or the number of one of those of `picked`.
    """
    model = jobs.model_of(case.settings.model, case.settings.remote)
    train, _ = examples(case, model)
    name = CAA_PARTS.get(case.dataset, (case.dataset,))[0]
    groups = jobs.groups_of(jobs.dataset_of(name, case.settings.source), [example.id for example in train])
    rows, labels = [], []
    found_each = answer_activations(model, train, case.layer)
    for example, group, sides in zip(train, groups, found_each, strict=True):
        for side, found in sides.items():
            parts = picked(found, case.format)
            rows += [found.mean(0), *parts]
            labels += [(example.id, group, side, part) for part in ("mean", *map(str, range(len(parts))))]
    table = frame(torch.stack(rows), zip(*labels, strict=True), ("example_id", "group", "side", "part"))
    table.attrs = {"engine": "trace", "source": model.source, "train_examples": len(train)}
    return table


def answer_activations(
    model: Model, examples: Sequence[Example], layer: int
) -> list[dict[str, torch.Tensor]]:
    """Activations [tokens, d] of the positive and of the negative answer of each example, each after its prompt."""
    asked = [
        ([*example.prompt, *example.lead, *answer], len(answer))
        for example in examples
        for answer in (example.matching, example.not_matching)
    ]
    batches, starts = [[tokens] for tokens, _ in asked], [-size for _, size in asked]
    found = [each[0] for each in residuals(model, batches, layer, starts)]
    return [
        {"positive": positive, "negative": negative}
        for positive, negative in zip(found[::2], found[1::2], strict=True)
    ]


def picked(found: torch.Tensor, answer_format: str) -> torch.Tensor:
    """The tokens [m, d] that stand for an answer [tokens, d]: `ANSWER_TOKENS` of a completion, or the one there is."""
    return found[spread(len(found), ANSWER_TOKENS if answer_format == "statement" else 1)]


def spread(length: int, count: int) -> list[int]:
    """`count` places from 0 to length - 1, evenly spaced; some twice when there are fewer."""
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]


def plain(case: Case, text: PlainText, tokens: int, what: str) -> pd.DataFrame:
    """One row a token: its activation, or with what="norms" only the norm."""
    model = jobs.model_of(case.settings.model, case.settings.remote)
    batches = [batch.tolist() for batch in windows(model, text.text, tokens).split(TOGETHER)]
    found = residuals(model, batches, case.layer, [SKIP] * len(batches), norms=what == "norms")
    kept = torch.cat([part.flatten(0, 1) for part in found])[:tokens]
    table = pd.DataFrame({"norm": kept[:, 0].numpy()}) if what == "norms" else frame(kept)
    table.attrs = {"engine": "trace", "source": model.source}
    return table


def residuals(
    model: Model, batches: Sequence[list[list[int]]], layer: int, starts: Sequence[int], norms: bool = False
) -> list[torch.Tensor]:
    """Output of a block [b, s - start, d], or its norms, a batch of sequences of one length; float32 on the CPU.

    On a server one job holds batches of `JOB_TOKENS` tokens.
    """
    found, first, tokens = [], 0, 0
    for index, batch in enumerate(batches):
        tokens += len(batch) * len(batch[0])
        if tokens >= JOB_TOKENS or index == len(batches) - 1:
            part = slice(first, index + 1)
            found += run(model, traces.residuals, batches[part], layer, starts[part], norms)
            first, tokens = index + 1, 0
    return found


def steered(case: Case, vectors: Vectors) -> pd.DataFrame:
    """The GRID table of the test examples."""
    from steerkit.grid import evaluate

    settings, model = case.settings, jobs.model_of(case.settings.model, case.settings.remote)
    _, test = examples(case, model)
    found = evaluate(
        model,
        test,
        vectors,
        settings.resample_multipliers,
        fidelity=settings.fidelity,
        engine=settings.engine,
    )
    table = found.table(case.dataset)
    table.attrs = {"engine": found.engine, "reason": found.reason, "source": model.source}
    return table


def frame(values: torch.Tensor, labels: Any = (), names: Sequence[str] = ()) -> pd.DataFrame:
    """Activations as a table, one column a coordinate ("0", "1", ...)."""
    columns = dict(zip(names, labels, strict=True))
    numbers = {str(i): column for i, column in enumerate(values.numpy().T)}
    return pd.DataFrame(columns | numbers)


def tensor(table: pd.DataFrame) -> torch.Tensor:
    """The activations of a table, float32 [n, d]."""
    numbers = [name for name in table.columns if name.isdigit()]
    return torch.from_numpy(table[numbers].to_numpy(dtype="float32").copy())
