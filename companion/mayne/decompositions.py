"""Beyond Mayne et al. 2024: which decomposition of a steering vector is any good, judged three ways.

Reconstruction: how much of the vector is there with n features. Behaviour: does the model answer to the reconstruction
as it does to the vector. Stability: do resampled training pairs give the same features. Two baselines go with all
three: a random vector of equal norm, and a dictionary with shuffled coordinates (`companion.mayne.baselines.shuffled`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from companion import store
from companion.mayne.activations import CODE, Case, Contrast, contrast, example_groups, inputs_of, steered
from companion.mayne.baselines import overlap, random_like, reconstruct, reconstruction_curve, shuffled
from companion.mayne.solvers import METHODS
from steerkit import steerability
from steerkit.decomposition import decompose
from steerkit.errors import SteerkitError

if TYPE_CHECKING:
    import torch

    from steerkit.sae import Sae

ORIGINAL, AUTOENCODER = "original vector", "autoencoder"
RANDOM, SHUFFLED = "random vector", "shuffled dictionary"
PURSUIT = "signed-pursuit"
OWN_CODE = (
    "companion/mayne/decompositions.py",
    "companion/mayne/baselines.py",
    "companion/mayne/solvers.py",
    "companion/saes.py",
)
LEVEL = (0.025, 0.975)


@dataclass(frozen=True)
class Options:
    """What is compared: features of the largest decomposition, resampled vectors, scale of `encode-scaled`.

    `rescale` gives reconstructions the norm of the vector before they steer.
    """

    target_norm: float
    n_features: int = 64
    resamples: int = 8
    rescale: bool = False
    methods: tuple[str, ...] = tuple(METHODS)
    seed: int = 0

    @property
    def counts(self) -> list[int]:
        """Powers of two up to `n_features`, and `n_features`."""
        powers = [2**i for i in range(20) if 2**i < self.n_features]
        return [*powers, self.n_features]


def options(case: Case, target_norm: float, n_features: int = 64, **others: Any) -> Options:
    """Options that a case allows: a small autoencoder has fewer features than asked for, and gives those it has."""
    return Options(target_norm, min(n_features, case.sae.n_features), **others)


def parse_methods(text: str) -> tuple[str, ...]:
    """Methods separated by commas; empty: all.

    Raises
    ------
    SteerkitError
        For an unknown one.
    """
    chosen = tuple(name.strip() for name in text.split(",") if name.strip()) or tuple(METHODS)
    for name in chosen:
        if name not in METHODS:
            raise SteerkitError(
                f"methods among {', '.join(METHODS)}", repr(name), next_step="separate them by commas."
            )
    return chosen


def curves(case: Case, options: Options) -> pd.DataFrame:
    """Explained share of the squared norm by method and number of features.

    Returns
    -------
    DataFrame
        Columns method, n_features, explained, cosine, low, high: the vector of all training pairs, and a 95% interval
        of `explained` over vectors of resampled pairs, each compared with itself. The baselines, signed pursuit of
        random vectors and on shuffled dictionaries, have the mean and the interval over as many seeds.
    """
    return store.table(
        f"mayne-curves-{case.job.name}", _inputs(case, options, "curves"), lambda: _curves(case, options)
    )


def stability(case: Case, options: Options) -> pd.DataFrame:
    """How many features two vectors of resampled training pairs have in common.

    Returns
    -------
    DataFrame
        Columns method, n_features, jaccard, low, high, resamples: mean Jaccard index over pairs of resampled vectors
        with a 95% interval from resampling those vectors, since pairs that share one are not independent.
    """
    return store.table(
        f"mayne-stability-{case.job.name}",
        _inputs(case, options, "stability"),
        lambda: _stability(case, options),
    )


def behaviour(case: Case, options: Options, draws: int = 2000) -> pd.DataFrame:
    """Steering with reconstructions, beside the vector itself and the baselines.

    Returns
    -------
    DataFrame
        Columns vector, cosine, norm (relative to the vector's), estimate, low, high (mean steerability with a 95%
        interval over test groups), difference, difference_low, difference_high (to the original vector, the same items
        in both), share (of the original's mean), items (correlation of per-item steerability with the original's).
        `attrs`: manifests, groups, format.
    """
    from steerkit.stats import joint_bootstrap
    from steerkit.vectors import Vectors

    found = contrast(case)
    vectors = _steering_vectors(case, found, options)
    stacked = Vectors(tuple(vectors), (case.layer,), _stack(list(vectors.values()))[:, None])
    grid = steered(case, stacked)
    slopes = steerability.slopes(grid).pivot(index="vector", columns="example_id", values="steerability")
    groups = np.array(example_groups(case, list(slopes.columns)))
    original, rows = slopes.loc[ORIGINAL].to_numpy(), []
    for name, vector in vectors.items():
        own = slopes.loc[name].to_numpy()
        mean, apart = (
            joint_bootstrap(values[None], np.random.default_rng(options.seed), draws, groups=groups)
            for values in (own, own - original)
        )
        length = float(vector.norm() * found.vector.norm())
        rows.append(
            {
                "vector": name,
                "cosine": float(vector @ found.vector) / length if length else 0.0,
                "norm": float(vector.norm() / found.vector.norm()),
                **dict(zip(("estimate", "low", "high"), (mean.estimate, mean.low, mean.high), strict=True)),
                "difference": apart.estimate,
                "difference_low": apart.low,
                "difference_high": apart.high,
                "share": mean.estimate / original.mean(),
                "items": _correlation(own, original),
            }
        )
    table = pd.DataFrame(rows)
    table.attrs = {"manifests": [grid.attrs["manifest"]], "groups": len(set(groups)), "format": case.format}
    return table


def _inputs(case: Case, options: Options, what: str) -> dict:
    about = asdict(options)
    about.pop("rescale")
    return inputs_of(case, what, (*CODE, *OWN_CODE)) | {"sae": case.sae.about(), "options": about}


def _extras(found: Contrast, options: Options) -> dict:
    return {
        "target_norm": options.target_norm,
        "positive": found.positive_tokens,
        "negative": found.negative_tokens,
    }


def _curves(case: Case, options: Options) -> pd.DataFrame:
    sae, found = case.sae, contrast(case)
    main = reconstruction_curve(found.vector, sae, options.methods, options.counts, **_extras(found, options))
    drawn = [
        reconstruction_curve(each.vector, sae, options.methods, options.counts, **_extras(each, options))
        for each in found.resamples(options.resamples, options.seed)
    ]
    key = ["method", "n_features"]
    spread = _spread(drawn)
    main = main.merge(spread[[*key, "low", "high"]], on=key, how="left")
    seeds = range(max(2, options.resamples))
    baselines = {
        RANDOM: [
            reconstruction_curve(random_like(found.vector, seed), sae, [PURSUIT], options.counts)
            for seed in seeds
        ],
        SHUFFLED: [
            reconstruction_curve(found.vector, _shuffled(case, seed), [PURSUIT], options.counts)
            for seed in seeds
        ],
    }
    rows = [_spread(parts).assign(method=f"{PURSUIT}, {name}") for name, parts in baselines.items()]
    table = pd.concat([main, *rows], ignore_index=True)[[*key, "explained", "cosine", "low", "high"]]
    table.attrs = {"engine": "none"}
    return table


def _spread(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean and 95% interval of several curves."""
    if not parts:
        return pd.DataFrame(columns=["method", "n_features", "explained", "cosine", "low", "high"])
    together = pd.concat(parts).groupby(["method", "n_features"], sort=False)
    return together.agg(
        explained=("explained", "mean"),
        cosine=("cosine", "mean"),
        low=("explained", lambda values: values.quantile(LEVEL[0])),
        high=("explained", lambda values: values.quantile(LEVEL[1])),
    ).reset_index()


