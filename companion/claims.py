"""The claims of Tan et al. 2024, one function each: the name is the claim's id, the docstring the claim.

The docstring goes on with the rule that decides (`companion.verdicts`) and the world in which the claim is false; the
function gives the effect, the smallest that counts, half of the published one where there is one, and a draw from that
world. The second paper's claims are in `claims_mayne`, the first one's over prompt settings in `claims_shift`.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from companion import claims_appendix, claims_shift, inference, published, trials
from companion.data.datasets import SUFFIXES
from companion.profiles import Settings
from companion.tan import records
from companion.tan.evidence import Evidence, SetSlopes
from companion.tan.jobs import Stage
from companion.tan.variance import explained
from companion.trials import TESTED, enough, share_of
from companion.verdicts import OURS, Claim, Trial, Untestable, claim, frame, judged, require
from steerkit import stats
from steerkit.formats import FORMATS
from steerkit.stats import Interval

logger = logging.getLogger(__name__)
CONSISTENT = 0.95  # of vectors from resampled pairs steer an anti-steerable item the wrong way
MEANS = ("mean_llama2-7b", "mean_qwen1.5-14b")

CLAIMS: list[Claim] = []


def every() -> list[Claim]:
    """All claims of the paper."""
    return [*CLAIMS, *claims_shift.CLAIMS, *claims_appendix.CLAIMS]


def table(settings: Settings, answer_format: str = "") -> pd.DataFrame:
    """One row a claim, format and run, columns `companion.verdicts.COLUMNS`.

    The runs are those that the profile compares, read from their records where there are any, and its own; the formats
    those named, or each run's (`companion.tan.records.by_format`).
    """
    runs = {stage: evidence(settings, answer_format, stage) for stage in ("placebo", "shift", "sweep")}
    rows = []
    for form in dict.fromkeys(form for found in runs.values() for form in found):
        for one in every():
            chosen = runs[_stage(one)].get(form, [])
            for found in _together(chosen) if one.across else chosen:
                named = ", ".join(run.name for run in (found, *found.others))
                rows.append(judged(one, found, form, named, found.failure() if one.steers else ""))
    return frame(rows)


def evidence(
    settings: Settings, answer_format: str = "", stage: Stage = "placebo"
) -> dict[str, list[Evidence]]:
    """What the claims are judged on, run by run in each format; over prompt settings without files of one's own."""
    if stage == "shift" and (own := [name for name in settings.datasets if name.endswith(SUFFIXES)]):
        said = "%s: no persona sentences, so the claims over prompt settings are left out"
        logger.warning(said, ", ".join(own))
        return {}
    runs = records.by_format(settings, stage, answer_format)
    return {form: [Evidence(run, form) for run in found] for form, found in runs.items()}


def _stage(one: Claim) -> Stage:
    """Which record a run must have for a claim to be judged on it."""
    if one in claims_shift.CLAIMS:
        return "shift"
    return "sweep" if one.exhibit == "tan-app-layers" else "placebo"


def _together(runs: Sequence[Evidence]) -> list[Evidence]:
    """Every two models on one text as the evidence of the first of them; where one model has read each text, that one."""
    texts: dict[str, list[Evidence]] = {}
    for run in runs:
        texts.setdefault(run.settings.source, []).append(run)
    pairs = [pair for some in texts.values() for pair in combinations(some, 2)]
    several = [replace(one, others=(two,)) for one, two in pairs if one.settings.model != two.settings.model]
    return several or list(runs[:1])


@claim(CLAIMS, "tan-fig-1")
def mean_positive(e: Evidence) -> Trial:
    """Adding the vector moves the mean propensity in the intended direction in nearly all data sets.

    Rule: by the sign, as published, four sets of five
    False world: one label-shuffled vector a set
    """
    theirs, sets = e.llama("mean"), e.sets
    said = f"mean steerability above 0 in {int((theirs > 0).sum())} of {len(theirs)} data sets"
    enough(sets, said)
    drawn = np.array([each.shuffled.mean(axis=1) for each in sets])

    def false(rng: np.random.Generator) -> Interval:
        return share_of(rng.permuted(drawn, axis=1)[:, 0] > 0)

    above = np.array([each.slopes.mean() > 0 for each in sets])
    sure = inference.holm([each.interval.p_above for each in sets]) < TESTED
    sure &= [each.interval.estimate >= trials.SMALL * each.spread for each in sets]
    kinds = pd.Series(above).groupby([each.kind for each in sets]).agg(["sum", "size"])
    each = ", ".join(f"{up} of {size} {kind}" for kind, up, size in kinds.itertuples())
    ours = f"{above.sum()} of {len(sets)} data sets ({each}), a share of {{}}; {sure.sum()} for certain (Holm), by {trials.SMALL} "
    alike = share_of([each.beside["full"].mean() > 0 for each in sets])
    return Trial(said, f"{ours}standard deviations", share_of(above), 0.8, false, none=0.5, alike=alike)


