"""The runs behind `steerkit.mayne`: what a model is made to do, one function a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import nnsight
import pandas as pd
import torch

from steerkit import jobs
from steerkit.mayne import ANSWER_TOKENS, CAA_PARTS, Case
from steerkit.plain_text import SKIP, PlainText, windows

if TYPE_CHECKING:
    from steerkit.models import Model
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
    model = jobs.model_of(case.settings.model)
    train, _ = examples(case, model)
    name = CAA_PARTS.get(case.dataset, (case.dataset,))[0]
    groups = jobs.groups_of(jobs.dataset_of(name, case.settings.source), [example.id for example in train])
    rows, labels = [], []
    for example, group in zip(train, groups, strict=True):
        for side, found in answer_activations(model, example, case.layer).items():
            parts = picked(found, case.format)
            rows += [found.mean(0), *parts]
            labels += [(example.id, group, side, part) for part in ("mean", *map(str, range(len(parts))))]
    table = frame(torch.stack(rows), zip(*labels, strict=True), ("example_id", "group", "side", "part"))
    table.attrs = {"engine": "trace", "source": model.source, "train_examples": len(train)}
    return table


def answer_activations(model: Model, example: Example, layer: int) -> dict[str, torch.Tensor]:
    """Activations [tokens, d] of the positive and of the negative answer of an example, each after its prompt."""
    answers = {"positive": example.matching, "negative": example.not_matching}
    return {
        side: residual(model, [[*example.prompt, *example.lead, *answer]], layer)[0, -len(answer) :]
        for side, answer in answers.items()
    }


def picked(found: torch.Tensor, answer_format: str) -> torch.Tensor:
    """The tokens [m, d] that stand for an answer [tokens, d]: `ANSWER_TOKENS` of a completion, or the one there is."""
    return found[spread(len(found), ANSWER_TOKENS if answer_format == "statement" else 1)]


def spread(length: int, count: int) -> list[int]:
    """`count` places from 0 to length - 1, evenly spaced; some twice when there are fewer."""
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]


def plain(case: Case, text: PlainText, tokens: int, what: str) -> pd.DataFrame:
    """One row a token: its activation, or with what="norms" only the norm."""
    model = jobs.model_of(case.settings.model)
    parts = []
    for batch in windows(model, text.text, tokens).split(TOGETHER):
        found = residual(model, batch.tolist(), case.layer)[:, SKIP:].flatten(0, 1)
        parts.append(found.norm(dim=1, keepdim=True) if what == "norms" else found)
    kept = torch.cat(parts)[:tokens]
    table = pd.DataFrame({"norm": kept[:, 0].numpy()}) if what == "norms" else frame(kept)
    table.attrs = {"engine": "trace", "source": model.source}
    return table


def residual(model: Model, tokens: list[list[int]], layer: int) -> torch.Tensor:
    """Output of a block [b, s, d] on sequences of equal length, float32 on the CPU."""
    ids = torch.tensor(tokens, device=model.device)
    with torch.no_grad(), model.lm.trace(input_ids=ids, use_cache=False) as tracer:
        found = nnsight.save(model.sites.layers[layer].output)
        tracer.stop()
    return found.float().cpu()


def steered(case: Case, vectors: Vectors) -> pd.DataFrame:
    """The GRID table of the test examples."""
    from steerkit.engine import evaluate

    settings, model = case.settings, jobs.model_of(case.settings.model)
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