@lru_cache(maxsize=8)
def _shuffled_sae(name: str, layer: int, seed: int) -> Sae:
    from companion.saes import open_sae

    return shuffled(open_sae(name, None, layer), seed)


def _shuffled(case: Case, seed: int) -> Sae:
    """A shuffled dictionary; small ones are kept, large ones made again."""
    small = case.sae.W_dec.numel() < 4_000_000
    make = _shuffled_sae if small else _shuffled_sae.__wrapped__
    return make(case.sae_name, case.layer, seed)


def _stability(case: Case, options: Options) -> pd.DataFrame:
    sae, found, n = case.sae, contrast(case), options.n_features
    drawn = found.resamples(max(2, options.resamples), options.seed)
    other = _shuffled(case, options.seed)
    tables = {
        method: [decompose(each.vector, sae, method, n, **_extras(each, options)) for each in drawn]
        for method in options.methods
    }
    tables[f"{PURSUIT}, {SHUFFLED}"] = [decompose(each.vector, other, PURSUIT, n) for each in drawn]
    tables[f"{PURSUIT}, {RANDOM}"] = [
        decompose(random_like(found.vector, seed), sae, PURSUIT, n) for seed in range(len(drawn))
    ]
    rows = [(method, n, *_mean_overlap(each, options.seed), len(drawn)) for method, each in tables.items()]
    table = pd.DataFrame(rows, columns=["method", "n_features", "jaccard", "low", "high", "resamples"])
    table.attrs = {"engine": "none"}
    return table


