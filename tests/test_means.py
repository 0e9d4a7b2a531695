"""Refitted ranges against numpy.polyfit on the cut points, and residuals against their two definitions."""

import numpy as np
import pandas as pd
import pytest
from conftest import random_grid, refused
from scipy.stats import linregress, ttest_1samp

from companion.tan.means import by_range, means


class TestByRange:
    def test_each_mean_is_that_of_polyfit_on_the_points_inside_the_range(self):
        grid = pd.concat([random_grid(), random_grid(dataset="narcissism", layer=14, examples=4, seed=1)])
        table = by_range(grid, (1.5, 1.0, 0.5))
        assert list(table.columns) == "dataset format vector layer width n mean low high".split()
        keys = [(name, width) for name in ("openness", "narcissism") for width in (1.5, 1.0, 0.5)]
        assert list(zip(table["dataset"], table["width"], strict=True)) == keys  # in the order they came
        for row in table.itertuples():
            own = grid[(grid["dataset"] == row.dataset) & (grid["multiplier"].abs() <= row.width)]
            parts = own.groupby("example_id")
            lines = [linregress(part["multiplier"], part["propensity"]) for _, part in parts]
            assert row.mean == pytest.approx(np.mean([line.slope for line in lines]), abs=1e-10)
            assert row.n == len(lines) and row.low <= row.mean <= row.high

    def test_saturation_makes_slopes_shrink_as_the_range_widens_and_a_line_does_not(self):
        curve = random_grid().assign(propensity=lambda grid: 2 + 3 * np.tanh(grid["multiplier"]))
        bent = by_range(curve)["mean"]
        assert bent.is_monotonic_decreasing and bent.iloc[0] > 1.2 * bent.iloc[-1]
        straight = random_grid().assign(propensity=lambda grid: 7 - 2 * grid["multiplier"])
        np.testing.assert_allclose(by_range(straight)["mean"], -2)

    def test_the_two_points_of_a_width_need_not_include_zero_and_may_be_off_by_rounding(self):
        grid = random_grid(multipliers=(-0.5, 0.5))
        both = grid.pivot(index="example_id", columns="multiplier", values="propensity")
        table = by_range(grid, (0.5,))
        assert table["mean"].item() == pytest.approx((both[0.5] - both[-0.5]).mean())
        grid = random_grid(multipliers=(-0.3, 0.0, 0.1 + 0.2))
        assert by_range(grid, (0.3,))["mean"].notna().all()

    def test_a_width_without_its_ends_is_refused_with_the_multipliers_that_are_there(self):
        refused(by_range, random_grid(), (0.75,), said=r"±0\.75.*only -1\.5, .* for openness \(vector full")
        lopsided = random_grid(multipliers=(-1.0, -0.5, 0.0, 0.5, 1.0, 1.5))
        refused(by_range, lopsided, (1.5,), said=r"multipliers -1\.5 and 1\.5")
        short = random_grid(vector="other", multipliers=(-1.5, 1.5), seed=1)
        error = refused(by_range, pd.concat([random_grid(), short]), said="vector other")
        assert "'full'" in error.next_step and error.done == "Nothing was fitted."


class TestMeans:
    def test_a_block_has_the_t_interval_of_its_groups(self):
        values = np.random.default_rng(5).normal(1, 2, 40)
        table = pd.DataFrame({"dataset": "a", "example_id": range(40), "steerability": values})
        table["pair"] = table["example_id"] // 2
        for column, items in (("", values), ("pair", values.reshape(20, 2).mean(axis=1))):
            found = means(table, ["dataset"], column).loc[0]
            ends = ttest_1samp(items, 0).confidence_interval()
            expected = [40, values.mean(), ends.low, ends.high]
            assert found[["n", "mean", "low", "high"]].tolist() == pytest.approx(expected)

    def test_one_example_has_no_interval_and_is_refused_unless_that_is_wanted(self):
        table = pd.DataFrame({"dataset": "a", "example_id": [0], "steerability": [2.0]})
        refused(means, table, ["dataset"], said="at least two items")
        row = means(table, ["dataset"], alone=True).loc[0]
        assert row["mean"] == 2 and np.isnan([row["low"], row["high"]]).all()
