"""Five more ways to decompose a vector. Importing this adds them to the methods of `steerkit.decomposition`.

- `encode-scaled`: f(s v) / s with s = target norm / |v|; the division makes the sum approximate v again. It needs
  `target_norm`, e.g. the mean norm of activations.
- `encode-minus-zero`: f(v) - f(0), what the encoder says of the vector beyond what it says of nothing.
- `encode-difference`: the mean over pairs of f(positive) - f(negative). It needs `positive` and `negative`, the
  activations of the contrastive pairs [p, d].
- `nnls`: the active-set method for min |v - c D| with c >= 0 (Lawson and Hanson 1974, chapter 23), stopped at n rows.
  It starts from nothing and adds the row with the largest positive correlation, so the early stop
  is a pursuit, and a run to its end is the exact solution over the whole dictionary: no candidates to choose.
- `lasso`: least angle regression (Efron et al. 2004) on candidate rows, and the optimality condition checked on all of
  them; rows that violate it join the candidates. So the result is that of the whole dictionary. Its coefficients are
  the shrunk ones, without a refit.

The last two are regressions on the decoder that never copy it. Vectors are float64 [d], dictionaries float32 [f, d];
one solution a count (`steerkit.decomposition`).
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from steerkit.decomposition import EXACT, METHODS, Basis, Rows, Solution, largest, numbers, on_rows
from steerkit.errors import need
from steerkit.sae import Sae
from steerkit.vectors import LONGEST, SHORTEST

BATCH = 64  # activations encoded at once
CANDIDATES_PER_FEATURE = 8  # of the lasso's first guess; only speed depends on it


def _scaled(vector: np.ndarray, sae: Sae, counts: Sequence[int], inputs: dict[str, Any]) -> list[Solution]:
    norm = inputs.get("target_norm")
    usable = norm is not None and SHORTEST <= norm <= LONGEST
    mend = "give the mean norm of activations at this layer."
    need(usable, f"a target_norm for encode-scaled, {SHORTEST:g} to {LONGEST:g}", repr(norm), mend)
    scale = float(norm) / float(np.linalg.norm(vector))
    dense = numbers(sae.encode(torch.from_numpy(vector * scale))) / scale
    return [largest(dense, count) for count in counts]


def _minus_zero(vector: np.ndarray, sae: Sae, counts: Sequence[int], _: dict[str, Any]) -> list[Solution]:
    usual = numbers(sae.encode(torch.zeros(sae.width)))
    dense = numbers(sae.encode(torch.from_numpy(vector))) - usual
    return [largest(dense, count) for count in counts]


def _difference(
    vector: np.ndarray, sae: Sae, counts: Sequence[int], inputs: dict[str, Any]
) -> list[Solution]:
    pairs = [inputs.get(side) for side in ("positive", "negative")]
    first, second = (None if each is None else list(each.shape) for each in pairs)
    expected = f"positive and negative activations [pairs, {sae.width}] for encode-difference"
    mend = "give the activations of both answers of each pair."
    need(first == second and len(first or []) == 2, expected, f"{first} and {second}", mend)
    finite = first[0] > 0 and all(bool(each.isfinite().all()) for each in pairs)
    need(finite, "at least one pair of finite activations", "none, NaN or infinity", "read them again.")
    total = np.zeros(sae.n_features)
    for one, other in zip(*(each.split(BATCH) for each in pairs), strict=True):
        total += numbers((sae.encode(one) - sae.encode(other)).double().sum(0))
    return [largest(total / first[0], count) for count in counts]


def nonnegative_pursuit(vector: np.ndarray, rows: torch.Tensor, counts: Sequence[int]) -> list[Solution]:
    """Non-negative least squares, stopped at n rows.

    A row whose coefficient would turn negative leaves again, so selections need not be nested; for each count the
    last, hence best, state of at most that many rows is given.
    """
    dictionary, residual, free = Rows(rows), vector, np.ones(len(rows), bool)
    room, chosen = max(counts), []
    basis = Basis(vector, room)
    states = {0: Solution(np.zeros(0, np.int64), np.zeros(0))}
    while len(chosen) < room and np.linalg.norm(residual) > EXACT * np.linalg.norm(vector):
        strength = np.where(free, dictionary.cosines(residual), -np.inf)
        best = int(strength.argmax())
        if strength[best] <= EXACT * np.linalg.norm(vector):
            break  # no row would get a positive coefficient: the optimum
        free[best] = False
        if not basis.add(dictionary.row(best)):
            continue
        chosen.append(best)
        found, residual = _nonnegative_fit(basis)
        leaving = [feature for feature, amount in zip(chosen, found, strict=True) if amount == 0]
        if leaving:
            chosen = [feature for feature in chosen if feature not in leaving]
            # `best` itself stays out: it left by rounding, and would come again.
            free[[feature for feature in leaving if feature != best]] = True
            basis = Basis(vector, room)
            for feature in chosen:
                basis.add(dictionary.row(feature))
        features = np.array(chosen, dtype=np.int64)
        states = {n: state for n, state in states.items() if n < len(chosen)}
        states[len(chosen)] = Solution(features, found[found > 0] / dictionary.norms[features])
    return [states[max(n for n in states if n <= count)] for count in counts]


def _nonnegative_fit(basis: Basis) -> tuple[np.ndarray, np.ndarray]:
    """(coefficients of the unit rows >= 0, what is left of the vector), solved in the small triangle."""
    n = basis.size
    found, _ = nnls(basis.triangle[:n, :n], basis.along[:n])
    return found, basis.vector - (basis.triangle[:n, :n] @ found) @ basis.rows[:n]


def lasso(vector: np.ndarray, rows: torch.Tensor, counts: Sequence[int]) -> list[Solution]:
    """The lasso with the smallest penalty, on coefficients of unit rows, that keeps at most n rows."""
    dictionary, wanted = Rows(rows), sorted(set(counts))
    strength = np.abs(dictionary.cosines(vector))
    candidates = np.sort(np.argsort(-strength, kind="stable")[: CANDIDATES_PER_FEATURE * max(counts)])
    while True:
        columns = np.stack([dictionary.row(feature) for feature in candidates], axis=1)
        knots = [_knot(columns, vector, count) for count in wanted]
        missing = [_violators(dictionary, vector - columns @ found, penalty) for found, penalty in knots]
        more = np.setdiff1d(np.concatenate(missing), candidates)
        if len(more) == 0:
            break
        candidates = np.union1d(candidates, more)
    solutions = {}
    for count, (found, _) in zip(wanted, knots, strict=True):
        chosen = candidates[found != 0]
        solutions[count] = Solution(chosen, found[found != 0] / dictionary.norms[chosen])
    return [solutions[count] for count in counts]


def _knot(columns: np.ndarray, vector: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """Coefficients [m] and penalty at the last knot of the path with at most `count` non-zeros."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import lars_path

    with warnings.catch_warnings():
        # A row that is a copy of active ones is left out with a warning; leaving it out is right.
        warnings.simplefilter("ignore", ConvergenceWarning)
        penalties, _, path = lars_path(columns, vector, method="lasso", max_iter=2 * count + 1)
    fitting = np.flatnonzero((path != 0).sum(0) <= count)[-1]
    return path[:, fitting], float(penalties[fitting]) * len(vector)


def _violators(dictionary: Rows, residual: np.ndarray, penalty: float) -> np.ndarray:
    """Rows that correlate with the residual by more than the penalty: at the optimum there are none."""
    slack = 1e-5 * penalty + EXACT * np.linalg.norm(residual)  # correlations are float32
    return np.flatnonzero(np.abs(dictionary.cosines(residual)) > penalty + slack)


# In the order in which tables and figures show them.
METHODS |= {
    "encode-scaled": _scaled,
    "encode-minus-zero": _minus_zero,
    "encode-difference": _difference,
    "signed-pursuit": METHODS.pop("signed-pursuit"),
    "nnls": on_rows(nonnegative_pursuit),
    "lasso": on_rows(lasso),
}
