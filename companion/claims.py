"""The claims of Tan et al. 2024, one row each: published, ours, tolerance, verdict.

Those about one distribution and one model are here, the others in `companion.claims_shift`.

A verdict follows from a rule in code, and the rule is printed beside it. A claim that fails on a small model is a
result and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd

from companion import claims_shift, published
from companion.profiles import Settings
from companion.tan import experiment
from steerkit import stats

Verdict = Literal["agrees", "differs", "not run"]


@dataclass(frozen=True)
class Claim:
    """One row of `steerkit verify`."""

    id: str
    statement: str
    answer_format: str
    published: str
    ours: str
    rule: str
    verdict: Verdict
    exhibit: str


@dataclass(frozen=True)
class Evidence:
    """What the claims are judged on, for one answer format."""

    settings: Settings
    answer_format: str
    slopes: pd.DataFrame
    intervals: pd.DataFrame

    @property
    def full(self) -> pd.DataFrame:
        """Slopes of the full vector."""
        return self.slopes[self.slopes["vector"] == "full"]

    def published(self, column: str) -> pd.Series:
        """A published per-data-set number of Llama-2-7B for the data sets of this run that have one."""
        names = [name for name in self.settings.datasets if name in published.datasets().index]
        return published.datasets().loc[names, column].dropna()


def gather(settings: Settings, answer_format: str) -> Evidence:
    """Read or compute the tables the claims need."""
    return Evidence(
        settings,
        answer_format,
        experiment.slopes(settings, answer_format),
        experiment.intervals(settings, answer_format),
    )


def judge(evidence: Evidence) -> list[Claim]:
    """All claims for one answer format."""
    rows = [make(evidence) for make in CLAIMS]
    rows += claims_shift.judge(claims_shift.gather(evidence.settings, evidence.answer_format))
    return [Claim(answer_format=evidence.answer_format, **row) for row in rows]


def table(settings: Settings, formats: tuple[str, ...]) -> pd.DataFrame:
    """One row a claim and format."""
    return pd.DataFrame([asdict(claim) for form in formats for claim in judge(gather(settings, form))])


def _verdict(holds: bool) -> Verdict:
    return "agrees" if holds else "differs"


def works_on_average(evidence: Evidence) -> dict:
    """Steering moves the mean in the intended direction."""
    ours, theirs = evidence.intervals, evidence.published("mean_llama2-7b")
    above = int((ours["low"] > 0).sum())
    return {
        "id": "mean-positive",
        "statement": "Adding the vector moves the mean propensity in the intended direction.",
        "published": f"mean steerability above 0 in {int((theirs > 0).sum())} of {len(theirs)} data sets",
        "ours": f"95% interval above 0 in {above} of {len(ours)} data sets",
        "rule": "interval above 0 in more than half of the data sets",
        "verdict": _verdict(above > len(ours) / 2),
        "exhibit": "tan-fig-1",
    }


def beats_random(evidence: Evidence) -> dict:
    """The effect is the direction's, not the norm's."""
    ours = evidence.intervals
    above = int((ours["low"] > ours["random"]).sum())
    return {
        "id": "beats-random",
        "statement": "The effect belongs to the direction, not to its norm.",
        "published": "no placebo in the paper",
        "ours": f"95% interval above the mean of norm-matched random vectors in {above} of {len(ours)} data sets",
        "rule": "above the placebo in more than half of the data sets",
        "verdict": _verdict(above > len(ours) / 2),
        "exhibit": "tan-fig-1",
    }


def varies_across_datasets(evidence: Evidence) -> dict:
    """Some data sets are far more steerable than others."""
    ours, theirs = evidence.intervals.sort_values("estimate"), evidence.published("mean_llama2-7b")
    least, most = ours.iloc[0], ours.iloc[-1]
    return {
        "id": "varies-across-datasets",
        "statement": "Steerability differs strongly between data sets.",
        "published": f"{theirs.min():.2f} to {theirs.max():.2f} (logits per unit multiplier)",
        "ours": f"{least['estimate']:.3f} [{least['low']:.3f}, {least['high']:.3f}] to {most['estimate']:.3f} [{most['low']:.3f}, {most['high']:.3f}]",
        "rule": "intervals of the most and the least steerable data set do not overlap",
        "verdict": _verdict(most["low"] > least["high"]),
        "exhibit": "tan-fig-1",
    }


def anti_steerable(evidence: Evidence) -> dict:
    """Many examples move the wrong way although the mean moves the right way."""
    share = (evidence.full["steerability"] <= 0).groupby(evidence.full["dataset"]).mean()
    theirs = evidence.published("anti_steerable_llama2-7b")
    return {
        "id": "anti-steerable",
        "statement": "In many data sets a large share of examples is steered the wrong way, in the worst almost half.",
        "published": f"median {theirs.median():.2f}, worst {theirs.max():.2f}",
        "ours": f"median {share.median():.2f}, worst {share.max():.2f}",
        "rule": "worst data set within 0.15 of the published worst, and less than 0.4 in the median set",
        "verdict": _verdict(abs(share.max() - theirs.max()) <= 0.15 and share.median() < 0.4),
        "exhibit": "tan-fig-1",
    }


def bias_explains_variance(evidence: Evidence) -> dict:
    """Which option happens to be the positive one explains much of the variance."""
    parts = published.datasets().loc[evidence.published("variance_total_llama2-7b").index]
    theirs = 1 - parts["variance_unexplained_llama2-7b"] / parts["variance_total_llama2-7b"]
    row = {
        "id": "bias-explains-variance",
        "statement": "Much of the variance of steerability is bias towards a letter or a word.",
        "published": f"median share explained {theirs.median():.2f}",
        "exhibit": "tan-fig-4",
        "rule": "median share explained at least half of the published one",
    }
    if evidence.answer_format == "statement":
        return row | {"ours": "no letter and no Yes/No in this format", "verdict": "not run"}
    found = [stats.variance_parts(part) for _, part in evidence.full.groupby("dataset")]
    shares = pd.Series([1 - part["unexplained"] / part["total"] for part in found])
    return row | {
        "ours": f"median share explained {shares.median():.2f}",
        "verdict": _verdict(shares.median() >= theirs.median() / 2),
    }


def belongs_to_the_dataset(evidence: Evidence) -> dict:
    """The order of data sets carries over between models."""
    theirs = evidence.published("mean_llama2-7b")
    ours = evidence.intervals.set_index("dataset")["estimate"].reindex(theirs.index)
    row = {
        "id": "dataset-property",
        "statement": "How steerable a concept is belongs to the data set: models agree on the order.",
        "published": f"Spearman of Llama-2-7B and Qwen1.5-14B over 38 data sets {published.statistic('spearman-models-id', 'llama2-7b/qwen1.5-14b'):.2f}",
        "rule": "95% interval of the rank correlation with Llama-2-7B above 0",
        "exhibit": "tan-fig-1",
    }
    if len(theirs) < 4:
        return row | {"ours": f"only {len(theirs)} data sets with a published value", "verdict": "not run"}
    found = stats.rank_correlation(ours.to_numpy(), theirs.to_numpy(), np.random.default_rng(0))
    return row | {
        "ours": f"Spearman with Llama-2-7B {found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}] over {len(theirs)} data sets",
        "verdict": _verdict(found.low > 0),
    }


CLAIMS: tuple[Callable[[Evidence], dict], ...] = (
    works_on_average,
    beats_random,
    varies_across_datasets,
    anti_steerable,
    bias_explains_variance,
    belongs_to_the_dataset,
)
