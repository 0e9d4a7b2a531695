"""What several claims are judged with: shares and counts of data sets, and ranks of data sets within their kinds."""

from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np

from companion import inference, published, verdicts
from companion.tan.evidence import Evidence, SetSlopes
from companion.verdicts import Trial, require
from steerkit.stats import Interval

Pairs = Sequence[tuple[np.ndarray, np.ndarray]]  # two numbers of every data set, several times
# The same data sets, `SetSlopes` or `companion.moved.Moved`, in one model or in two.
Runs = Sequence[Sequence[Any]]

FEWEST = 5  # data sets on which a claim about data sets is judged: fewer have no interval worth the name
TESTED = 0.05
HALVINGS = 10  # one alone is a draw of its own: between two of them a correlation moves by a tenth or two
DRAWS = 99  # of label-shuffled vectors, where a number of theirs is only shown
SMALL = 0.1  # standard deviations of the unsteered propensity a unit multiplier: less is no steering


def share_of(flags: Sequence[bool] | np.ndarray) -> Interval:
    """A share of data sets with its interval."""
    return inference.share_interval(int(np.sum(flags)), len(flags))


def enough(sets: Sized, said: str, which: str = "") -> None:
    """Refuse to judge on fewer than `FEWEST` data sets."""
    require(len(sets) >= FEWEST, said, f"only {len(sets)} data sets{which}")


