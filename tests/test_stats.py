"""Variance parts against statsmodels and scikit-learn, intervals against theory and simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.api as sm
from sklearn.linear_model import LinearRegression

from companion.tan.variance import variance_parts
from steerkit.errors import SteerkitError
from steerkit.stats import bootstrap, rank_correlation

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
    after_letter, after_both = (
        np.var(sm.OLS(values, sm.add_constant(np.column_stack(design))).fit().resid)
        for design in ([letter], [letter, answer])
    )
    wanted = {"total": np.var(values), "letter": np.var(values) - after_letter}
    wanted |= {"answer": after_letter - after_both, "unexplained": after_both}
    assert variance_parts(unbalanced) == pytest.approx(wanted)


def test_the_answer_first_order_takes_scikit_learn_r_squared_in_the_other_order(unbalanced):
    letter, answer, values = _columns(unbalanced)
    alone, both = (
        LinearRegression().fit(design, values).score(design, values) * np.var(values)
        for design in (np.column_stack([answer]), np.column_stack([answer, letter]))
    )
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


def test_the_interval_of_a_mean_covers_the_truth_about_as_often_as_its_level_says():
    rng = _rng(1)
    intervals = [bootstrap(rng.normal(3, 2, 80), seed=rng, draws=300, level=0.9) for _ in range(300)]
    assert _covered(intervals, 3) == pytest.approx(0.9, abs=0.052)  # three standard errors of a share of 300


def _trial(rng, vectors=40, items=50):
    """Slopes whose truth is 1: training noise of the full vector, more for each resample, and item noise."""
    full = 1 + 0.3 * rng.normal()
    means = full + np.concatenate([[0.0], 0.3 * rng.normal(size=vectors)])
    return means[:, None] + rng.normal(size=items)


def test_the_joint_interval_covers_the_truth_where_test_noise_alone_does_not():
    rng = _rng(4)
    trials = [_trial(rng) for _ in range(200)]
    joint = [bootstrap(trial, seed=rng, draws=200, level=0.9) for trial in trials]
    alone = [bootstrap(trial[:1], seed=rng, draws=200, level=0.9) for trial in trials]
    assert _covered(joint, 1) == pytest.approx(0.9, abs=0.065) and _covered(alone, 1) < 0.7
    assert joint[0].sources == ("training pairs", "test items") and alone[0].sources == ("test items",)


def test_the_same_seed_gives_the_same_interval_and_rows_are_taken_by_their_names():
    slopes = _trial(_rng(12), vectors=3)
    one, two = (bootstrap(slopes, seed=seed, draws=50) for seed in (13, _rng(13)))
    assert one == two
    names = ["resample-01", "random-00", "full", "resample-00", "resample-02"]
    table = pd.DataFrame(slopes[[2, 0, 0, 1, 3]], index=names)
    table.loc["random-00"] = 1e9
    assert bootstrap(table, draws=50) == bootstrap(slopes, draws=50)
    with pytest.raises(SteerkitError, match="a row named full"):
        bootstrap(table.drop(index="full"))


def test_rank_correlation_is_that_of_scipy_with_ties_and_its_interval_holds_it():
    rng = _rng(14)
    x = rng.integers(0, 12, 40)
    y = x + rng.normal(0, 4, 40)
    interval = rank_correlation(x, y, rng, 1000)
    assert interval.estimate == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    assert -1 <= interval.low < interval.estimate < interval.high <= 1
    spread = 1.06 * (1 - interval.estimate**2) / np.sqrt(37)  # Fieller, Hartley and Pearson 1957
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * spread, rel=0.35)


def test_draws_without_a_correlation_are_left_out_and_not_counted():
    interval = rank_correlation([1, 2, 3], [3, 2, 1], _rng(15), 900)
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((-1, -1, -1))
    assert interval.draws == pytest.approx(800, abs=40)  # one draw in nine repeats a single point


GROUPS, ITEMS = "one group label for each of {} items, and at least two groups", [1.0, 2.0]
SIDES = "as many x as y, at least three, with different values on each side"
FINITE, DRAWS = "finite {} dimension(s), at least one", "draws of at least 1 and a level between 0 and 1"
NAN, CUBE = _slopes(["A", "B"], ["", ""], [1.0, np.nan]), np.ones((2, 2, 2))
BAD = "shape {} with {} values that are not finite"


@pytest.mark.parametrize(
    ("call", "expected", "found"),
    [
        (lambda: variance_parts(NAN, "letter"), "an order (paper, answer-first, shapley)", "'letter'"),
        (lambda: variance_parts(NAN), FINITE.format("slopes in 1"), BAD.format("(2,)", 1)),
        (lambda: bootstrap(CUBE), FINITE.format("values in 1 or 2"), BAD.format("(2, 2, 2)", 0)),
        (lambda: bootstrap(np.ones((2, 5))), "no resampled vector, or at least two", "one"),
        (lambda: bootstrap([1.0]), GROUPS.format(1), "labels of shape (1,) in 1 groups"),
        (lambda: bootstrap(ITEMS, groups=[1, 2, 3]), GROUPS.format(2), "labels of shape (3,) in 3 groups"),
        (lambda: bootstrap(ITEMS, level=95), DRAWS, "draws 2000 and level 95"),
        (lambda: rank_correlation([1, 2], [2, 1]), SIDES, "2 x (2 different) and 2 y (2 different)"),
        (lambda: rank_correlation([1, 2, 3], [5, 5, 5]), SIDES, "3 x (3 different) and 3 y (1 different)"),
    ],
)
def test_what_has_no_answer_is_refused_in_the_users_words(call, expected, found):
    with pytest.raises(SteerkitError) as error:
        call()
    assert (error.value.expected, error.value.found) == (expected, found)


def test_the_bootstrap_is_the_one_draw_by_draw_of_resampled_vectors_and_whole_groups():
    """The first row, of the full vector, gives the estimate and is never drawn."""
    rng = _rng(3)
    table, groups = rng.normal(size=(4, 11)), np.array([0, 0, 1, 2, 2, 2, 3, 4, 4, 5, 6])
    found, rng = bootstrap(table, seed=5, draws=300, groups=groups), _rng(5)
    rows, drawn = rng.integers(1, 4, size=300), rng.integers(7, size=(300, 7))
    draws = [[table[row, groups == group] for group in each] for row, each in zip(rows, drawn, strict=True)]
    means = [np.mean(np.concatenate(draw)) for draw in draws]
    expected = (table[0].mean(), *np.quantile(means, [0.025, 0.975]))
    assert (found.estimate, found.low, found.high) == pytest.approx(expected, abs=1e-12)
    assert (found.level, found.draws, found.sources) == (0.95, 300, ("training pairs", "test groups"))
