"""A vector as a sum of few rows of a dictionary: three regressions that never copy the dictionary.

With v the vector [d] and D the dictionary [f, d], each solver looks for c with few non-zeros and v close to c @ D.
Rows are compared after division by their norms; the coefficients that come back belong to the rows as they are.

- `signed_pursuit`: orthogonal matching pursuit (Pati, Rezaiifar and Krishnaprasad 1993), coefficients of either sign.
- `nonnegative_pursuit`: the active-set method for min |v - c D| with c >= 0 (Lawson and Hanson 1974, chapter 23),
  stopped at n rows. It starts from nothing and adds the row with the largest positive correlation, so the early stop
  is a pursuit, and a run to its end is the exact solution over the whole dictionary: no candidates to choose.
- `lasso`: least angle regression (Efron et al. 2004) on candidate rows, and the optimality condition checked on all of
  them; rows that violate it join the candidates. So the result is that of the whole dictionary. Its coefficients are
  the shrunk ones, without a refit.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from steerkit.errors import SteerkitError

# What is left of a vector when it counts as reconstructed, relative to its norm: dictionaries are float32.
EXACT = 1e-7
CANDIDATES_PER_FEATURE = 8  # of the lasso's first guess; only speed depends on it


@dataclass(frozen=True)
class Solution:
    """Which rows, and how much of each: features int [n], coefficients float64 [n]."""

    features: np.ndarray
    coefficients: np.ndarray


def signed_pursuit(vector: np.ndarray, rows: torch.Tensor, counts: Sequence[int]) -> list[Solution]:
    """Greedy rows by absolute correlation with the residual, all coefficients refitted exactly at each step.

    Parameters
    ----------
    vector : float64 [d]
    rows : float32 [f, d]
    counts : how many rows; one pass serves all of them, because the selections are nested

    Returns
    -------
    One solution a count, rows in the order of selection; fewer rows where fewer reconstruct the vector.

    Notes
    -----
    Each step costs one product with the dictionary in float32. Only correlations come from it: the selected rows are
    orthogonalised in float64 (Gram-Schmidt, twice), which makes the refit one triangular solution.
    """
    norms, residual, free = _norms(rows), vector, np.ones(len(rows), bool)
    basis = _Basis(vector, min(max(counts), *rows.shape))
    chosen: list[int] = []
    while len(chosen) < basis.room and np.linalg.norm(residual) > EXACT * np.linalg.norm(vector):
        strength = np.abs(_cosines(rows, norms, residual)) * free
        best = int(strength.argmax())
        if strength[best] == 0:
            break
        free[best] = False
        if basis.add(_row(rows, norms, best)):
            chosen.append(best)
            residual = basis.residual()
    return [_refit(chosen[:count], basis, norms) for count in counts]


class _Basis:
    """Selected rows, orthogonalised one by one in float64: rows = triangle.T @ basis, and the vector along each."""

    def __init__(self, vector: np.ndarray, room: int) -> None:
        self.vector, self.room, self.size = vector, room, 0
        self.rows, self.triangle = np.zeros((room, len(vector))), np.zeros((room, room))
        self.along = np.zeros(room)

    def add(self, row: np.ndarray) -> bool:
        """Take one more row of unit norm; False, and nothing taken, when it is a sum of those that are there."""
        n, known = self.size, self.rows[: self.size]
        first = known @ row
        rest = row - first @ known
        second = known @ rest  # the second round removes what rounding left
        rest = rest - second @ known
        length = np.linalg.norm(rest)
        if length < EXACT:
            return False
        self.rows[n], self.triangle[:n, n], self.triangle[n, n] = rest / length, first + second, length
        self.along[n] = self.rows[n] @ self.vector
        self.size += 1
        return True

    def residual(self) -> np.ndarray:
        """What of the vector no sum of the rows reaches, [d]."""
        return self.vector - self.along[: self.size] @ self.rows[: self.size]


def _refit(chosen: list[int], basis: _Basis, norms: np.ndarray) -> Solution:
    from scipy.linalg import solve_triangular

    features, n = np.array(chosen, dtype=np.int64), len(chosen)
    if n == 0:
        return Solution(features, np.zeros(0))
    return Solution(features, solve_triangular(basis.triangle[:n, :n], basis.along[:n]) / norms[features])


def nonnegative_pursuit(vector: np.ndarray, rows: torch.Tensor, counts: Sequence[int]) -> list[Solution]:
    """Non-negative least squares, stopped at n rows; parameters and result as in `signed_pursuit`.

    A row whose coefficient would turn negative leaves again, so selections need not be nested; for each count the
    last, hence best, state of at most that many rows is given.
    """
    norms, residual, free = _norms(rows), vector, np.ones(len(rows), bool)
    room, chosen = max(counts), []
    basis = _Basis(vector, room)
    states = {0: Solution(np.zeros(0, np.int64), np.zeros(0))}
    while len(chosen) < room and np.linalg.norm(residual) > EXACT * np.linalg.norm(vector):
        strength = np.where(free, _cosines(rows, norms, residual), -np.inf)
        best = int(strength.argmax())
        if strength[best] <= EXACT * np.linalg.norm(vector):
            break  # no row would get a positive coefficient: the optimum
        free[best] = False
        if not basis.add(_row(rows, norms, best)):
            continue
        chosen.append(best)
        found, residual = _nonnegative_fit(basis)
        leaving = [feature for feature, amount in zip(chosen, found, strict=True) if amount == 0]
        if leaving:
            chosen = [feature for feature in chosen if feature not in leaving]
            free[[feature for feature in leaving if feature != best]] = (
                True  # `best` itself: rounding, never again
            )
            basis = _Basis(vector, room)
            for feature in chosen:
                basis.add(_row(rows, norms, feature))
        features = np.array(chosen, dtype=np.int64)
        states = {n: state for n, state in states.items() if n < len(chosen)}
        states[len(chosen)] = Solution(features, found[found > 0] / norms[features])
    return [states[max(n for n in states if n <= count)] for count in counts]


def _nonnegative_fit(basis: _Basis) -> tuple[np.ndarray, np.ndarray]:
    """(coefficients of the unit rows >= 0, what is left of the vector), solved in the small triangle."""
    from scipy.optimize import nnls

    n = basis.size
    found, _ = nnls(basis.triangle[:n, :n], basis.along[:n])
    return found, basis.vector - (basis.triangle[:n, :n] @ found) @ basis.rows[:n]


def lasso(vector: np.ndarray, rows: torch.Tensor, counts: Sequence[int]) -> list[Solution]:
    """The lasso with the smallest penalty that keeps at most n rows; parameters and result as in `signed_pursuit`.

    The penalty is on the coefficients of the rows at unit norm.

    Raises
    ------
    SteerkitError
        When scikit-learn is not installed.
    """
    norms = _norms(rows)
    strength = np.abs(_cosines(rows, norms, vector))
    candidates = np.sort(np.argsort(-strength, kind="stable")[: CANDIDATES_PER_FEATURE * max(counts)])
    while True:
        columns = np.stack([_row(rows, norms, feature) for feature in candidates], axis=1)
        knots = [_knot(columns, vector, count) for count in sorted(set(counts))]
        missing = [_violators(rows, norms, vector - columns @ found, penalty) for found, penalty in knots]
        more = np.setdiff1d(np.concatenate(missing), candidates)
        if len(more) == 0:
            break
        candidates = np.union1d(candidates, more)
    by_count = dict(zip(sorted(set(counts)), (found for found, _ in knots), strict=True))
    return [_nonzero(by_count[count], candidates, norms) for count in counts]


def _knot(columns: np.ndarray, vector: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """Coefficients [m] and penalty at the last knot of the path with at most `count` non-zeros."""
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import lars_path
    except ImportError as error:
        raise SteerkitError(
            "scikit-learn for the method lasso",
            "it is not installed",
            done="Nothing was computed.",
            next_step="pip install scikit-learn, or take the method signed-pursuit.",
        ) from error
    with warnings.catch_warnings():
        # A row that is a copy of active ones is left out with a warning; leaving it out is right.
        warnings.simplefilter("ignore", ConvergenceWarning)
        penalties, _, path = lars_path(columns, vector, method="lasso", max_iter=2 * count + 1)
    fitting = np.flatnonzero((path != 0).sum(0) <= count)[-1]
    return path[:, fitting], float(penalties[fitting]) * len(vector)


def _violators(rows: torch.Tensor, norms: np.ndarray, residual: np.ndarray, penalty: float) -> np.ndarray:
    """Rows that correlate with the residual by more than the penalty: at the optimum there are none."""
    slack = 1e-5 * penalty + EXACT * np.linalg.norm(residual)  # correlations are float32
    return np.flatnonzero(np.abs(_cosines(rows, norms, residual)) > penalty + slack)


def _nonzero(found: np.ndarray, candidates: np.ndarray, norms: np.ndarray) -> Solution:
    chosen = candidates[found != 0]
    return Solution(chosen, found[found != 0] / norms[chosen])


def _norms(rows: torch.Tensor) -> np.ndarray:
    """float64 [f]; infinity for rows of zeros, so that nothing correlates with them."""
    # float32 is enough, and needs no copy: an error in a norm scales a row, and its coefficient back by as much.
    norms = torch.linalg.vector_norm(rows, dim=1).double().numpy()
    return np.where(norms > 0, norms, np.inf)


def _cosines(rows: torch.Tensor, norms: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Inner products of the residual with the rows at unit norm, [f]."""
    return (rows @ torch.from_numpy(residual).to(rows)).double().numpy() / norms


def _row(rows: torch.Tensor, norms: np.ndarray, feature: int) -> np.ndarray:
    return rows[int(feature)].double().numpy() / norms[feature]
