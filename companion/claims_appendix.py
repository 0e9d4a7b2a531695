"""The claims of Tan et al. 2024 that its appendix shows: variance, layers, ranges, other directions; as `companion.claims`."""

import numpy as np

from companion import published, trials
from companion.tan.evidence import Evidence
from companion.trials import enough, published_order
from companion.verdicts import Claim, Trial, claim, require
from steerkit import stats
from steerkit.stats import Interval

BETTER = 0.1  # of the slope of the vector: a direction that gains this much is a better one

CLAIMS: list[Claim] = []


@claim(CLAIMS, "tan-app-variance", steers=True, across=True)
def models_agree_on_variance(e: Evidence) -> Trial:
    """Two unrelated models agree on which data sets have the larger variance of steerability.

    Rule: rank correlation, over all sets and within kinds, above 0, at least half of the published one
    False world: one label-shuffled vector a set and model
    """
    columns = ["variance_llama2-7b", "variance_qwen1.5-14b"]
    rho, said = published.datasets()[columns].dropna().corr("spearman").iloc[0, 1], published_order(*columns)
    return trials.between(e, rho, said, np.var)


@claim(CLAIMS, "tan-app-variance", steers=True)
def variance_grows_with_the_mean(e: Evidence) -> Trial:
    """Data sets that steer more have more variance between their examples.

    Rule: rank correlation, over all sets and within kinds, on disjoint halves of the items, above 0, at least 0.3
    False world: one label-shuffled vector a set, whichever way it steers
    """
    said = f"{published_order('mean_llama2-7b', 'variance_llama2-7b')} (Llama-2-7b)"
    enough(e.sets, said)
    halves = [trials.halves_of(each.groups) for each in e.sets]

    def pairs(runs: trials.Runs) -> trials.Pairs:
        slopes = [each.slopes for each in runs[0]]
        return trials.both_ways(halves, (slopes, np.mean), (slopes, np.var))

    return trials.ranked(said, "on disjoint items ", [e.sets], pairs, 0.3)


@claim(CLAIMS, "tan-app-layers", steers=True)
def middle_layers_steer_best(e: Evidence) -> Trial:
    """Steerability peaks in the middle of the network.

    Rule: mean of the middle half of the layers above that of the early and of the late ones by a fifth of the best layer's
    False world: layers exchanged within data sets
    """
    said = "layer 13 of 32 (Llama-2-7b), 21 of 40 (Qwen1.5-14B)"
    wide = e.layers.pivot(index="dataset", columns="layer", values="mean")
    depth = wide.columns.to_numpy() / (e.n_layers - 1)
    early, late = depth < 0.25, depth > 0.75
    enough(wide, said)
    require(all(each.any() for each in (early, late, ~early & ~late)), said, "no layers of some depths")
    values = wide.to_numpy()

    def effect(values: np.ndarray) -> Interval:
        shares = values / abs(values.mean(axis=0)).max()
        middle = shares[:, ~early & ~late].mean(1)
        sides = (stats.mean_interval(middle - shares[:, side].mean(1)) for side in (early, late))
        return trials.lesser(*sides)

    best = wide.columns[values.mean(axis=0).argmax()]
    ours = f"middle above the lower side by {{}} of the best layer's mean; best layer {best} of depth {depth[wide.columns == best][0]:.2f}"
    return Trial(said, ours, effect(values), 0.2, lambda rng: effect(rng.permuted(values, axis=1)))


@claim(CLAIMS, "tan-app-layers", steers=True)
def one_layer_serves_most_sets(e: Evidence) -> Trial:
    """The layer that is best on average serves data sets that did not choose it, the poorly steerable ones too.

    Rule: half of the way from a set's mean layer to its best one, the layer chosen on the other sets
    False world: layers exchanged within data sets
    """
    said = "one layer for all data sets of a model (appendix)"
    wide = e.layers.pivot(index="dataset", columns="layer", values="mean")
    enough(wide, said)
    require(wide.shape[1] > 2, said, "fewer than three layers")

    def effect(values: np.ndarray) -> Interval:
        rest = values.sum(axis=0) - values
        own = values[np.arange(len(values)), rest.argmax(axis=1)]
        mean, best = values.mean(axis=1), values.max(axis=1)
        return stats.mean_interval((own - mean) / np.where(best > mean, best - mean, 1))

    values = wide.to_numpy()
    ours = f"{{}} of the way, over {len(wide)} data sets"
    return Trial(said, ours, effect(values), 0.5, lambda rng: effect(rng.permuted(values, axis=1)))


@claim(CLAIMS, "tan-app-ranges", steers=True)
def wider_ranges_flatten_slopes(e: Evidence) -> Trial:
    """Over a wider range of multipliers slopes are smaller.

    Rule: mean loss of slope over the sets that steer, at least half of the published one
    False world: the two ranges exchanged within sets
    """
    theirs = published.datasets()[["mean_range_0.5_llama2-7b", "mean_range_1.5_llama2-7b"]].dropna()
    loss = float((1 - theirs.iloc[:, 1] / theirs.iloc[:, 0]).mean())
    said = f"slopes over ±1.5 smaller than over ±0.5 by {loss:.2f} on average (Llama-2-7b)"
    require(not e.ranges.empty, said, "too few multipliers in this run")
    named = [each.name for each in e.sets if each.interval.low > 0]
    enough(named, said, " steer")
    near, far = e.ranges.loc[named].to_numpy().T

    def effect(near: np.ndarray, far: np.ndarray) -> Interval:
        return stats.mean_interval(1 - far / near)

    def false(rng: np.random.Generator) -> Interval:
        swap = rng.random(len(near)) < 0.5
        return effect(np.where(swap, far, near), np.where(swap, near, far))

    return Trial(said, f"{{}} over {len(named)} data sets", effect(near, far), loss / 2, false)


@claim(CLAIMS, "tan-fig-1", steers=True)
def other_directions_are_no_better(e: Evidence) -> Trial:
    """Principal components and logistic regression give directions that steer no better than the mean difference.

    Rule: at equal norm the better of both gains for certain less than {BETTER:.0%} of what the vector does on the mean of
    all sets, in standard deviations of the unsteered propensity, estimated less than half of that
    False world: a direction that gains {BETTER:.0%}, with the same noise
    """
    said = "no evidence that they do better; no experiment shown (appendix D.4)"
    enough(e.sets, said)
    spreads, names = np.array([each.spread for each in e.sets]), ("full", "pca", "logistic")
    means = {name: np.array([each.beside[name].mean() for each in e.sets]) / spreads for name in names}
    own = means.pop("full")
    # Of the mean over data sets, in standard deviations of the unsteered propensity: a ratio a set would be one of noise.
    gains = {name: stats.mean_interval((each - own) / own.mean()) for name, each in means.items()}
    best = max(gains.values(), key=lambda each: each.estimate)
    worse = Interval(-best.estimate, -best.high, -best.low)

    def false(rng: np.random.Generator) -> Interval:
        drawn = rng.normal(-BETTER, best.error)
        return Interval(drawn, drawn - best.estimate + best.low, drawn + best.high - best.estimate)

    words = "{} does {:.2f} [{:.2f}, {:.2f}] times"
    times = (words.format(name, 1 + g.estimate, 1 + g.low, 1 + g.high) for name, g in gains.items())
    ours = "at equal norm " + ", ".join(times)
    ours += " what the mean difference does; loss of the better one {}, a gain where negative"
    return Trial(said, ours, worse, -BETTER / 2, false, none=-BETTER)