def halves_of(groups: np.ndarray) -> np.ndarray:
    """Which items are in the first of two random halves that no group is in both of, `HALVINGS` times, [n, p] of bool."""
    labels, rng = np.unique(groups), np.random.default_rng(0)
    first = [rng.permutation(labels)[: len(labels) // 2] for _ in range(HALVINGS)]
    return np.array([np.isin(groups, each) for each in first])


def both_ways(halves: Sequence[np.ndarray], *sides: tuple[Sequence[np.ndarray], Callable]) -> Pairs:
    """Two numbers over sets from disjoint halves [n, p] of their items, each halving once each way; a side is values [p]
    and what is taken, `np.mean` or `np.var`."""
    both = [np.vstack([half, ~half]) for half in halves]
    (x, first), (y, second) = sides

    def taken(values: Sequence[np.ndarray], measure: Callable, chosen: Sequence[np.ndarray]) -> np.ndarray:
        rows = zip(values, chosen, strict=True)
        each = (measure(np.broadcast_to(row, half.shape), axis=1, where=half) for row, half in rows)
        return np.array(list(each)).T  # [2 n, sets]

    return list(zip(taken(x, first, both), taken(y, second, [~half for half in both]), strict=True))


def permuted(strata: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """A permutation of positions within strata."""
    strata, order = np.asarray(strata), np.arange(len(strata))
    for each in np.unique(strata):
        here = np.flatnonzero(strata == each)
        order[here] = rng.permutation(here)
    return order


def ranked(
    said: str, ours: str, runs: Runs, pairs: Callable[[Runs], Pairs], least: float, exchanged: bool = False
) -> Trial:
    """Whether two numbers of data sets agree in rank, over all sets and within kinds; the mean over `pairs` of such numbers.

    Both have to: a difference between kinds can make a correlation over all sets, or hide that there is none. In the
    false world every set has one label-shuffled vector, beside which the vector's own slopes at 0 are set; if `exchanged`,
    or where no such vectors are recorded, the sets of one side are exchanged within their kind.
    """
    kinds = [each.kind for each in runs[0]]
    most = max(kinds.count(kind) for kind in set(kinds))
    require(most >= FEWEST, said, f"fewer than {FEWEST} data sets of a kind")

    def both(values: Pairs, order: Any = slice(None)) -> tuple[Interval, Interval]:
        x, y = (np.column_stack(side) for side in zip(*values, strict=True))
        return rank_correlations(x, y[order], kinds)

    def false(rng: np.random.Generator) -> Interval:
        return lesser(*(both(pairs(unlabelled(runs, rng))) if drawn else both(own, permuted(kinds, rng))))

    own, drawn = pairs(runs), recorded(*runs) and not exchanged
    every, within = both(own)
    ours += f"{{}}, the lesser of {every.estimate:.2f} over all {len(kinds)} data sets and {within.estimate:.2f} within kinds"
    beside = lesser(*both(pairs([at_zero(sets) for sets in runs]))) if drawn else None
    return Trial(said, ours, lesser(every, within), least, false, alike=beside)


def recorded(*runs: Sequence[Any]) -> bool:
    """Whether all data sets have label-shuffled vectors."""
    return all(len(each.shuffled) for sets in runs for each in sets)


def at_zero(sets: Sequence[Any]) -> list[Any]:
    """The data sets with the slopes of their vectors at multiplier 0."""
    return [replace(each, slopes=each.at_zero) for each in sets]


def unlabelled(runs: Runs, rng: np.random.Generator) -> list[list[Any]]:
    """The data sets under one label-shuffled vector each, of the same labels in both models."""
    seed = rng if len(runs) == 1 else rng.integers(2**32)
    return [[each.unlabelled(own) for each in sets] for sets in runs for own in [np.random.default_rng(seed)]]


def sizes(sets: Sequence[SetSlopes], kind: str, measure: Callable = np.mean) -> np.ndarray:
    """A number of the slopes under vectors beside the vector, whichever way they steer: mean over those of a kind, [sets]."""
    return np.array([np.abs(measure(each.beside[kind], axis=1)).mean() for each in sets])


def rank_correlations(x: Any, y: Any, kinds: Sequence[str]) -> tuple[Interval, Interval]:
    """Over all data sets, and within kinds."""
    return tuple(inference.quick_rank_correlation(x, y, strata) for strata in ([""] * len(kinds), kinds))


def order(x: np.ndarray, y: np.ndarray, kinds: Sequence[str]) -> float:
    """The lesser rank correlation."""
    return lesser(*rank_correlations(x, y, kinds)).estimate


def lesser(*effects: Interval) -> Interval:
    """Of effects that all have to be there."""
    return Interval(*(min(getattr(one, end) for one in effects) for end in ("estimate", "low", "high")))


def both_models(name: str) -> tuple[float, str]:
    """A published correlation: the weaker of the paper's two models, which a rule halves, and both in words."""
    found = [published.statistic(name, model) for model in (published.MAIN, "qwen1.5-14b")]
    return min(found, key=abs), "Spearman {:.2f} (Llama-2-7b), {:.2f} (Qwen1.5-14B)".format(*found)


def published_order(*columns: str) -> str:
    """The same two numbers of two columns of what the paper shows (`companion.published.datasets`), in words."""
    both = published.datasets()[[*columns]].dropna()
    every, within = rank_correlations(*both.to_numpy().T, [published.kind(name) for name in both.index])
    return f"Spearman {every.estimate:.2f} over {len(both)} data sets, {within.estimate:.2f} within kinds"


def in_both(e: Evidence, said: str, sets_of: Callable[[Evidence], Iterable]) -> Runs:
    """The data sets that the first two models both have, model by model."""
    require(e.others, said, f"only one model, {e.name}")
    runs = [{each.name: each for each in sets_of(run)} for run in (e, e.others[0])]
    common = [name for name in runs[0] if name in runs[1]]
    enough(common, said)
    return [[sets[name] for name in common] for sets in runs]


def some_sets(said: str, sets: Sequence[Any], found: Callable, false: Callable, words: str = "") -> Trial:
    """That something is so of at least one of some sets: `found` counts them, surely and maybe, in `sets` and in the
    false worlds of `false`; where it has `words` also in the vector's own slopes at 0, which are set beside these."""

    def share(some: Sequence[Any]) -> Interval:
        return inference.share_interval(found(some)[0], len(sets))

    sure, maybe = found(sets)
    # That a test finds nothing does not say that there is nothing.
    ours = f"{words}{sure} of {len(sets)} data sets ({maybe} before Holm's correction), a share of {{}}"
    alike = share(at_zero(sets)) if words else None
    return Trial(said, ours, share(sets), 1 / len(sets), lambda rng: share(false(rng)), alike=alike)


def between(e: Evidence, rho: float, said: str, measure: Callable[[np.ndarray], float]) -> Trial:
    """Agreement of the first two models on one number of the slopes [p] of the data sets that both have."""
    runs = in_both(e, said, lambda run: run.sets)
    trial = ranked(said, "", runs, partial(each_side, measure=measure), rho / 2)
    kinds, far = [each.kind for each in runs[0]], [sizes(sets, "shuffled", measure) for sets in runs]

    def left(runs: Runs) -> Interval:
        [both] = each_side(runs, measure)
        return inference.partial_rank_correlation(*both, far, kinds)

    rng = np.random.default_rng(0)
    chance = [left(unlabelled(runs, rng)).estimate for _ in range(DRAWS)]
    ours = f"{trial.ours}; of the mean over label-shuffled vectors, either way, {order(*far, kinds):.2f}; within kinds, with "
    ours += f"that held fixed, {verdicts.said(left(runs))}, and of one label-shuffled vector a set {np.median(chance):.2f} "
    return replace(trial, ours=f"{ours}(95% at most {np.quantile(chance, 0.95):.2f})")


def each_side(
    runs: Runs, measure: Callable[[np.ndarray], float], values: Callable = attrgetter("slopes")
) -> Pairs:
    """One number of every data set, by `values` its slopes [p], in both models."""
    return [tuple(np.array([measure(values(each)) for each in sets]) for sets in runs)]
