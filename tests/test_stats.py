"""Variance parts against statsmodels and scikit-learn, intervals against theory and simulation."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.api as sm
from sklearn.cluster import KMeans
from sklearn.linear_model import LinearRegression

from companion.inference import (
    holm,
    max_t,
    partial_rank_correlation,
    quick_rank_correlation,
    share_interval,
    two_means,
)
from companion.tan.variance import variance_parts
from steerkit import SteerkitError, mean_interval, rank_correlation

ORDERS = ("paper", "answer-first", "shapley")


def _slopes(letters, answers, values):
    return pd.DataFrame({"positive_letter": letters, "positive_answer": answers, "steerability": values})


def _rng(seed: int):
    return np.random.default_rng(seed)


@pytest.fixture
def unbalanced():
    rng = _rng(0)
    letter = rng.random(300) < 0.6
    answer = rng.random(300) < np.where(letter, 0.8, 0.3)  # the factors overlap
    values = 1 + 2 * letter - answer + rng.normal(size=300)
    return _slopes(np.where(letter, "A", "B"), np.where(answer, "Yes", "No"), values)


def _columns(table):
    letter, answer = table["positive_letter"] == "A", table["positive_answer"] == "Yes"
    return letter * 1.0, answer * 1.0, table["steerability"]


def test_the_paper_order_is_the_drop_in_residual_variance_of_statsmodels_fits(unbalanced):
    letter, answer, values = _columns(unbalanced)
    designs = (sm.add_constant(np.column_stack(each)) for each in ([letter], [letter, answer]))
    after_letter, after_both = (np.var(sm.OLS(values, design).fit().resid) for design in designs)
    wanted = {"total": np.var(values), "letter": np.var(values) - after_letter}
    wanted |= {"answer": after_letter - after_both, "unexplained": after_both}
    assert variance_parts(unbalanced) == pytest.approx(wanted)


def test_the_answer_first_order_takes_scikit_learn_r_squared_in_the_other_order(unbalanced):
    letter, answer, values = _columns(unbalanced)
    designs = map(np.column_stack, ([answer], [answer, letter]))
    shares = (LinearRegression().fit(design, values).score(design, values) for design in designs)
    alone, both = (share * np.var(values) for share in shares)
    parts = variance_parts(unbalanced, "answer-first")
    assert (parts["answer"], parts["letter"]) == pytest.approx((alone, both - alone))


def test_shapley_is_the_mean_of_the_two_orders_which_differ_when_the_factors_overlap(unbalanced):
    paper, other = variance_parts(unbalanced), variance_parts(unbalanced, "answer-first")
    shapley = variance_parts(unbalanced, "shapley")
    assert abs(paper["letter"] - other["letter"]) > 0.05
    for part in ("letter", "answer"):
        assert shapley[part] == pytest.approx((paper[part] + other[part]) / 2)


@pytest.mark.parametrize("order", ORDERS)
def test_parts_of_a_balanced_design_are_a_quarter_of_the_squared_effects_in_every_order(order):
    table = _slopes(["A", "A", "B", "B"] * 5, ["Yes", "No"] * 10, [4 + 3.0, 4.0, 3.0, 0.0] * 5)
    wanted = {"total": 6.25, "letter": 4.0, "answer": 2.25, "unexplained": 0.0}  # (4 / 2)^2 and (3 / 2)^2
    assert variance_parts(table, order) == pytest.approx(wanted)


@pytest.mark.parametrize("order", ORDERS)
def test_parts_that_nothing_can_explain_are_exactly_zero_and_parts_sum_to_the_total(order, unbalanced):
    pure = variance_parts(_slopes(["A", "B"] * 7, [""] * 14, [2.5, -1.0] * 7), order)
    assert pure["letter"] == pytest.approx(pure["total"]) and pure["answer"] == 0.0
    assert pure["unexplained"] == pytest.approx(0.0, abs=1e-15)
    tied = unbalanced.assign(positive_answer=unbalanced["positive_letter"].map({"A": "Yes", "B": "No"}))
    for size in range(20, 300, 7):  # rounding differs from size to size
        assert variance_parts(unbalanced.assign(positive_letter="A").head(size), order)["letter"] == 0.0
        parts = variance_parts(tied.head(size), order)
        assert parts["letter"] + parts["answer"] + parts["unexplained"] == pytest.approx(parts["total"])
        assert min(parts.values()) >= 0


def _covered(intervals, truth: float) -> float:
    return np.mean([i.low <= truth <= i.high for i in intervals])


@pytest.mark.parametrize("groups", [4, 5, 6, 8, 12, 24])
def test_the_interval_of_a_mean_covers_the_truth_at_the_numbers_of_groups_in_use(groups):
    """Pairs of items that are not independent, two of them alike; percentile bootstraps cover 80% at four groups."""
    rng, labels = _rng(groups), np.repeat(np.arange(groups), 2)
    pairs = (np.repeat(rng.normal(0, 2, groups), 2) for _ in range(2000))
    trials = (3 + pair + rng.normal(0, 0.5, 2 * groups) for pair in pairs)
    assert 0.93 <= _covered([mean_interval(each, labels) for each in trials], 3) <= 0.97


@pytest.mark.parametrize("test_noise", [0.1, 1.0])
def test_with_training_noise_it_covers_the_truth_where_test_noise_alone_does_not(test_noise):
    rng, joint, alone = _rng(4), [], []
    for _ in range(1000):
        full = 1 + 0.3 * rng.normal()
        slopes, training = full + test_noise * rng.normal(size=24), full + 0.3 * rng.normal(size=20)
        joint.append(mean_interval(slopes, training=training))
        alone.append(mean_interval(slopes))
    assert 0.93 <= _covered(joint, 1) <= 0.97 and _covered(alone, 1) < 0.9


def test_groups_of_one_size_give_the_t_interval_of_their_means_and_uneven_ones_that_of_statsmodels():
    values, even = _rng(5).normal(size=24), np.repeat(np.arange(8), 3)
    means = values.reshape(8, 3).mean(axis=1)
    found = mean_interval(values, even)
    expected = scipy.stats.t.interval(0.95, 7, means.mean(), scipy.stats.sem(means))
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.p_above == pytest.approx(scipy.stats.ttest_1samp(means, 0, alternative="greater").pvalue)
    uneven = np.array([0, 0, 0, 0, 1, 2, 2, 3, 3, 3, 4, 5, 5, 5, 5, 5, 6, 6, 7, 7, 7, 7, 8, 8])
    fit = sm.OLS(values, np.ones(24)).fit(cov_type="cluster", cov_kwds={"groups": uneven})
    # statsmodels has G / (G - 1) * (n - 1) / (n - k), with one parameter the former alone.
    assert mean_interval(values, uneven).error == pytest.approx(fit.bse[0])


def test_a_share_has_wilsons_interval_and_p_values_are_corrected_as_statsmodels_does():
    from statsmodels.stats.multitest import multipletests
    from statsmodels.stats.proportion import proportion_confint

    found = share_interval(10, 13)
    assert (found.low, found.high) == pytest.approx(proportion_confint(10, 13, method="wilson"))
    p_values, tested = np.array([0.01, 0.04, np.nan, 0.03, 0.005, 0.7]), [0, 1, 3, 4, 5]
    assert holm(p_values)[tested] == pytest.approx(multipletests(p_values[tested], method="holm")[1])
    assert np.isnan(holm(p_values)[2])  # it was not tested


def test_the_highest_of_many_placebos_decides_and_no_set_passes_by_luck():
    """Forty sets without an effect: in one run of twenty at most does any pass. Where one has an effect it is found."""
    rng, false, found = _rng(6), 0, 0
    for _ in range(100):
        drawn = rng.normal(size=(99, 40)) * np.linspace(0.1, 5, 40)
        null = rng.normal(size=40) * np.linspace(0.1, 5, 40)
        false += (max_t(null, drawn) < 0.05).any()
        found += max_t(np.append(null[:-1], 30.0), drawn)[-1] < 0.05
    assert false <= 10 and found == 100
    by_hand = [(1 + sum(max(row) >= 2.0 for row in [(1, 1), (-1, -1)])) / 3, 1.0]
    assert max_t([2.0, -3.0], np.array([[1.0, 1.0], [-1.0, -1.0]])) == pytest.approx(by_hand)


def test_a_correlation_within_strata_does_not_see_what_differs_between_them():
    """Two kinds, in each of which both numbers rise together, and between which they fall: Simpson's paradox."""
    rng = _rng(8)
    x = np.concatenate([rng.normal(0, 1, 20), rng.normal(6, 1, 20)])
    y = np.concatenate([x[:20] + 6, x[20:] - 6]) + rng.normal(0, 0.3, 40)
    kinds = ["persona"] * 20 + ["choice"] * 20
    assert scipy.stats.spearmanr(x, y).statistic < 0 < quick_rank_correlation(x, y, kinds).low
    one = quick_rank_correlation(x[:20], y[:20], kinds[:20])
    assert one.estimate == pytest.approx(scipy.stats.spearmanr(x[:20], y[:20]).statistic)
    error = np.sqrt((1 + one.estimate**2 / 2) / 17)  # Bonett and Wright 2000
    assert one.high == pytest.approx(np.tanh(np.arctanh(one.estimate) + 1.96 * error))
    few = np.arange(1.0, 6), np.arange(2.0, 12, 2)  # a stratum in perfect order counts as any other
    x2, y2 = np.concatenate([x[:15], few[0]]), np.concatenate([y[:15], few[1]])
    found = quick_rank_correlation(x2, y2, ["persona"] * 15 + ["choice"] * 5)
    assert found.estimate == pytest.approx(0.75 * scipy.stats.spearmanr(x[:15], y[:15]).statistic + 0.25)
    apart = [quick_rank_correlation(x, side, kinds) for side in (y, -x)]  # of two measurements: the mean
    both = quick_rank_correlation(np.column_stack([x, x]), np.column_stack([y, -x]), kinds)
    assert both.low == pytest.approx(np.mean([each.low for each in apart]))