def _mean_overlap(tables: Sequence[pd.DataFrame], seed: int, draws: int = 1000) -> tuple[float, float, float]:
    """Mean Jaccard index over pairs, and its interval: tables are drawn, pairs of a table with itself left out."""
    size, rng = len(tables), np.random.default_rng(seed)
    pairs = overlap({f"{i:03d}": table for i, table in enumerate(tables)})
    matrix = np.full((size, size), np.nan)
    for (i, j), value in zip(combinations(range(size), 2), pairs["jaccard"], strict=True):
        matrix[i, j] = matrix[j, i] = value
    picks = rng.integers(size, size=(draws, size))
    picks = picks[(picks != picks[:, :1]).any(axis=1)]  # one table alone has no pair
    values = [np.nanmean(matrix[np.ix_(pick, pick)]) for pick in picks]
    low, high = np.quantile(values, LEVEL)
    return float(pairs["jaccard"].mean()), float(low), float(high)


def _steering_vectors(case: Case, found: Contrast, options: Options) -> dict[str, torch.Tensor]:
    """The vector, what each method and the autoencoder itself leave of it, and the baselines."""
    sae, vector = case.sae, found.vector
    made = {
        method: reconstruct(
            decompose(vector, sae, method, options.n_features, **_extras(found, options)), sae
        )
        for method in options.methods
    }
    made[AUTOENCODER] = sae.decode(sae.encode(vector))
    other = _shuffled(case, options.seed)
    made[f"{PURSUIT}, {SHUFFLED}"] = reconstruct(decompose(vector, other, PURSUIT, options.n_features), other)
    if options.rescale:
        made = {name: each * (vector.norm() / each.norm().clamp_min(1e-12)) for name, each in made.items()}
    return {ORIGINAL: vector, **made, RANDOM: random_like(vector, options.seed)}


def _stack(vectors: Sequence[torch.Tensor]) -> torch.Tensor:
    import torch

    return torch.stack([vector.float() for vector in vectors])


def _correlation(own: np.ndarray, original: np.ndarray) -> float:
    """Pearson's correlation over items; NaN where one side does not vary."""
    if np.ptp(own) == 0 or np.ptp(original) == 0:
        return float("nan")
    return float(np.corrcoef(own, original)[0, 1])
