"""What a decomposition is worth: the vector it stands for, with how many features, and beside what chance gives."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch

from steerkit.decomposition import Solution, checked, quality, solve, total_of
from steerkit.errors import need
from steerkit.sae import Sae


def reconstruct(table: pd.DataFrame, sae: Sae) -> torch.Tensor:
    """The vector that a table of `decompose` stands for, float32 [d], without the decoder bias."""
    solution = Solution(table["feature"].to_numpy(), table["coefficient"].to_numpy(dtype=np.float64))
    return torch.from_numpy(total_of(solution, sae)).float()


def reconstruction_curve(
    vector: torch.Tensor, sae: Sae, methods: Sequence[str], counts: Sequence[int], **inputs: Any
) -> pd.DataFrame:
    """How good each method is with how many features: method, n_features, explained, cosine.

    explained = 1 - |v - r|^2 / |v|^2, negative when the reconstruction r is further away than nothing; cosine is that
    of v and r, 0 when nothing is active. `inputs` are those of `decompose`; each method runs once for all counts.
    """
    vector, rows = checked(vector, sae), []
    for method in methods:
        solutions = solve(vector, sae, method, counts, inputs)
        for count, solution in zip(counts, solutions, strict=True):
            rows.append((method, count, *quality(vector, solution, sae)))
    return pd.DataFrame(rows, columns=["method", "n_features", "explained", "cosine"])


def random_like(vector: torch.Tensor, seed: int) -> torch.Tensor:
    """A random direction [d] of the same norm."""
    noise = torch.randn(vector.shape, generator=torch.Generator().manual_seed(seed))
    return noise / noise.norm() * vector.float().norm()


def shuffled(sae: Sae, seed: int) -> Sae:
    """The same numbers in each coordinate of the residual stream, dealt to other features.

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


def overlap(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """How alike decompositions of resampled vectors are: first, second, jaccard, one row a pair of tables.

    Jaccard index of the sets of features. Pairs share tables, so an interval has to resample tables, not rows.
    """
    need(len(tables) > 1, "two decompositions or more", f"{len(tables)}", "decompose resampled vectors.")
    sets = {name: set(table["feature"]) for name, table in tables.items()}
    rows = [(a, b, len(sets[a] & sets[b]) / max(1, len(sets[a] | sets[b]))) for a, b in combinations(sets, 2)]
    return pd.DataFrame(rows, columns=["first", "second", "jaccard"])