@claim(CLAIMS, "tan-fig-1")
def beats_shuffled_labels(e: Evidence) -> Trial:
    """The direction of the effect belongs to the labels of the training pairs: vectors from shuffled ones do not reach it.

    Rule: half of the sets above 95 of 100 label-shuffled vectors; one in twenty is chance
    False world: a label-shuffled vector in the place of the vector
    """
    said = OURS
    enough(e.sets, said)
    full = np.array([each.beside["full"].mean() for each in e.sets])
    drawn = np.array([each.shuffled.mean(axis=1) for each in e.sets]).T  # [draws, sets]
    everyone = np.vstack([full, drawn])

    def effect(row: int) -> Interval:
        higher = (np.delete(everyone, row, axis=0) >= everyone[row]).sum(axis=0)
        return share_of((1 + higher) / len(everyone) <= TESTED)

    corrected = (inference.max_t(full, drawn) < TESTED).mean()
    size = np.median(np.abs(drawn).mean(axis=0) / np.abs(full))
    ours = f"share of {len(full)} data sets {{}}; corrected over sets (max-T) {corrected:.2f}"
    ours += f"; with shuffled labels {size:.2f} of the size, in either direction, in the median set"
    rows = np.arange(1, len(everyone))
    return Trial(said, ours, effect(0), 0.5, lambda rng: effect(rng.choice(rows)), none=TESTED)


@claim(CLAIMS, "tan-fig-1", steers=True)
def varies_across_datasets(e: Evidence) -> Trial:
    """Steerability differs strongly between data sets.

    Rule: spread between sets above 0 (Q profile), at least half of the published one
    False world: all sets alike: the common mean, and each set's own noise
    """
    theirs, sets = e.llama("mean"), e.sets
    ratio = theirs.std() / theirs.mean()
    said = f"{theirs.min():.2f} to {theirs.max():.2f}, standard deviation {ratio:.2f} of the mean"
    enough(sets, said)
    means = [pd.Series(each.slopes).groupby(each.groups).mean().to_numpy() for each in sets]
    training = np.array([each.training.var(ddof=1) for each in sets])

    def effect(means: Sequence[np.ndarray]) -> Interval:
        middle = np.array([each.mean() for each in means])
        noise = np.array([each.var(ddof=1) / len(each) for each in means]) + training
        return inference.spread_between(middle, noise)

    def false(rng: np.random.Generator) -> Interval:
        # Every set keeps its own noise and has the common mean; its sign is drawn anew, which a symmetric noise allows.
        centre = np.mean([each.mean() for each in means])
        moved = rng.normal(0, np.sqrt(training))
        drawn = [rng.choice(each - each.mean(), len(each)) for each in means]
        return effect([centre + shift + each for each, shift in zip(drawn, moved, strict=True)])

    ours = "standard deviation between sets {} of the mean"
    return Trial(said, ours, effect(means), ratio / 2, false)


def _alike(sets: Sequence[SetSlopes]) -> list[np.ndarray]:
    """Slopes [n, p] of sets in which all items are alike: the set's mean and the noise of extraction."""
    drawn = [each.beside["resample"] for each in sets]
    return [one.slopes.mean() + each - each.mean(axis=0) for one, each in zip(sets, drawn, strict=True)]


