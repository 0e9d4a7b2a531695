"""Slopes against numpy.polyfit one example at a time, and against known changes of the grid."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from steerkit.errors import SteerkitError
from steerkit.steerability import SLOPES, anti_steerable_fraction, slopes, summary

MULTIPLIERS = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
FITS = ["steerability", "residual", "matching_slope", "not_matching_slope", "baseline"]


def _grid(vector="full", layer=13, multipliers=MULTIPLIERS, examples=8, dataset="openness", seed=0):
    labels = [
        (f"e{i}", "AB"[i % 2], ["Yes", "No"][i // 2 % 2], m) for i in range(examples) for m in multipliers
    ]
    table = pd.DataFrame(labels, columns=["example_id", "positive_letter", "positive_answer", "multiplier"])
    table, rng = (
        table.assign(dataset=dataset, format="letter", vector=vector, layer=layer),
        np.random.default_rng(seed),
    )
    table["matching"] = rng.normal(20, 3, len(table))
    table["not_matching"] = rng.normal(18, 3, len(table))
    return table.assign(propensity=table["matching"] - table["not_matching"])


@pytest.fixture
def grid():
    resampled = _grid("resample-00", multipliers=(-1.5, 1.5), seed=1)
    other = _grid("full", layer=14, dataset="myopic-reward", examples=5, seed=2)
    return pd.concat([_grid(), resampled, other])  # the index repeats, as after any concat


def _line(rows, column):
    coefficients, residual, *_ = np.polyfit(rows["multiplier"], rows[column], 1, full=True)
    return coefficients[0], float(residual[0]) if residual.size else 0.0


def _of(table, row):
    """The rows of a data set and vector."""
    return table[(table["dataset"] == row.dataset) & (table["vector"] == row.vector)]


def test_every_slope_and_residual_is_that_of_polyfit_on_its_own_rows(grid):
    table = slopes(grid)
    assert len(table) == 8 + 8 + 5
    for row in table.itertuples():
        own = _of(grid, row)
        own = own[(own["layer"] == row.layer) & (own["example_id"] == row.example_id)]
        slope, residual = _line(own, "propensity")
        assert row.residual == pytest.approx(residual, abs=1e-9)
        wanted = (slope, _line(own, "matching")[0], _line(own, "not_matching")[0])
        assert (row.steerability, row.matching_slope, row.not_matching_slope) == pytest.approx(
            wanted, abs=1e-10
        )
        assert {row.positive_letter} == set(own["positive_letter"])
        assert {row.positive_answer} == set(own["positive_answer"])


def test_the_table_has_the_columns_of_the_contract_in_the_order_of_first_appearance(grid):
    """The baseline is the unsteered propensity, and NaN where zero was not swept."""
    table, first = slopes(grid), grid.drop_duplicates(["dataset", "example_id", "vector", "layer"])
    assert list(table.columns) == SLOPES
    for name in ("example_id", "vector"):
        assert list(table[name]) == list(first[name])
    full, unsteered = table["vector"] == "full", grid[grid["multiplier"] == 0]
    np.testing.assert_array_equal(table.loc[full, "baseline"], unsteered["propensity"])
    assert table.loc[~full, "baseline"].isna().all()


def test_an_exact_line_gives_its_slope_and_no_residual_despite_a_large_offset():
    grid = _grid(examples=2)
    table = slopes(grid.assign(propensity=1e6 - 0.75 * grid["multiplier"]))
    np.testing.assert_allclose(table["steerability"], -0.75, atol=1e-9)
    np.testing.assert_allclose(table["residual"], 0, atol=1e-17)


def test_blocks_and_the_order_of_rows_do_not_matter(grid):
    key, together = ["dataset", "vector", "example_id"], slopes(grid)
    shuffled = slopes(grid.sample(frac=1, random_state=3)).sort_values(key, ignore_index=True)
    pd.testing.assert_frame_equal(together.sort_values(key, ignore_index=True), shuffled)
    alone = slopes(grid[grid["vector"] == "resample-00"])
    pd.testing.assert_frame_equal(together[together["vector"] == "resample-00"].reset_index(drop=True), alone)


def test_twice_the_vector_at_half_the_multipliers_has_twice_the_slope_and_swapped_sides_negate_it(grid):
    doubled = slopes(grid.assign(multiplier=grid["multiplier"] / 2))[FITS]
    np.testing.assert_allclose(doubled, slopes(grid)[FITS] * [2, 1, 2, 2, 1], rtol=1e-12)
    swapped = grid.rename(columns={"matching": "not_matching", "not_matching": "matching"})
    swapped = slopes(swapped.assign(propensity=-grid["propensity"].to_numpy()))
    wanted = slopes(grid)[["steerability", "residual", "not_matching_slope"]] * [-1, 1, 1]
    np.testing.assert_allclose(swapped[FITS[:3]], wanted, rtol=1e-12, atol=1e-12)


def test_summary_describes_each_block_by_numpy_formulas(grid):
    """The mean slope is the slope of the mean curve."""
    table, described = slopes(grid), summary(slopes(grid))
    assert list(described["n"]) == [8, 8, 5]
    for row in described.itertuples():
        own, values = _of(table, row), _of(table, row)["steerability"].to_numpy()
        curve = _of(grid, row).groupby("multiplier")["propensity"].mean().reset_index()
        assert row.mean == pytest.approx(_line(curve, "propensity")[0], abs=1e-12)
        assert row.median == pytest.approx(np.median(values))
        assert row.variance == pytest.approx(np.mean((values - values.mean()) ** 2))
        assert row.anti_steerable == np.sum(values <= 0) / len(values)
        assert row.mean_residual == pytest.approx(own["residual"].sum() / len(own))


def test_a_slope_of_zero_counts_as_anti_steerable_and_nan_as_nothing():
    assert anti_steerable_fraction(np.array([-1.0, 0.0, 1e-9, 2.0])) == 0.5
    for values, found in (([], "0 slopes, 0 of them NaN"), ([1.0, np.nan], "2 slopes, 1 of them NaN")):
        with pytest.raises(SteerkitError, match=f"at least one slope and no NaN among them; found {found}"):
            anti_steerable_fraction(np.array(values))


PLACE = "of openness (vector full, layer 13)"


def _broken(name):
    grid = _grid(examples=3, multipliers=(0.0, 1.0))
    at = (grid["example_id"] == "e1") & (grid["multiplier"] == 1)
    return {
        "nan": grid.assign(propensity=grid["propensity"].mask(at)),
        "one": grid[grid["multiplier"] == 1],
        "equal": grid.assign(multiplier=1.5),
        "missing": grid[~at],
        "repeated": pd.concat([grid, grid[at]]),
        "instead": grid.assign(multiplier=grid["multiplier"].mask(at, 0.0)),
        "labels": grid.assign(positive_letter=grid["positive_letter"].mask(at, "A")).set_axis([7] * 6),
        "column": grid.drop(columns=["matching"]),
    }[name]


TWO = "at least two different multipliers to fit a slope"
EACH = "each of the multipliers 0, 1 once per example"
LABEL, ONE = "one positive letter and one positive answer per example", f"for example e1 {PLACE} (1 such"


@pytest.mark.parametrize(
    ("name", "expected", "found"),
    [
        ("nan", "a finite propensity at every multiplier", f"propensity nan at multiplier 1 {ONE} rows)"),
        ("one", TWO, f"one multiplier (1) for example e0 {PLACE}"),
        ("equal", TWO, f"2 equal multipliers (1.5) for example e0 {PLACE}"),
        ("missing", EACH, f"multipliers 0 {ONE} examples)"),
        ("repeated", EACH, f"multipliers 0, 1, 1 {ONE} examples)"),
        ("instead", EACH, f"multipliers 0, 0 {ONE} examples)"),
        ("labels", LABEL, f"labels that change between multipliers for example e1 {PLACE}"),
        ("column", "a grid with at least one row and all GRID columns", "6 rows, missing columns: matching"),
    ],
)
def test_a_grid_that_cannot_be_fitted_is_refused_with_its_place(name, expected, found):
    with pytest.raises(SteerkitError) as error:
        slopes(_broken(name))
    assert (error.value.expected, error.value.found) == (expected, found)


def test_two_holes_that_cancel_in_the_count_are_still_found():
    grid = _grid(examples=2, multipliers=(0.0, 1.0))
    with pytest.raises(SteerkitError, match="multipliers 0 for example e0"):
        slopes(grid.iloc[[0, 3]])  # e0 at 0 and e1 at 1: as many rows as one complete example
