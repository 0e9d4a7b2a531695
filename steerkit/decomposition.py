"""A steering vector as a sum of decoder directions: several ways, by name, and how to tell whether they are any good.

- `encode`: f(v), what Mayne et al. 2024 (arXiv 2411.08790) show to mislead.
- `signed-pursuit`: orthogonal matching pursuit (Pati, Rezaiifar and Krishnaprasad 1993) on the decoder, coefficients of
  either sign, the encoder not used.

A coefficient belongs to the decoder row as the autoencoder has it (not to a unit vector), and every table reads
vector = sum of coefficient * row + rest. The decoder bias is left out: a steering vector is a difference, in which it
cancels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from steerkit.errors import need
from steerkit.sae import Sae, check_fits

# What is left of a vector when it counts as reconstructed, relative to its norm: dictionaries are float32.
EXACT = 1e-7


@dataclass(frozen=True)
class Solution:
    """Which rows, and how much of each: features int [n], coefficients float64 [n]."""

    features: np.ndarray
    coefficients: np.ndarray


def decompose(
    vector: torch.Tensor, sae: Sae, method: str, n_features: int = 64, **inputs: Any
) -> pd.DataFrame:
    """At most `n_features` decoder directions that make up the vector [d] of the autoencoder's model and layer.

    Parameters
    ----------
    method : a name in `METHODS`, which are open to more
    n_features : how many rows at most; an encoding keeps its largest ones
    inputs : what such a method needs beside the vector

    Returns
    -------
    DataFrame
        feature, coefficient, rank (1 for the largest absolute coefficient). `attrs`: method, explained (share of the
        squared norm), residual_norm.
    """
    vector = checked(vector, sae)
    [solution] = solve(vector, sae, method, [n_features], inputs)
    frame = _ranked("coefficient", solution)
    rest = float(np.linalg.norm(vector - total_of(solution, sae)))
    frame.attrs = {"method": method, "explained": quality(vector, solution, sae)[0], "residual_norm": rest}
    return frame


def top_features(sae: Sae, vector: torch.Tensor, k: int = 10) -> pd.DataFrame:
    """The at most `k` most active features of one input [d]: feature, activation, rank.

    Zeros are allowed, and what they activate is what the biases alone activate; what is not active is not listed.
    """
    _check_count(sae, k)
    return _ranked("activation", largest(numbers(sae.encode(vector)), k))


# From a vector float64 [d], an autoencoder, numbers of features, and the inputs of `decompose`: one solution a number.
Method = Callable[[np.ndarray, Sae, Sequence[int], dict[str, Any]], list[Solution]]


def _encode(vector: np.ndarray, sae: Sae, counts: Sequence[int], inputs: dict[str, Any]) -> list[Solution]:
    dense = numbers(sae.encode(torch.from_numpy(vector)))
    return [largest(dense, count) for count in counts]


def signed_pursuit(vector: np.ndarray, rows: torch.Tensor, counts: Sequence[int]) -> list[Solution]:
    """Greedy rows by absolute correlation with the residual, all coefficients refitted exactly at each step.

    `vector` is float64 [d] and `rows` float32 [f, d]. One pass serves all counts, because the selections are nested;
    rows come in the order of selection, fewer where fewer reconstruct the vector. Each step costs one product with the
    dictionary in float32, never a copy of it. Only correlations come from it: the selected rows are orthogonalised in
    float64 (Gram-Schmidt, twice), which makes the refit one triangular solution.
    """
    from scipy.linalg import solve_triangular

    dictionary, residual, free = Rows(rows), vector, np.ones(len(rows), bool)
    basis = Basis(vector, min(max(counts), *rows.shape))
    chosen: list[int] = []
    while len(chosen) < basis.room and np.linalg.norm(residual) > EXACT * np.linalg.norm(vector):
        strength = np.abs(dictionary.cosines(residual)) * free
        best = int(strength.argmax())
        if strength[best] == 0:
            break
        free[best] = False
        if basis.add(dictionary.row(best)):
            chosen.append(best)
            residual = vector - basis.along[: basis.size] @ basis.rows[: basis.size]
    solutions = []
    for features in (np.array(chosen[:count], dtype=np.int64) for count in counts):
        n = len(features)
        refit = solve_triangular(basis.triangle[:n, :n], basis.along[:n]) if n else np.zeros(0)
        solutions.append(Solution(features, refit / dictionary.norms[features]))
    return solutions


def on_rows(solver: Callable[[np.ndarray, torch.Tensor, Sequence[int]], list[Solution]]) -> Method:
    """A method that looks at the decoder rows only."""
    return lambda vector, sae, counts, inputs: solver(vector, sae.W_dec.cpu(), counts)


METHODS: dict[str, Method] = {"encode": _encode, "signed-pursuit": on_rows(signed_pursuit)}


class Rows:
    """A dictionary whose rows are compared at unit norm, without a copy of it."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows
        # float32 is enough, and needs no copy: an error in a norm scales a row, and its coefficient back by as much.
        norms = torch.linalg.vector_norm(rows, dim=1).double().numpy()
        self.norms = np.where(norms > 0, norms, np.inf)  # nothing correlates with rows of zeros

    def cosines(self, residual: np.ndarray) -> np.ndarray:
        """Inner products of the residual with the unit rows, [f]."""
        return (self.rows @ torch.from_numpy(residual).to(self.rows)).double().numpy() / self.norms

    def row(self, feature: int) -> np.ndarray:
        """One unit row, float64 [d]."""
        return self.rows[int(feature)].double().numpy() / self.norms[feature]


