"""Verdicts: what a number says about a claim, and how often the same rule would say so if the claim were false.

A claim is turned into one effect with an interval, in a direction in which the claim says that it is large, beside two
values fixed beforehand: `none`, the effect where the claim is false, and `least`, the smallest that counts.

    agrees               the interval is above `none`, and the effect is at least `least`
    not specific         so it is, and as much so without what the claim is about
    differs              the interval is below `least`
    inconclusive         anything else: this run cannot tell
    not testable here    the claim has no meaning in this run

The rule is then put to worlds in which the claim is false (labels shuffled, sets alike, placebos for vectors): the share
of them that it calls "agrees" is printed with every verdict, beside the effects in them. Above `MOST` the verdict is
"not specific"; so it is where the effect is no larger than in half of them, or meets the rule only because it is measured
otherwise than they are (`Trial.alike`).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from steerkit.stats import Interval as Effect  # an estimate with its 95% interval

AGREES, UNSPECIFIC, DIFFERS, OPEN = "agrees", "not specific", "differs", "inconclusive"
UNTESTABLE = "not testable here"
VERDICTS = (AGREES, UNSPECIFIC, DIFFERS, OPEN, UNTESTABLE)
OURS = "not in the paper"  # what stands for the published value of claims that this project adds
MOST = 0.10  # of the worlds in which a claim is false may be called "agrees"
TAIL = 0.05  # of the worlds in which a claim is false have a larger effect than the one that is shown of them
WORLDS = 200  # false worlds a rule is put to
POWER = 2.8  # standard errors: an effect of this size is found in four runs of five (1.96 + 0.84)
COLUMNS = ["id", "statement", "answer_format", "model", "published", "ours", "rule", "verdict", "effect"]
COLUMNS += ["low", "high", "none", "least", "false_world", "false_effect", "false_most", "alike"]
COLUMNS += ["false_agree", "detectable", "exhibit"]


@dataclass(frozen=True)
class Trial:
    """A claim put to the test.

    `ours` says what was found in words, `{}` standing for the effect; `false` draws an effect from a world in which the
    claim is false, by the same computation. Where these worlds are of slopes at multiplier 0, as placebos have them,
    `alike` is the effect of the vector's own slopes there.
    """

    published: str
    ours: str
    effect: Effect
    least: float
    false: Callable[[np.random.Generator], Effect]
    none: float = 0.0
    alike: Effect | None = None


@dataclass
class Untestable(Exception):
    """That this run cannot put a claim to the test, and why; a judge raises it."""

    published: str
    reason: str


@dataclass(frozen=True)
class Claim:
    """A statement; the rule that decides on it and the world in which it is false, in words; the function that judges.

    `steers`: it presupposes that steering works. `across`: it is about several models together.
    """

    id: str
    statement: str
    rule: str
    world: str
    exhibit: str
    steers: bool
    across: bool
    judged: Callable[[Any], Trial]

    def judge(self, evidence: Any) -> Trial | Untestable:
        """The claim put to the test, where that is possible."""
        try:
            return self.judged(evidence)
        except Untestable as why:
            return why


def claim(claims: list[Claim], exhibit: str, *, steers: bool = False, across: bool = False) -> Callable:
    """Add a function to the claims of a paper: its name is the claim's id.

    Its docstring is the claim, then after "Rule:" and "False world:" what decides and where it is false; constants of the
    function's module stand there in braces.
    """

    def add(judge: Callable[[Any], Trial]) -> Callable[[Any], Trial]:
        words = " ".join(judge.__doc__.split()).format_map(judge.__globals__)
        parts = re.split(" Rule: | False world: ", words)
        claims.append(Claim(judge.__name__.replace("_", "-"), *parts, exhibit, steers, across, judge))
        return judge

    return add


def require(holds: Any, said: str, reason: str) -> None:
    """Refuse to judge what the paper says (`said`), unless something holds."""
    if not holds:
        raise Untestable(said, reason)


def verdict_of(effect: Effect, least: float, none: float = 0.0) -> str:
    """The rule itself."""
    if effect.low > none and effect.estimate >= least:
        return AGREES
    return DIFFERS if effect.high < least else OPEN


def false_worlds(trial: Trial, worlds: int = WORLDS) -> tuple[float, np.ndarray]:
    """The share of worlds without the claim in which the rule says "agrees", and the estimates in all of them."""
    rng = np.random.default_rng(0)
    drawn = [trial.false(rng) for _ in range(worlds)]
    agree = [verdict_of(each, trial.least, trial.none) == AGREES for each in drawn]
    return float(np.mean(agree)), np.array([each.estimate for each in drawn])


def judged(
    one: Claim, evidence: Any, answer_format: str, model: str, failure: str = "", worlds: int = WORLDS
) -> dict[str, Any]:
    """One row of the table of claims, `COLUMNS`; with a `failure` the claim has no meaning in this run."""
    found = one.judge(evidence)
    found = Untestable(found.published, failure) if failure else found
    row = {"id": one.id, "statement": one.statement, "answer_format": answer_format, "model": model}
    row |= {"published": found.published, "rule": one.rule, "false_world": one.world, "exhibit": one.exhibit}
    if isinstance(found, Untestable):
        return row | {"ours": found.reason, "verdict": UNTESTABLE}
    (rate, chance), effect = false_worlds(found, worlds), found.effect
    middle, most = np.quantile(chance, [0.5, 1 - TAIL])
    verdict, beside = verdict_of(effect, found.least, found.none), found.alike or effect
    sound = rate <= MOST and verdict_of(beside, found.least, found.none) == AGREES
    if verdict == AGREES and not (sound and beside.estimate > middle):
        verdict = UNSPECIFIC
    error = (effect.high - effect.low) / (2 * 1.96)
    row |= {"effect": effect.estimate, "low": effect.low, "high": effect.high, "none": found.none}
    row |= {"least": found.least, "alike": beside.estimate, "detectable": found.none + POWER * error}
    row |= {"false_effect": middle, "false_most": most, "false_agree": rate}
    return row | {"ours": found.ours.format(said(effect)), "verdict": verdict}


def frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The table of claims; a claim that is not testable has no numbers."""
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def said(effect: Effect, digits: str = ".2f") -> str:
    """An estimate with its interval, in words."""
    return f"{effect.estimate:{digits}} [{effect.low:{digits}}, {effect.high:{digits}}]"


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table of claims as readers see it: without ids, rounded, and blank where there is no number.

    `where false`: the median effect of false worlds, and in brackets the one that all but `TAIL` of them stay below; then
    the effect that is set beside them, where it is not the one that the claim is judged by.
    """
    names = {"answer_format": "format", "false_world": "false world", "false_agree": "false agree"}
    columns = ["statement", "format", "model", "published", "ours", "where false", "rule", "verdict", "least"]
    found = table.round(2).astype(object).where(table.notna(), "").rename(columns=names)
    null = table["false_effect"].map("{:.2f}".format) + table["false_most"].map(" ({:.2f})".format)
    own = table["alike"].map("; at zero {:.2f}".format).where(table["alike"] != table["effect"], "")
    found["where false"] = (null + own).where(table["false_effect"].notna(), "")
    return found[[*columns, "false world", "false agree", "detectable", "exhibit"]]