def test_it_covers_the_truth_about_as_often_as_its_level_says():
    rng, kinds, truth = _rng(9), np.repeat(["persona", "choice"], [21, 19]), 6 / np.pi * np.arcsin(0.6 / 2)
    found = []
    for _ in range(1000):
        x, noise = rng.normal(size=40), rng.normal(size=40)
        found.append(quick_rank_correlation(x, 0.6 * x + 0.8 * noise, kinds))
    assert 0.92 <= _covered(found, truth) <= 0.97


def test_two_clusters_are_those_of_k_means():
    rng = _rng(11)
    rows = np.vstack([rng.normal(size=30), np.r_[rng.normal(-3, 1, 8), rng.normal(2, 1, 22)], rng.random(30)])
    lower, upper = two_means(rows)
    for row, *found in zip(rows, lower, upper, strict=True):
        means = KMeans(2, n_init=20, random_state=0).fit(row[:, None]).cluster_centers_[:, 0]
        assert found == pytest.approx(sorted(means))


def test_what_two_numbers_share_beyond_others_is_told_apart_from_what_they_owe_to_them():
    rng, kinds = _rng(10), np.repeat(["persona", "choice"], [21, 19])
    found = []
    for _ in range(500):
        far = rng.normal(size=40)
        x, y, as_far, alike = far + 0.5 * rng.normal(size=(4, 40))
        assert quick_rank_correlation(x, y, kinds).low > 0
        found.append(partial_rank_correlation(x, y, [far, as_far], kinds))
        more = 0.7 * alike
    assert 0.92 <= _covered(found, 0.0) <= 0.98
    assert partial_rank_correlation(x + more, y + more, [far], kinds).low > 0
    inverse = np.linalg.inv(np.corrcoef(scipy.stats.rankdata([x, y, far, as_far], axis=1)))
    own = partial_rank_correlation(x, y, [far, as_far], ["persona"] * 40)
    assert own.estimate == pytest.approx(-inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1]))
    few = partial_rank_correlation(x[:8], y[:8], [far[:8], as_far[:8]], ["persona"] * 5 + ["choice"] * 3)
    assert (few.low, few.high) == (-1, 1)  # so few say nothing
    assert partial_rank_correlation(far, y, [far, as_far], kinds).estimate == 0  # nothing is left of it
    assert partial_rank_correlation(x, x, [far], kinds).estimate == pytest.approx(1)