class Basis:
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


def solve(vector: np.ndarray, sae: Sae, method: str, counts: Sequence[int], inputs: dict) -> list[Solution]:
    """One solution a count."""
    need(method in METHODS, f"a method among {', '.join(METHODS)}", repr(method), "choose one of these.")
    for count in counts:
        _check_count(sae, count)
    return METHODS[method](vector, sae, counts, inputs)


def largest(dense: np.ndarray, count: int) -> Solution:
    """The non-zero entries of largest size, at most `count`; equal ones in the order of their index."""
    order = np.argsort(-np.abs(dense), kind="stable")[:count]
    order = order[dense[order] != 0]
    return Solution(order, dense[order])


def _ranked(amount: str, solution: Solution) -> pd.DataFrame:
    order = np.lexsort((solution.features, -np.abs(solution.coefficients)))
    found = {"feature": solution.features[order], amount: solution.coefficients[order]}
    return pd.DataFrame(found | {"rank": np.arange(1, len(order) + 1)})


def total_of(solution: Solution, sae: Sae) -> np.ndarray:
    """coefficients @ rows, float64 [d]."""
    return solution.coefficients @ numbers(sae.W_dec[torch.tensor(solution.features)])


def quality(vector: np.ndarray, solution: Solution, sae: Sae) -> tuple[float, float]:
    """(explained, cosine)."""
    found = total_of(solution, sae)
    explained = 1 - float(np.sum((vector - found) ** 2) / np.sum(vector**2))
    lengths = float(np.linalg.norm(vector) * np.linalg.norm(found))
    return explained, float(vector @ found) / lengths if lengths else 0.0


def numbers(tensor: torch.Tensor) -> np.ndarray:
    """A tensor in float64, on the CPU."""
    return tensor.detach().cpu().double().numpy()


def checked(vector: torch.Tensor, sae: Sae) -> np.ndarray:
    """The vector in float64, when it can be decomposed."""
    vector = torch.as_tensor(vector)
    one = f"one vector [{sae.width}]"
    need(vector.ndim == 1, one, f"an array {list(vector.shape)}", "pass one at a time.")
    check_fits(sae, width=len(vector))
    found = numbers(vector)
    finite, expected = bool(np.isfinite(found).all()), "a vector of finite numbers, not all zero"
    mend = "extract it again; for the features of the zero vector use top_features."
    need(finite and found.any(), expected, "zeros only" if finite else "NaN or infinity", mend)  # type: ignore[arg-type]
    return found


def _check_count(sae: Sae, count: int) -> None:
    expected = f"between 1 and {sae.n_features} features, as many as this autoencoder has"
    need(1 <= count <= sae.n_features, expected, f"{count}", "give a number of that range.")