@claim(CLAIMS, "tan-fig-1", steers=True)
def anti_steerable(e: Evidence) -> Trial:
    """Many examples are steered the wrong way.

    Rule: mean share over data sets, at least half of the published one
    False world: all items of a set alike: the set's mean and the noise of extraction
    """
    theirs = e.llama("anti_steerable")
    said = f"mean share {theirs.mean():.2f}, worst {theirs.max():.2f} (Llama-2-7b)"
    enough(e.sets, said)
    alike = _alike(e.sets)

    def effect(slopes: Sequence[np.ndarray]) -> Interval:
        return stats.mean_interval([(each <= 0).mean() for each in slopes])

    def false(rng: np.random.Generator) -> Interval:
        return effect([each[rng.integers(len(each))] for each in alike])

    ours = f"mean share {{}} over {len(e.sets)} data sets, worst {max((each.slopes <= 0).mean() for each in e.sets):.2f}"
    return Trial(said, ours, effect([each.slopes for each in e.sets]), theirs.mean() / 2, false)


@claim(CLAIMS, "tan-fig-1", steers=True)
def backwards_whichever_pairs(e: Evidence) -> Trial:
    """In data sets that steer, many examples are steered the wrong way under nearly all vectors from redrawn training pairs.

    Rule: mean share that {CONSISTENT:.0%} of the vectors from redrawn pairs steer the wrong way as well, at least half of
    the published share, which is of one vector
    False world: all items of a set alike: the set's mean and the noise of extraction
    """
    sets = [each for each in e.sets if each.interval.low > 0]
    enough(sets, OURS, " steer")
    alike = _alike(sets)

    def effect(full: Sequence[np.ndarray], drawn: Sequence[np.ndarray]) -> Interval:
        wrong = zip(full, drawn, strict=True)
        shares = [((own <= 0) & ((others <= 0).mean(0) >= CONSISTENT)).mean() for own, others in wrong]
        return stats.mean_interval(shares)

    def false(rng: np.random.Generator) -> Interval:
        return effect([each[rng.integers(len(each))] for each in alike], alike)

    own, drawn = [each.slopes for each in sets], [each.beside["resample"] for each in sets]
    raw = np.mean([(each <= 0).mean() for each in own])
    ours = f"mean share {{}} over {len(sets)} sets that steer; under one vector {raw:.2f}"
    return Trial(OURS, ours, effect(own, drawn), e.llama("anti_steerable").mean() / 2, false)


@claim(CLAIMS, "tan-fig-4", steers=True)
def bias_explains_variance(e: Evidence) -> Trial:
    """Much of the variance of steerability is bias towards a letter or a word.

    Rule: mean share that both explain, at least half of the published one
    False world: one label-shuffled vector a set
    """
    theirs = 1 - e.llama("variance_unexplained") / e.llama("variance_total")
    said = f"mean share explained {theirs.mean():.2f}"
    require(FORMATS[e.form].biased, said, "no letter and no Yes/No in this format")
    enough(e.sets, said)
    shares = []
    for each in e.sets:
        rows = np.vstack([each.slopes, each.beside["full"], each.shuffled])
        letter, answer = (each.letters == "A") * 1.0, (each.answers == "Yes") * 1.0
        shares.append(explained(rows, letter, answer) / np.maximum(rows.var(axis=1), 1e-300))
    own, alike, shuffled = np.split(np.array(shares), [1, 2], axis=1)

    def false(rng: np.random.Generator) -> Interval:
        return stats.mean_interval(rng.permuted(shuffled, axis=1)[:, 0])

    ours = f"mean share {{}}; with label-shuffled vectors {shuffled.mean():.2f}"
    effect, beside = (stats.mean_interval(each[:, 0]) for each in (own, alike))
    return Trial(said, ours, effect, theirs.mean() / 2, false, alike=beside)


@claim(CLAIMS, "tan-fig-1", steers=True)
def two_clusters(e: Evidence) -> Trial:
    """In some data sets the examples fall into two clusters, one of them steered the wrong way.

    Rule: at least one set flatter than a normal distribution, after Holm's correction over sets, whose two clusters of
    least squares have means on either side of 0; to find none decides nothing
    False world: normal slopes with the mean and spread of each set
    """
    said = "myopic-reward has two clusters, one below 0 (figure 1)"
    sets = [each for each in e.sets if len(each.slopes) >= 20]
    require(sets, said, "fewer than 20 test examples in every data set")

    def found(sets: Sequence[SetSlopes]) -> tuple[int, int]:
        # Two clusters are flatter than a normal distribution: a test of kurtosis (Anscombe and Glynn 1983).
        # One call for all sets of one size, for it is the calls that cost.
        slopes = [each.slopes for each in sets]
        p_values, either = np.empty(len(sets)), np.empty(len(sets), dtype=bool)
        for size in {len(each) for each in slopes}:
            these = [i for i, each in enumerate(slopes) if len(each) == size]
            rows = np.array([slopes[i] for i in these])
            p_values[these] = scipy_stats.kurtosistest(rows, axis=1, alternative="less").pvalue
            lower, upper = inference.two_means(rows)
            either[these] = (lower < 0) & (upper > 0)
        return tuple(int((p[either] < TESTED).sum()) for p in (inference.holm(p_values), p_values))

    def false(rng: np.random.Generator) -> list[SetSlopes]:
        drawn = (rng.normal(each.slopes.mean(), each.slopes.std(), len(each.slopes)) for each in sets)
        return [replace(each, slopes=some) for each, some in zip(sets, drawn, strict=True)]

    return trials.some_sets(said, sets, found, false)


