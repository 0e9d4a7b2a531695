"""What a steered model writes: greedy text under growing doses, and how the unsteered model finds it.

The sets are chosen by a rule and not for their looks: the most steerable one, the one in the middle, and the least
steerable one of a run; the prompt is that of the first test example.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import pandas as pd
import torch

from companion.models import model_of
from companion.profiles import Settings
from companion.tan import experiment, jobs, work
from companion.tan.dose import neutral_tokens
from companion.tan.jobs import Job
from steerkit import Example, Model, traces
from steerkit.errors import need
from steerkit.generation import generate, prompt_tokens
from steerkit.remote import run

STRENGTHS = (-3.0, -1.5, 0.0, 1.5, 3.0, 6.0, 12.0)  # the largest of the grid is 1.5
BROKEN = 1.0  # nats a token by which a text surprises more than the unsteered one, where it counts as broken


def by_rule(means: pd.Series) -> dict[str, str]:
    """The most, the middle and the least steerable data set of a series of means; fewer where there are fewer."""
    order = means.sort_values(kind="stable").index
    places = {"most": len(order) - 1, "middle": len(order) // 2, "least": 0}
    return {order[at]: rank for rank, at in reversed(places.items())}


def written(
    settings: Settings, form: str, strengths: Sequence[float] = STRENGTHS, most: int = 40
) -> pd.DataFrame:
    """Texts of the sets chosen by rule, at most `most` tokens each.

    Columns dataset, steerable (which of the rule), multiplier, dose (`companion.tan.dose`, nats a token), prompt, text;
    surprise (mean negative log-probability of its tokens without steering, nats), distinct (share of different words) and
    broken (it surprises by `BROKEN` more than the unsteered text), by which a text that falls apart is seen.
    """
    need(0 in strengths, "0 among the strengths: the unsteered text", f"{list(strengths)}", "add it.")
    layer, model = experiment.layer_of(settings, form), model_of(settings.model, settings.remote)
    slopes = experiment.slopes(settings, form).query("vector == 'full'")
    chosen, rows = by_rule(slopes.groupby("dataset", sort=False)["steerability"].mean()), []
    for name, rank in chosen.items():
        job = Job(settings, "grid", name, form, layer)
        train, [first, *_] = jobs.examples(job, model)
        vectors = work.vectors_of(job, [layer], train)
        asked = model.tokenizer.decode(first.prompt)
        how = {"layer": layer, "multipliers": strengths, "max_new_tokens": most}
        deltas = torch.tensor(strengths)[:, None] * vectors.values[0]
        doses, _ = run(model, traces.divergences, neutral_tokens(model), layer, deltas)
        told = generate(model, first, vectors, **how)
        for (strength, text), dose in zip(told, doses.tolist(), strict=True):
            words = text.split()
            row = {"dataset": name, "steerable": rank, "multiplier": strength, "dose": dose, "prompt": asked}
            row |= {"text": text, "surprise": surprise(model, first, text, layer)}
            rows.append(row | {"distinct": len({*words}) / len(words) if words else float("nan")})
    table = pd.DataFrame(rows)
    plain = table[table["multiplier"] == 0].set_index("dataset")["surprise"]
    return table.assign(broken=table["surprise"] > table["dataset"].map(plain) + BROKEN)


def surprise(model: Model, prompt: Example, text: str, layer: int) -> float:
    """Mean negative log-probability (nats a token) of a text after a prompt, unsteered; NaN for an empty one."""
    new = model.tokenizer(text, add_special_tokens=False).input_ids
    if not new:
        return float("nan")
    start, nothing = prompt_tokens(model, prompt), torch.zeros(model.width)
    [logits] = run(model, traces.steered_logits, start[:-1], [start[-1], *new], layer, nothing)
    found = logits[:-1].double().log_softmax(-1).cpu()
    return float(-found[torch.arange(len(new)), torch.tensor(new)].mean())


def breaks(table: pd.DataFrame) -> pd.DataFrame:
    """Where the texts of `written` break: a row a data set, with the largest dose before and the smallest one that does.

    Columns dataset, steerable, whole, whole_at (the largest dose below every broken one, nats a token, and its
    multiplier), broken, broken_at (the smallest that is broken; NaN where none is).
    """
    rows, numbers = [], ["dose", "multiplier"]
    for name, part in table.sort_values("dose", kind="stable").groupby("dataset", sort=False):
        first = part[part["broken"]].head(1)
        before = part[part["dose"] < first["dose"].min()] if len(first) else part
        ends = (found[numbers].iloc[0] if len(found) else 2 * (np.nan,) for found in (before.tail(1), first))
        rows.append((name, part["steerable"].iloc[0], *chain.from_iterable(ends)))
    return pd.DataFrame(rows, columns="dataset steerable whole whole_at broken broken_at".split())
