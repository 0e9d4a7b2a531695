"""The claims of Tan et al. 2024 about changed prompts and other models (section 5), in the form of `companion.claims`.

Steerability in and out of distribution shares items, answers and vector; what two numbers share by that says nothing. A
vector whose labels are drawn at random shares as much. Where none is recorded, whatever is correlated is taken from
disjoint halves of the test items, both ways, over several halvings.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from companion import inference, published, trials
from companion.moved import Moved, Pair, halves, moved
from companion.tan.evidence import Evidence
from companion.tan.jobs import MEAN
from companion.tan.tables import SAME
from companion.templates import SETTINGS
from companion.trials import at_zero, both_models, enough, ranked, recorded, unlabelled
from companion.verdicts import Claim, Trial, claim, require
from steerkit import stats
from steerkit.formats import FORMATS
from steerkit.stats import Interval

LEAST = {"logits": 0.25, "nats per token": 0.02}  # own steerability of a data set in figure 7
FIRST_SHIFT, LAST_SHIFT = ("BASE", "USER_NEG"), ("SYS_POS", "USER_NEG")

CLAIMS: list[Claim] = []


def _having(e: Evidence, shift: Pair, said: str, which: str = "") -> list[Moved]:
    """The data sets that were run in distribution and under a shift, of which there must be enough."""
    sets = [each for each in moved(e) if {SAME, shift} <= set(each.slopes)]
    enough(sets, said, which)
    return sets


def _correlated(e: Evidence, shift: Pair, said: str, rho: float, measure: Callable) -> Trial:
    """Whether a number in distribution goes with the same one under a shift, over data sets.

    On the items that both settings ask, as published, where label-shuffled vectors say what these items alone do.
    """
    sets = _having(e, shift, said, f" with {'->'.join(shift)}")

    def whole(runs: trials.Runs) -> trials.Pairs:
        return [tuple(np.array([measure(each.slopes[pair]) for each in runs[0]]) for pair in (SAME, shift))]

    def disjoint(other: Pair) -> Trial:
        return ranked(said, "", [sets], lambda runs: halves(runs[0], SAME, other, measure), rho / 2, True)

    apart = disjoint(shift)
    other, ceiling = apart.effect.estimate, disjoint(SAME).effect.estimate
    if recorded(sets):
        halved = f"on disjoint halves {other:.2f}, in distribution with itself {ceiling:.2f}"
        return ranked(said, f"{halved}; on the same items ", [sets], whole, rho / 2)
    low = f"no shift can be told from noise: two halves in distribution agree at {ceiling:.2f}, below {rho / 2:.2f}"
    low += f"; under the shift at {other:.2f} (of all sets and within kinds the lesser)"
    require(ceiling >= rho / 2, said, low)
    shared = ranked(said, "", [sets], whole, rho / 2).effect.estimate
    beside = f"on shared items {shared:.2f}, in distribution with itself {ceiling:.2f}"
    return replace(apart, ours=f"on disjoint halves {apart.ours}; {beside}")


@claim(CLAIMS, "tan-fig-5", steers=True)
def id_and_ood_correlate(e: Evidence) -> Trial:
    """Steerability in and out of distribution correlate over data sets.

    Rule: rank correlation, over all sets and within kinds, at least half of the published
    False world: one label-shuffled vector a set; where none are recorded data sets exchanged within their kind, on disjoint halves
    """
    rho, said = both_models("spearman-id-ood:BASE->USER_NEG")
    return _correlated(e, FIRST_SHIFT, f"{said}, BASE to USER_NEG", rho, np.mean)


@claim(CLAIMS, "tan-app-variance", steers=True)
def variances_correlate(e: Evidence) -> Trial:
    """The variance of steerability in and out of distribution correlates over data sets.

    Rule: rank correlation, over all sets and within kinds, at least half of the published
    False world: one label-shuffled vector a set; where none are recorded data sets exchanged within their kind, on disjoint halves
    """
    rho, said = both_models("spearman-id-ood-variance")
    return _correlated(e, LAST_SHIFT, f"{said}, SYS_POS to USER_NEG", rho, np.var)


def _published(model: str) -> pd.DataFrame:
    """The published means of a model in distribution and under the shift, data sets down."""
    theirs = published.shifts().query("model == @model")
    wide = theirs.pivot_table(index="dataset", columns=["train", "test"], values="mean")
    return wide[[SAME, FIRST_SHIFT]]


@claim(CLAIMS, "tan-fig-5", steers=True)
def ood_is_weaker(e: Evidence) -> Trial:
    """Under a shift to the opposite persona vectors steer less on average.

    Rule: mean loss over data sets as a share of steerability in distribution, at least half of the published one
    False world: one label-shuffled vector a set, in the direction that raises half of the items, on the other half; where
    none are recorded the two settings exchanged within data sets
    """
    means = published.shifts().query("model == 'llama2-7b'").groupby(["train", "test"])["mean"].mean()
    own, other = means[SAME], means[FIRST_SHIFT]
    said = f"mean {own:.2f} in distribution, {other:.2f} from BASE to USER_NEG (Llama-2-7b)"
    sets = _having(e, FIRST_SHIFT, said)

    def effect(sets: Sequence[Moved], signs: np.ndarray | int = 1) -> Interval:
        means = [[each.slopes[pair].mean() for each in sets] for pair in (SAME, FIRST_SHIFT)]
        same, shifted = map(np.array, means)
        return stats.mean_interval(signs * (same - shifted) / abs(same.mean()))

    def false(rng: np.random.Generator) -> Interval:
        if recorded(sets):
            return effect([each.unlabelled(rng, apart=True) for each in sets])
        return effect(sets, rng.choice([-1, 1], len(sets)))

    ours, least = f"loss {{}} over {len(sets)} data sets", (1 - other / own) / 2
    alike = effect(at_zero(sets)) if recorded(sets) else None
    return Trial(said, ours, effect(sets), least, false, alike=alike)


@claim(CLAIMS, "tan-fig-5", steers=True)
def some_sets_fail(e: Evidence) -> Trial:
    """Some data sets are steerable in distribution and not under a shift.

    Rule: at least one set steers (Holm), loses (Holm) and is at or below 0 under the shift; to find none decides nothing
    False world: the two settings exchanged within test groups
    """
    theirs = _published("qwen1.5-14b")
    lost = int(((theirs[SAME] > 0.25) & (theirs[FIRST_SHIFT] <= 0)).sum())
    said = f"{lost} of {len(theirs)} data sets from above 0.25 to below 0 (Qwen1.5-14B, BASE to USER_NEG)"
    sets = [each for each in _having(e, FIRST_SHIFT, said) if len(np.unique(each.groups)) > 1]
    enough(sets, said)

    def found(sets: Sequence[Moved]) -> tuple[int, int]:
        every = [(each.slopes[SAME], each.slopes[FIRST_SHIFT], each.groups) for each in sets]
        steers = [stats.mean_interval(own, groups).p_above for own, _, groups in every]
        loses = [stats.mean_interval(own - other, groups).p_above for own, other, groups in every]
        gone, both = np.array([other.mean() <= 0 for _, other, _ in every]), np.maximum(steers, loses)
        return tuple(int((p[gone] < trials.TESTED).sum()) for p in (inference.holm(both), both))

    def exchanged(each: Moved, rng: np.random.Generator) -> Moved:
        _, member = np.unique(each.groups, return_inverse=True)
        swap = (rng.random(member.max() + 1) < 0.5)[member]
        own, other = each.slopes[SAME], each.slopes[FIRST_SHIFT]
        slopes = {SAME: np.where(swap, other, own), FIRST_SHIFT: np.where(swap, own, other)}
        return replace(each, slopes=slopes)

    return trials.some_sets(said, sets, found, lambda rng: [exchanged(each, rng) for each in sets])


@claim(CLAIMS, "tan-fig-5", steers=True)
def failing_in_distribution_means_failing_out_of_it(e: Evidence) -> Trial:
    """What does not steer in distribution does not steer under a shift either.

    Rule: share that fail out of distribution, of sets that fail in it less that of the others, at least 0.3
    False world: one label-shuffled vector a set where these are recorded, otherwise data sets exchanged
    """
    theirs = _published("llama2-7b")
    weak = theirs[SAME] <= 0.25
    said = f"{int((theirs[FIRST_SHIFT][weak] <= 0.25).sum())} of {int(weak.sum())} sets at most 0.25 stay so (Llama-2-7b)"
    sets, least = _having(e, FIRST_SHIFT, said), LEAST[FORMATS[e.form].unit]

    def failing(sets: Sequence[Moved]) -> tuple[np.ndarray, np.ndarray]:
        own, other = halves(sets, SAME, FIRST_SHIFT)[0]
        return own <= least, other <= least

    fails, failed = failing(sets)
    there = f"{int(fails.sum())} of {len(sets)} data sets at most {least:g} in distribution"
    require(min(fails.sum(), (~fails).sum()) >= trials.FEWEST, said, there)

    def effect(fails: np.ndarray, failed: np.ndarray) -> Interval:
        if fails.all() or not fails.any():
            return Interval(0.0, -1.0, 1.0)
        one, two = (trials.share_of(failed[side]) for side in (fails, ~fails))
        gap = one.estimate - two.estimate  # the interval of a difference of shares after Newcombe (1998)
        low = gap - np.hypot(one.estimate - one.low, two.high - two.estimate)
        return Interval(gap, low, gap + np.hypot(one.high - one.estimate, two.estimate - two.low))

    def false(rng: np.random.Generator) -> Interval:
        drawn = failing(*unlabelled([sets], rng)) if recorded(sets) else (fails, rng.permutation(failed))
        return effect(*drawn)

    alike = effect(*failing(at_zero(sets))) if recorded(sets) else None
    return Trial(said, f"difference {{}}; {there}", effect(fails, failed), 0.3, false, alike=alike)


def _relative(e: Evidence) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """By data set: relative steerability, distance of the settings, unsteered propensity under test; no diagonal.

    A set counts where the vector of the test setting itself steers on one half of the items; what is relative to that is
    measured on the other half.
    """
    least, found = LEAST[FORMATS[e.form].unit], []
    for each in moved(e):
        named = [setting for setting in SETTINGS if setting in each.baselines]
        half, level = each.halves[0], {setting: each.baselines[setting].to_numpy() for setting in named}
        own = {test: each.slopes[test, test][half].mean() for test in named}
        pairs = [(a, b) for b in named for a in named if a != b and own[b] > least]
        if len(pairs) >= 4:
            relative = [each.slopes[pair][~half].mean() / own[pair[1]] for pair in pairs]
            distance = [np.abs(level[a] - level[b]).mean() for a, b in pairs]
            under = [level[b].mean() for _, b in pairs]
            found.append(tuple(map(np.array, (relative, distance, under))))
    return found


def _within(
    said: str,
    words: str,
    sets: Sequence[tuple[np.ndarray, np.ndarray]],
    least: float,
    drawn: Sequence[np.ndarray] = (),
) -> Trial:
    """Whether two numbers of pairs of settings go together, as the mean of rank correlations within data sets.

    In the false world the second are exchanged within sets; or the first are `drawn`, where these [v, pairs] are given.
    """
    drawn = [each for each, (x, y) in zip(drawn, sets, strict=False) if np.ptp(x) > 0 and np.ptp(y) > 0]
    sets = [(x, y) for x, y in sets if np.ptp(x) > 0 and np.ptp(y) > 0]
    enough(sets, said, " with enough settings that steer")

    def unit(values: np.ndarray) -> np.ndarray:
        ranks = scipy_stats.rankdata(values)
        return (ranks - ranks.mean()) / (ranks.std() * np.sqrt(len(ranks)))

    ranked = [(unit(x), unit(y)) for x, y in sets]  # whose inner products are rank correlations

    def false(rng: np.random.Generator) -> Interval:
        if drawn:
            pairs = zip(drawn, ranked, strict=True)
            return stats.mean_interval([unit(rng.choice(x)) @ y for x, (_, y) in pairs])
        return stats.mean_interval([x @ rng.permutation(y) for x, y in ranked])

    effect = stats.mean_interval([x @ y for x, y in ranked])
    return Trial(said, f"{words} {{}} over {len(sets)} data sets", effect, least, false)


@claim(CLAIMS, "tan-fig-7", steers=True)
def prompts_explain_failures(e: Evidence) -> Trial:
    """Where a prompt setting changes the unsteered propensity more, vectors from elsewhere work less.

    Rule: mean rank correlation within data sets, without the diagonal, at least half of the published one
    False world: distances exchanged within data sets
    """
    rho, said = both_models("spearman-relative-baseline")
    sets = [(-relative, distance) for relative, distance, _ in _relative(e)]
    return _within(f"{said}, diagonal included", "loss against distance", sets, -rho / 2)


@claim(CLAIMS, "tan-fig-7", steers=True)
def steering_is_worst_where_it_is_needed(e: Evidence) -> Trial:
    """Vectors from elsewhere work least in settings in which the model does least of the behaviour.

    Rule: mean rank correlation within data sets, without the diagonal, at least 0.2
    False world: distances exchanged within data sets
    """
    said = "stated without a number (signed version of figure 7)"
    sets = [(relative, level) for relative, _, level in _relative(e)]
    return _within(said, "against the unsteered propensity", sets, 0.2)


@claim(CLAIMS, "tan-app-cosine", steers=True)
def distant_settings_have_other_vectors(e: Evidence) -> Trial:
    """Vectors of prompt settings with more different propensities are less alike.

    Rule: mean rank correlation within data sets, without the diagonal, at least half of the published one
    False world: one label-shuffled vector of every setting where these are recorded, otherwise distances exchanged within data sets
    """
    rho, said = both_models("spearman-cosine-baseline")
    # The mean of all vectors is closer to each of them by construction.
    table = e.cosines[(e.cosines[["first", "second"]] != MEAN).all(axis=1)]
    parts, drawn = [part for _, part in table.groupby("dataset")], e.unlabelled_cosines
    sets = [(-part["cosine"].to_numpy(), part["distance"].to_numpy()) for part in parts]
    where = (pd.MultiIndex.from_frame(part[["dataset", "first", "second"]]) for part in parts)
    shuffled = [] if drawn.empty else [-drawn.loc[each].to_numpy().T for each in where]
    return _within(said, "unlikeness against distance", sets, -rho / 2, shuffled)


@claim(CLAIMS, "tan-fig-6", steers=True, across=True)
def models_agree_out_of_distribution(e: Evidence) -> Trial:
    """Two unrelated models agree on the order of data sets out of distribution.

    Rule: rank correlation, over all sets and within kinds, above 0, at least half of the published one
    False world: one label-shuffled vector a set where these are recorded, otherwise data sets exchanged within their kind
    """
    rho = published.statistic("spearman-models-ood", "llama2-7b/qwen1.5-14b")
    said = f"Spearman {rho:.2f} (SYS_POS to USER_NEG)"
    both = trials.in_both(e, said, lambda run: (one for one in moved(run) if FIRST_SHIFT in one.slopes))
    pairs = partial(trials.each_side, measure=np.mean, values=lambda each: each.slopes[FIRST_SHIFT])
    return ranked(said, "BASE to USER_NEG ", both, pairs, rho / 2)
