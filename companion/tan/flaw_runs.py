"""Both sides of every known flaw of the released code of Tan et al. 2024, run on a profile's own model and data.

The arithmetic is in `companion.tan.flaws`; here are the runs that it compares, and one table of what each flaw changes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from companion.data.datasets import personas
from companion.data.splits import group_items
from companion.tan import experiment, flaws
from companion.tan.jobs import dataset_of

if TYPE_CHECKING:
    from companion.profiles import Settings

SWAPPED = "believes-AIs-are-not-an-existential-threat-to-humanity"


def groups(settings: Settings) -> dict[str, int]:
    """Group of every example of the data sets: items of a pair, or of one question, are not independent."""
    found: dict[str, int] = {}
    for name in settings.datasets:
        items = dataset_of(name, settings.source).items
        start = max(found.values(), default=-1) + 1
        found |= {item.id: start + g for item, g in zip(items, group_items(items), strict=True)}
    return found


def overview(
    plain: Settings, clean: pd.DataFrame, released: pd.DataFrame, bracket: pd.DataFrame
) -> pd.DataFrame:
    """What each flaw changes: columns flaw, switch, released, corrected (mean steerability over data sets, or a count).

    `clean`, `released` and `bracket` are SLOPES tables in `letter`: as corrected, with the released split, and with
    the closing bracket in the score.
    """
    newlines = experiment.slopes(replace(plain, spelling="as-released"), "letter")
    rows = [
        ("test items among the training items", "split=as-released", _mean(released), _mean(clean)),
        ("the closing bracket is scored", "fidelity=paper", _mean(bracket), _mean(clean)),
        ("templates lose their last newline", "spelling=as-released", _mean(newlines), _mean(clean)),
        _half_precision(plain),
        _sweep_template(plain),
        _duplicates(plain),
        _swapped_sentences(),
    ]
    return pd.DataFrame(rows, columns=["flaw", "switch", "released", "corrected"])


def _mean(slopes: pd.DataFrame) -> str:
    full = slopes[slopes["vector"] == "full"]
    return f"mean steerability {full.groupby('dataset')['steerability'].mean().mean():.4f}"


def _half_precision(plain: Settings) -> tuple[str, ...]:
    found = flaws.precision_effect(experiment.grid(plain, "letter"))
    return (
        "logits in half precision",
        "flaws.half_precision",
        f"mean steerability {found['mean_half'].mean():.4f}, largest change of a slope {found['largest_change'].max():.4f}",
        f"mean steerability {found['mean'].mean():.4f}",
    )


def _sweep_template(plain: Settings) -> tuple[str, ...]:
    layers = []
    for template in ("qwen", ""):
        settings = replace(plain, sweep=replace(plain.sweep, template=template))
        summary = experiment.layer_summary(settings, "letter")
        best = summary.groupby("layer")["mean"].mean()
        layers.append(f"layer {experiment.choose_layer(summary)}, mean steerability there {best.max():.4f}")
    return "the layer sweep trains with Qwen's template", "sweep.template=qwen", *layers


def _duplicates(plain: Settings) -> tuple[str, ...]:
    found = pd.concat([flaws.duplicates(dataset_of(name, plain.source)) for name in plain.datasets])
    totals = found.groupby("split")[["repeated", "n_test"]].sum()
    texts = [
        f"{totals.loc[s, 'repeated']} of {totals.loc[s, 'n_test']} test items repeat a training question"
        for s in ("by rows", "by groups")
    ]
    return "repeated questions fall on both sides of a split", "companion.data.splits.group_items", *texts


def _swapped_sentences() -> tuple[str, ...]:
    theirs, ours = personas(SWAPPED, "papers")[0], personas(SWAPPED)[0]
    return (
        "one pair of persona sentences is swapped",
        "source=bundled",
        f"positive: {theirs}",
        f"positive: {ours}",
    )
