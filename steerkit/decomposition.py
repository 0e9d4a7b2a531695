"""A steering vector as a sum of decoder directions: six ways, by name, and how to tell whether they are any good.

- `encode`: f(v), what Mayne et al. 2024 (arXiv 2411.08790) show to mislead.
- `encode-scaled`: f(s v) / s with s = target norm / |v|; the division makes the sum approximate v again.
- `encode-difference`: the mean over pairs of f(positive) - f(negative).
- `signed-pursuit`, `nnls`, `lasso`: regressions on the decoder, the encoder not used; see `steerkit.sparse`.

A coefficient belongs to the decoder row as the autoencoder has it (not to a unit vector), and every table reads
vector = sum of coefficient * row + rest. The decoder bias is left out: a steering vector is a difference, in which it
cancels. `reconstruct(..., bias=1)` puts it back for the encodings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from steerkit import sparse
from steerkit.errors import SteerkitError
from steerkit.sae import check_fits
from steerkit.sparse import Solution

if TYPE_CHECKING:
    from steerkit.sae import Sae

_SOLVERS = {
    "signed-pursuit": sparse.signed_pursuit,
    "nnls": sparse.nonnegative_pursuit,
    "lasso": sparse.lasso,
}
METHODS = ("encode", "encode-scaled", "encode-difference", *_SOLVERS)
BATCH = 64  # activations encoded at once


def decompose(
    vector: torch.Tensor,
    sae: Sae,
    method: str,
    n_features: int = 64,
    *,
    target_norm: float | None = None,
    positive: torch.Tensor | None = None,
    negative: torch.Tensor | None = None,
) -> pd.DataFrame:
    """At most `n_features` decoder directions that make up the vector.

    Parameters
    ----------
    vector : [d]
    sae : Sae of the vector's model and layer
    method : one of `METHODS`
    n_features : how many rows at most; an encoding keeps its largest ones
    target_norm : for encode-scaled, e.g. the mean norm of activations
    positive, negative : activations of the contrastive pairs [p, d], for encode-difference

    Returns
    -------
    DataFrame
        feature, coefficient, rank (1 for the largest absolute coefficient). `attrs`: method, explained (share of the
        squared norm), residual_norm.

    Raises
    ------
    SteerkitError
        A vector of another width, of zeros, or with NaN; more features than there are; an unknown method or a missing
        input.
    """
    vector = _checked(vector, sae)
    solution = _solve(vector, sae, method, [n_features], target_norm, positive, negative)[0]
    order = np.lexsort((solution.features, -np.abs(solution.coefficients)))
    frame = pd.DataFrame(
        {
            "feature": solution.features[order],
            "coefficient": solution.coefficients[order],
            "rank": np.arange(1, len(order) + 1),
        }
    )
    explained, _ = _quality(vector, solution, sae)
    residual = vector - _sum(solution, sae)
    frame.attrs = {"method": method, "explained": explained, "residual_norm": float(np.linalg.norm(residual))}
    return frame


def top_features(sae: Sae, x: torch.Tensor, n_features: int = 5) -> pd.DataFrame:
    """The most active features of one input [d], zeros allowed: feature, activation, rank.

    Figure 2 and Table 1 of Mayne et al. set f(v) beside f(0). Features that are not active are not listed.
    """
    _check_counts(sae, [n_features])
    found = _largest(_numbers(sae.encode(x)), n_features)
    ranks = np.arange(1, len(found.features) + 1)
    return pd.DataFrame({"feature": found.features, "activation": found.coefficients, "rank": ranks})


def reconstruct(table: pd.DataFrame, sae: Sae, *, bias: float = 0.0) -> torch.Tensor:
    """The vector that a table of `decompose` stands for, float32 [d]; `bias` times the decoder bias is added."""
    solution = Solution(table["feature"].to_numpy(), table["coefficient"].to_numpy(dtype=np.float64))
    return torch.from_numpy(_sum(solution, sae)).float() + bias * sae.b_dec


def reconstruction_curve(
    vector: torch.Tensor,
    sae: Sae,
    methods: Sequence[str],
    counts: Sequence[int],
    *,
    target_norm: float | None = None,
    positive: torch.Tensor | None = None,
    negative: torch.Tensor | None = None,
) -> pd.DataFrame:
    """How good each method is with how many features: method, n_features, explained, cosine.

    explained = 1 - |v - r|^2 / |v|^2, negative when the reconstruction r is further away than nothing; cosine is that
    of v and r, 0 when nothing is active. Parameters and errors as in `decompose`; each method runs once for all counts.
    For baselines pass `random_like(vector, seed)` or `shuffled(sae, seed)`.
    """
    vector = _checked(vector, sae)
    rows = []
    for method in methods:
        solutions = _solve(vector, sae, method, counts, target_norm, positive, negative)
        for count, solution in zip(counts, solutions, strict=True):
            explained, cosine = _quality(vector, solution, sae)
            rows.append({"method": method, "n_features": count, "explained": explained, "cosine": cosine})
    return pd.DataFrame(rows, columns=["method", "n_features", "explained", "cosine"])


def overlap(tables: Mapping[str, pd.DataFrame], top: int | None = None) -> pd.DataFrame:
    """How alike decompositions of resampled vectors are: first, second, jaccard, one row a pair of tables.

    Jaccard index of the sets of features, of the `top` ranks when given. Pairs share tables, so an interval has to
    resample tables, not rows.

    Raises
    ------
    SteerkitError
        With fewer than two tables.
    """
    if len(tables) < 2:
        raise SteerkitError(
            "two decompositions or more", f"{len(tables)}", next_step="decompose resampled vectors."
        )
    sets = {
        name: set(table.loc[table["rank"] <= (top or len(table)), "feature"])
        for name, table in tables.items()
    }
    return pd.DataFrame(
        [
            {"first": a, "second": b, "jaccard": len(sets[a] & sets[b]) / max(1, len(sets[a] | sets[b]))}
            for a, b in combinations(sets, 2)
        ]
    )


def random_like(vector: torch.Tensor, seed: int) -> torch.Tensor:
    """Baseline: a random direction [d] of the same norm."""
    noise = torch.randn(vector.shape, generator=torch.Generator().manual_seed(seed))
    return noise / noise.norm() * vector.float().norm()


def shuffled(sae: Sae, seed: int) -> Sae:
    """Baseline: the same numbers in each coordinate of the residual stream, dealt to other features.

    Coordinate i of all decoder rows is permuted, and coordinate i of all encoder columns by the same permutation; then
    rows and columns get their old norms back. This keeps what every coordinate looks like, which in a residual stream
    differs by orders of magnitude, and destroys the directions. A random rotation would be no second baseline:
    decomposing v over rotated rows is decomposing a rotated v, which is `random_like`.
    """
    generator = torch.Generator().manual_seed(seed)
    decoder, encoder = torch.empty_like(sae.W_dec), torch.empty_like(sae.W_enc)
    for i in range(sae.width):
        deal = torch.randperm(sae.n_features, generator=generator)
        decoder[:, i], encoder[i] = sae.W_dec[deal, i], sae.W_enc[i, deal]
    decoder *= (sae.W_dec.norm(dim=1) / decoder.norm(dim=1).clamp_min(1e-12))[:, None]
    encoder *= sae.W_enc.norm(dim=0) / encoder.norm(dim=0).clamp_min(1e-12)
    return replace(sae, W_dec=decoder, W_enc=encoder, source=f"{sae.source}, shuffled with seed {seed}")


def _solve(
    vector: np.ndarray,
    sae: Sae,
    method: str,
    counts: Sequence[int],
    target_norm: float | None,
    positive: torch.Tensor | None,
    negative: torch.Tensor | None,
) -> list[Solution]:
    """One solution a count."""
    if method not in METHODS:
        raise SteerkitError(
            f"a method among {', '.join(METHODS)}", repr(method), next_step="choose one of these."
        )
    _check_counts(sae, counts)
    if method in _SOLVERS:
        return _SOLVERS[method](vector, sae.W_dec.cpu(), counts)
    if method == "encode-difference":
        dense = _encoded_difference(sae, positive, negative)
    else:
        scale = 1.0 if method == "encode" else _scale(vector, target_norm)
        dense = _numbers(sae.encode(torch.from_numpy(vector * scale))) / scale
    return [_largest(dense, count) for count in counts]


def _encoded_difference(sae: Sae, positive: torch.Tensor | None, negative: torch.Tensor | None) -> np.ndarray:
    """Mean of f(positive) - f(negative) over pairs, float64 [f]."""
    if positive is None or negative is None or positive.shape != negative.shape or positive.ndim != 2:
        shapes = [None if each is None else list(each.shape) for each in (positive, negative)]
        raise SteerkitError(
            f"positive and negative activations [pairs, {sae.width}] for encode-difference",
            f"{shapes[0]} and {shapes[1]}",
            next_step="give the activations of both answers of each pair.",
        )
    if len(positive) == 0 or not (positive.isfinite().all() and negative.isfinite().all()):
        raise SteerkitError(
            "at least one pair of finite activations", "none, NaN or infinity", next_step="read them again."
        )
    total = np.zeros(sae.n_features)
    for one, other in zip(positive.split(BATCH), negative.split(BATCH), strict=True):
        total += _numbers((sae.encode(one) - sae.encode(other)).double().sum(0))
    return total / len(positive)


def _scale(vector: np.ndarray, target_norm: float | None) -> float:
    if target_norm is None or not (np.isfinite(target_norm) and target_norm > 0):
        raise SteerkitError(
            "a positive target_norm for encode-scaled",
            repr(target_norm),
            next_step="give the mean norm of activations at this layer.",
        )
    return float(target_norm) / float(np.linalg.norm(vector))


def _largest(dense: np.ndarray, count: int) -> Solution:
    """The non-zero entries of largest size, at most `count`; equal ones in the order of their index."""
    order = np.argsort(-np.abs(dense), kind="stable")[:count]
    order = order[dense[order] != 0]
    return Solution(order, dense[order])


def _sum(solution: Solution, sae: Sae) -> np.ndarray:
    """coefficients @ rows, float64 [d]."""
    return solution.coefficients @ _numbers(sae.W_dec[torch.tensor(solution.features)])


def _quality(vector: np.ndarray, solution: Solution, sae: Sae) -> tuple[float, float]:
    """(explained, cosine)."""
    found = _sum(solution, sae)
    explained = 1 - float(np.sum((vector - found) ** 2) / np.sum(vector**2))
    lengths = float(np.linalg.norm(vector) * np.linalg.norm(found))
    return explained, float(vector @ found) / lengths if lengths else 0.0


def _numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


def _checked(vector: torch.Tensor, sae: Sae) -> np.ndarray:
    """The vector in float64, when it can be decomposed."""
    vector = torch.as_tensor(vector)
    if vector.ndim != 1:
        raise SteerkitError(
            f"one vector [{sae.width}]", f"an array {list(vector.shape)}", next_step="pass one at a time."
        )
    check_fits(sae, width=len(vector))
    numbers = _numbers(vector)
    if not np.isfinite(numbers).all() or not numbers.any():
        raise SteerkitError(
            "a vector of finite numbers, not all zero",
            "zeros only" if np.isfinite(numbers).all() else "NaN or infinity",
            next_step="extract it again; for the features of the zero vector use top_features.",
        )
    return numbers


def _check_counts(sae: Sae, counts: Sequence[int]) -> None:
    for count in counts:
        if not 1 <= count <= sae.n_features:
            raise SteerkitError(
                f"between 1 and {sae.n_features} features, as many as this autoencoder has",
                f"{count}",
                next_step="ask for fewer.",
            )