@claim(CLAIMS, "tan-fig-3", steers=True)
def letter_bias_has_a_direction_of_its_own(e: Evidence) -> Trial:
    """Some vectors steer towards one letter and some towards the other, data set by data set.

    Rule: at least one set towards each letter, after Holm's correction over sets; to find none decides nothing
    False world: one label-shuffled vector a set
    """
    said = "towards B in corrigible-neutral-HHH, towards A in self-awareness-good-text-model (figure 3)"
    sets = [each for each in e.sets if {"A", "B"} <= set(each.letters)]
    require(sets, said, "no letters in this format")

    def found(sets: Sequence[SetSlopes]) -> tuple[int, int]:
        signed = ((np.where(each.letters == "A", each.slopes, -each.slopes), each.groups) for each in sets)
        up = np.array([stats.mean_interval(*each).p_above for each in signed])
        ways = [(inference.holm(p), p) for p in (up, 1 - up)]
        return tuple(min(int((p < TESTED).sum()) for p in kind) for kind in zip(*ways, strict=True))

    return trials.some_sets(said, sets, found, lambda rng: trials.unlabelled([sets], rng)[0], "each way ")


@claim(CLAIMS, "tan-fig-3")
def bias_is_not_mended_by_calibration(e: Evidence) -> Trial:
    """Steerability bias is not token bias: taking the unsteered preference of a letter away does not mend it.

    Rule: none: it is true by algebra
    False world: none
    """
    reason = "true of any numbers: a constant added to a logit has slope 0 over multipliers"
    raise Untestable("stated without a number", reason)


@claim(CLAIMS, "tan-fig-1", steers=True)
def dataset_property(e: Evidence) -> Trial:
    """How steerable a data set is belongs to the data set: models agree on the order.

    Rule: rank correlation with Llama-2-7b, over all sets and within kinds, above 0, at least half of that of two models there
    False world: one label-shuffled vector a set, whichever way it steers
    """
    rho, theirs = published.statistic("spearman-models-id", "llama2-7b/qwen1.5-14b"), e.llama("mean")
    said = f"{trials.published_order(*MEANS)} (Llama-2-7b and Qwen1.5-14B)"
    require(e.settings.source == "papers", said, "other texts under the same names are other data sets")
    sets = [each for each in e.sets if each.name in theirs.index]
    enough(sets, said)
    values, kinds = theirs[[each.name for each in sets]].to_numpy(), [each.kind for each in sets]

    def pairs(runs: trials.Runs) -> trials.Pairs:
        return [(np.array([each.slopes.mean() for each in runs[0]]), values)]

    trial = trials.ranked(said, "", [sets], pairs, rho / 2)
    sizes = {"label-shuffled": "shuffled", "isotropic": "random"}
    sizes = {name: trials.sizes(sets, kind) for name, kind in sizes.items() if kind in sets[0].beside}
    far = ", ".join(f"{name} {trials.order(each, values, kinds):.2f}" for name, each in sizes.items())
    return replace(trial, ours=f"{trial.ours}; of how far vectors move a set on average, either way: {far}")


@claim(CLAIMS, "tan-fig-6", steers=True, across=True)
def models_agree_in_distribution(e: Evidence) -> Trial:
    """Two unrelated models agree on the order of data sets in distribution.

    Rule: rank correlation, over all sets and within kinds, above 0, at least half of the published one
    False world: one label-shuffled vector a set and model, whichever way it steers
    """
    rho = published.statistic("spearman-models-id", "llama2-7b/qwen1.5-14b")
    return trials.between(e, rho, trials.published_order(*MEANS), np.mean)
