"""Rank correlations within strata: against scipy and brute force, and in worlds whose truth is known."""

from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from conftest import refused
from scipy.stats import spearmanr, ttest_1samp

from companion.tan.ranks import KINDS, WITHIN, by_column, ceiling, choices, correlated, doubled, halves

STRATA = pd.Series(["persona"] * 9 + ["choice"] * 6)


def sides(columns: int = 1, strength: float = 0.6, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two sides that correlate within strata; the second stratum lies far below on the one and far above on the other."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(15, columns))
    y = strength * x + np.sqrt(1 - strength**2) * rng.normal(size=(15, columns))
    x[9:] -= 9
    y[9:] += 9
    return pd.DataFrame(x).round(1), pd.DataFrame(y).round(1)  # rounded, so that some are tied


def by_hand(x: np.ndarray, y: np.ndarray, strata: pd.Series) -> float:
    """The mean of scipy's coefficients, weighted by the size of the stratum."""
    parts = [np.flatnonzero(strata == label) for label in strata.unique()]
    return sum(len(part) * spearmanr(x[part], y[part]).statistic for part in parts) / len(strata)


def residual(values: np.ndarray, given: np.ndarray) -> np.ndarray:
    """What least squares on the ranks of `given` leaves of the ranks."""
    ranks, held = (pd.Series(each).rank().to_numpy() for each in (values, given))
    design = np.column_stack([np.ones(len(held)), held])
    return ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0]


class TestCorrelation:
    def test_it_is_the_weighted_mean_of_scipys_and_one_gap_does_not_turn_it(self):
        x, y = sides(strength=0.9)
        found = correlated(x, y, STRATA)
        assert found["n"] == 15
        assert found["estimate"] == pytest.approx(by_hand(x[0].to_numpy(), y[0].to_numpy(), STRATA))
        assert found["low"] < found["estimate"] < found["high"] and found["estimate"] > 0.6
        assert correlated(x, y, STRATA.map(lambda _: "all"))["estimate"] < -0.3

    def test_of_several_measurements_the_mean_counts(self):
        x, y = sides(3)
        expected = np.mean([by_hand(x[i].to_numpy(), y[i].to_numpy(), STRATA) for i in x])
        assert correlated(x, y, STRATA, draws=0)["estimate"] == pytest.approx(expected)

    def test_what_is_held_constant_is_taken_out_of_both_ranks(self):
        (x, y), given = sides(), sides(seed=5)[0]
        parts = [np.flatnonzero(STRATA.eq(kind)) for kind in KINDS]
        each = [[residual(s[0].to_numpy()[p], given[0].to_numpy()[p]) for s in (x, y)] for p in parts]
        expected = sum(len(a) * np.corrcoef(a, b)[0, 1] for a, b in each) / 15
        assert correlated(x, y, STRATA, given)["estimate"] == pytest.approx(expected)

    def test_of_several_measurements_each_has_its_own_given_values(self):
        (x, y), given = sides(columns=3), sides(columns=3, seed=5)[0]
        each = [correlated(x[[i]], y[[i]], STRATA, given[[i]])["estimate"] for i in range(3)]
        together = correlated(x, y, STRATA, given)
        assert together["estimate"] == pytest.approx(np.mean(each))
        apart = [correlated(x[[0]], y[[i]], STRATA, draws=0)["estimate"] for i in range(3)]
        assert by_column(x[[0]], y, STRATA) == pytest.approx(apart)
        assert np.isnan(by_column(x[[0]] * 0, y, STRATA)).all()
        assert together["low"] < together["estimate"] < together["high"]

    def test_p_is_the_share_of_all_permutations_within_strata(self):
        strata = pd.Series(["a"] * 4 + ["b"] * 3)
        x, y = np.array([1, 2, 3, 4, 9, 8, 7.0]), np.array([1, 3, 2, 4, 2, 3, 1.0])
        orders = product(permutations(y[:4]), permutations(y[4:]))
        every = [by_hand(x, np.r_[a, b], strata) for a, b in orders]
        share = np.mean(np.abs(every) >= abs(by_hand(x, y, strata)) - 1e-12)
        found = correlated(pd.Series(x), pd.Series(y), strata, draws=20000)
        assert found["p"] == pytest.approx(share, abs=0.015)

    def test_p_and_interval_are_right_where_nothing_is_there_and_find_what_is(self):
        for strength, low, high in ((0.0, 0.0, 0.1), (0.9, 0.8, 1.0)):
            worlds = [correlated(*sides(1, strength, seed), STRATA, draws=200) for seed in range(100)]
            assert low <= np.mean([world["p"] <= 0.05 for world in worlds]) <= high
            assert low <= np.mean([world["low"] > 0 for world in worlds]) <= high

    def test_the_interval_covers_the_truth(self):
        """At the number of sets in use; the population value of normal data is that of Pearson 1907."""
        strata, covered, truth = pd.Series(["a"] * 21 + ["b"] * 19), 0, 6 / np.pi * np.arcsin(0.5 / 2)
        for seed in range(150):
            rng = np.random.default_rng(seed)
            x = rng.normal(size=40)
            y = 0.5 * x + np.sqrt(0.75) * rng.normal(size=40)
            found = correlated(pd.Series(x), pd.Series(y), strata, draws=300)
            covered += found["low"] <= truth <= found["high"]
        assert 0.91 <= covered / 150 <= 0.99

    def test_whole_strata_count_when_the_points_belong_to_them(self):
        (x, y), strata = sides(), pd.Series(np.repeat(list("abcde"), 3))
        each = [spearmanr(x[0][strata == s], y[0][strata == s]).statistic for s in "abcde"]
        found = correlated(x, y, strata, by_stratum=True)
        assert found["estimate"] == pytest.approx(np.mean(each))
        ends = ttest_1samp(each, 0).confidence_interval()
        assert (found["low"], found["high"]) == pytest.approx((max(-1, ends.low), min(1, ends.high)))

    def test_few_entries_or_a_constant_side_have_no_correlation(self):
        x, y = sides()
        for one, other in ((x[:2], y), (x * 0, y), (x, y * 0)):
            found = correlated(one, other, STRATA)
            assert np.isnan([found[name] for name in ("estimate", "low", "high", "p")]).all()
        assert correlated(x[:11], y, STRATA)["n"] == 9  # two of the other kind are too few
        assert correlated(x, y, STRATA, given=x)["estimate"] == 0  # which decides the ranks of a side
        x.iloc[9:] = 0  # constant in one stratum
        found = correlated(x, y, STRATA)
        assert found["estimate"] and np.isnan(found["low"]) and np.isnan(found["p"])

    def test_sets_are_taken_together_by_kind_and_one_kind_alone(self):
        found = choices(STRATA)
        assert list(found) == ["all", WITHIN, *KINDS] and found[WITHIN].equals(STRATA)
        assert [len(found[kind]) for kind in KINDS] == [9, 6]
        assert list(choices(STRATA[:9])) == ["all", WITHIN, "persona"]


