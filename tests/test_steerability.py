"""Slopes against numpy.polyfit one example at a time, and against known changes of the grid."""

import numpy as np
import pandas as pd
import pytest
from conftest import random_grid, refused

from steerkit.errors import SteerkitError
from steerkit.steerability import SLOPES, anti_steerable_fraction, slopes, summary


@pytest.fixture
def grid():
    resampled = random_grid((-1.5, 1.5), seed=1, vector="resample-00")
    other = random_grid(layer=14, dataset="myopic-reward", examples=5, seed=2)
    return pd.concat([random_grid(), resampled, other]).sample(frac=1, random_state=3)  # its index repeats


def _line(rows, column):
    coefficients, residual, *_ = np.polyfit(rows["multiplier"], rows[column], 1, full=True)
    return coefficients[0], float(residual[0]) if residual.size else 0.0


def _of(table, row):
    """The rows of a data set and vector."""
    return table[(table["dataset"] == row.dataset) & (table["vector"] == row.vector)]


def test_every_slope_and_residual_is_that_of_polyfit_on_its_own_rows_in_the_columns_of_the_contract(grid):
    table = slopes(grid)
    assert len(table) == 8 + 8 + 5
    for row in table.itertuples():
        own = _of(grid, row)
        own = own[(own["layer"] == row.layer) & (own["example_id"] == row.example_id)]
        slope, residual = _line(own, "propensity")
        assert row.residual == pytest.approx(residual, abs=1e-9)
        wanted = (slope, _line(own, "matching")[0], _line(own, "not_matching")[0])
        found = (row.steerability, row.matching_slope, row.not_matching_slope)
        assert found == pytest.approx(wanted, abs=1e-10)
        assert {row.positive_letter} == set(own["positive_letter"])
        assert {row.positive_answer} == set(own["positive_answer"])
    # The baseline is the unsteered propensity, and NaN where zero was not swept.
    first = grid.drop_duplicates(["dataset", "example_id", "vector", "layer"])
    assert list(table.columns) == SLOPES
    for name in ("example_id", "vector"):
        assert list(table[name]) == list(first[name])
    full, unsteered = table["vector"] == "full", grid[grid["multiplier"] == 0]
    found = table[full].set_index(["dataset", "example_id"])["baseline"]
    wanted = unsteered.set_index(["dataset", "example_id"])["propensity"]
    np.testing.assert_array_equal(found, wanted[found.index])
    assert table.loc[~full, "baseline"].isna().all()


def test_an_exact_line_gives_its_slope_and_no_residual_despite_a_large_offset():
    grid = random_grid(examples=2)
    table = slopes(grid.assign(propensity=1e6 - 0.75 * grid["multiplier"]))
    np.testing.assert_allclose(table["steerability"], -0.75, atol=1e-9)
    np.testing.assert_allclose(table["residual"], 0, atol=1e-17)


def test_summary_describes_each_block_by_numpy_formulas(grid):
    """The mean slope is the slope of the mean curve."""
    table, described = slopes(grid), summary(slopes(grid))
    assert len(described) == 3
    for row in described.itertuples():
        own, values = _of(table, row), _of(table, row)["steerability"].to_numpy()
        curve = _of(grid, row).groupby("multiplier")["propensity"].mean().reset_index()
        assert row.mean == pytest.approx(_line(curve, "propensity")[0], abs=1e-12)
        assert row.n == len(own) == (5 if row.dataset == "myopic-reward" else 8)
        assert row.median == pytest.approx(np.median(values))
        assert row.variance == pytest.approx(np.mean((values - values.mean()) ** 2))
        assert row.anti_steerable == np.sum(values <= 0) / len(values)
        assert row.mean_residual == pytest.approx(own["residual"].sum() / len(own))


def test_a_slope_of_zero_counts_as_anti_steerable_and_nan_as_nothing():
    assert anti_steerable_fraction(np.array([-1.0, 0.0, 1e-9, 2.0])) == 0.5
    for values, found in (([], "0 slopes, 0 of them NaN"), ([1.0, np.nan], "2 slopes, 1 of them NaN")):
        with pytest.raises(SteerkitError, match=f"at least one slope and no NaN among them; found {found}"):
            anti_steerable_fraction(np.array(values))


PLACE, CELLS = "of openness (vector full, layer 13)", {"propensity": np.nan, "multiplier": 0.0}
GRID = random_grid(examples=3, multipliers=(0.0, 1.0))
AT = (GRID["example_id"] == "e1") & (GRID["multiplier"] == 1)
TWO = "at least two different multipliers to fit a slope"
EACH = "each of the multipliers 0, 1 once per example"
LABEL, ONE = "one positive letter and one positive answer per example", f"for example e1 {PLACE} (1 such"
COLUMNS = "a grid with at least one row and all GRID columns"
CHANGED = GRID.assign(positive_letter=GRID["positive_letter"].mask(AT, "A")).set_axis([7] * 6)
NAN, INSTEAD = (GRID.assign(**{name: GRID[name].mask(AT, value)}) for name, value in CELLS.items())


@pytest.mark.parametrize(
    ("grid", "expected", "found"),
    [
        (NAN, "a finite propensity at every multiplier", f"propensity nan at multiplier 1 {ONE} rows)"),
        (GRID[GRID["multiplier"] == 1], TWO, f"one multiplier (1) for example e0 {PLACE}"),
        (GRID.assign(multiplier=1.5), TWO, f"2 equal multipliers (1.5) for example e0 {PLACE}"),
        (GRID[~AT], EACH, f"multipliers 0 {ONE} examples)"),
        (pd.concat([GRID, GRID[AT]]), EACH, f"multipliers 0, 1, 1 {ONE} examples)"),
        (INSTEAD, EACH, f"multipliers 0, 0 {ONE} examples)"),
        (CHANGED, LABEL, f"labels that change between multipliers for example e1 {PLACE}"),
        (GRID.drop(columns=["matching"]), COLUMNS, "6 rows, missing columns: matching"),
        # e0 at 0 and e1 at 1: as many rows as one complete example
        (GRID.iloc[[0, 3]], EACH, f"multipliers 0 for example e0 {PLACE} (2 such examples)"),
    ],
)
def test_a_grid_that_cannot_be_fitted_is_refused_with_its_place(grid, expected, found):
    error = refused(slopes, grid)
    assert (error.expected, error.found) == (expected, found)


def test_a_table_that_has_no_slopes_yet_is_refused_with_the_function_that_makes_them():
    grid = pd.DataFrame(columns=["dataset", "multiplier", "propensity"])
    refused(summary, grid, said=r"a table of slopes; found columns dataset, .*steerkit\.slopes")