def test_rank_correlation_is_that_of_scipy_with_ties_and_its_interval_holds_it():
    rng = _rng(14)
    x = rng.integers(0, 12, 40)
    y = x + rng.normal(0, 4, 40)
    interval = rank_correlation(x, y, rng, 1000)
    assert interval.estimate == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    assert -1 <= interval.low < interval.estimate < interval.high <= 1
    spread = 1.06 * (1 - interval.estimate**2) / np.sqrt(37)  # Fieller, Hartley and Pearson 1957
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * spread, rel=0.35)


def test_draws_without_a_correlation_are_left_out():
    """One draw in nine repeats a single point."""
    interval = rank_correlation([1, 2, 3], [3, 2, 1], _rng(15), 900)
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((-1, -1, -1))


GROUPS, ITEMS = "one group label for each of {} items, and at least two groups", [1.0, 2.0]
STRATA = "five points with different values on each side in at least one stratum"
SIDES = "as many x as y, at least three, with different values on each side"
FINITE = "finite {} dimension(s), at least one"
NAN, CUBE = _slopes(["A", "B"], ["", ""], [1.0, np.nan]), np.ones((2, 2, 2))
BAD = "shape {} with {} values that are not finite"


@pytest.mark.parametrize(
    ("call", "expected", "found"),
    [
        (lambda: variance_parts(NAN, "letter"), "an order (paper, answer-first, shapley)", "'letter'"),
        (lambda: variance_parts(NAN), FINITE.format("slopes in 1"), BAD.format("(2,)", 1)),
        (lambda: mean_interval(CUBE), FINITE.format("values in 1"), BAD.format("(2, 2, 2)", 0)),
        (lambda: mean_interval(ITEMS, training=[1.0]), "at least two resampled vectors", "one"),
        (lambda: mean_interval([1.0]), "at least two items, whose scatter gives the interval", "1 item"),
        (lambda: mean_interval(ITEMS, [1, 2, 3]), GROUPS.format(2), "labels of shape (3,) in 3 groups"),
        (lambda: rank_correlation([1, 2, 3], [2, 1, 3], draws=0), "draws of at least 1", "draws 0"),
        (lambda: quick_rank_correlation([1, 2], [2, 1], "ab"), STRATA, "2 points in 2"),
        (lambda: rank_correlation([1, 2], [2, 1]), SIDES, "2 x (2 different) and 2 y (2 different)"),
        (lambda: rank_correlation([1, 2, 3], [5, 5, 5]), SIDES, "3 x (3 different) and 3 y (1 different)"),
    ],
)
def test_what_has_no_answer_is_refused_in_the_users_words(call, expected, found):
    with pytest.raises(SteerkitError) as error:
        call()
    assert (error.value.expected, error.value.found) == (expected, found)