class TestHalves:
    def items(self, sets: int = 3, noise: float = 0.0) -> pd.DataFrame:
        """Eight items in six groups a set: a level of the set with noise, and for each group whether an item is in it."""
        groups, rng = [0, 1, 1, 2, 3, 4, 4, 5], np.random.default_rng(0)
        names = [(f"set-{i}", group) for i in range(sets) for group in groups]
        table = pd.DataFrame(index=pd.MultiIndex.from_tuples(names, names=["dataset", "group"]))
        table["x"] = np.repeat(rng.normal(size=sets), 8) + noise * rng.normal(size=8 * sets)
        return table.assign(**{f"in {g}": np.tile(np.equal(groups, g), sets).astype(float) for g in range(6)})

    def test_the_two_have_no_group_in_common_and_all_groups_together(self):
        first, second = halves(self.items())
        inside = np.stack([[half[f"in {g}"].to_numpy() > 0 for g in range(6)] for half in (first, second)])
        assert (inside.sum(axis=0) == 1).all() and (inside.sum(axis=1) == 3).all()
        assert len({tuple(split) for split in inside[0, :, 0].T}) > 5  # other halves every time

    def test_each_is_the_mean_over_its_items_in_groups_of_any_size(self):
        items = self.items(noise=1.0)
        first, _ = halves(items)
        chosen = [g for g in range(6) if first[f"in {g}"].loc["set-1", 4] > 0]
        expected = items.loc["set-1"]["x"][chosen].mean()
        assert first["x"].loc["set-1", 4] == pytest.approx(expected)

    def test_doubling_gives_the_correlation_of_two_whole_measurements(self):
        labels = pd.Series("all", [f"set-{i}" for i in range(300)])
        first, second = halves(self.items(300, 2.0))
        found = doubled(correlated(first["x"], second["x"], labels, draws=0)["estimate"])
        rng, level = np.random.default_rng(1), self.items(300).groupby("dataset", sort=False)["x"].first()
        again = [level + rng.normal(size=300) * 2 / np.sqrt(8) for _ in range(2)]
        assert found == pytest.approx(spearmanr(*again).statistic, abs=0.08)

    def test_a_set_with_one_group_is_refused(self):
        said = "two test groups or more in set-0, to make halves of; found one"
        refused(halves, self.items().query("group == 1"), said=said)


def test_a_side_without_reliability_has_no_ceiling_but_zero():
    assert ceiling(0.64, 0.81) == pytest.approx(0.72) and ceiling(-0.5, -0.5) == 0 and doubled(-1.0) == -1
