"""Beyond Mayne et al. 2024: which decomposition of a steering vector is any good, judged three ways.

Reconstruction: how much of the vector is there with n features. Behaviour: does the model answer to the reconstruction
as it does to the vector. Stability: do resampled training pairs give the same features. Two baselines go with all
three: a random vector of equal norm, and a dictionary with shuffled coordinates (`companion.mayne.baselines.shuffled`).
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch

from companion.mayne import activations
from companion.mayne.activations import CODE, Case, Contrast, contrast, kept
from companion.mayne.baselines import overlap, random_like, reconstruct, reconstruction_curve, shuffled
from companion.mayne.solvers import METHODS
from companion.tan.dose import neutral_tokens
from steerkit import Model, decompose, traces
from steerkit.errors import need
from steerkit.remote import run
from steerkit.sae import Sae

ORIGINAL, AUTOENCODER = "original vector", "autoencoder"
RANDOM, SHUFFLED = "random vector", "shuffled dictionary"
PURSUIT, DIFFERENCE = "signed-pursuit", "encode-difference"
WHOLE = f"{DIFFERENCE}, all features"
DICTIONARIES, TRIES, CLOSE = 20, 6, 0.01  # shuffled dictionaries; steps towards an equal dose, and how equal
MODULES = ("mayne/decompositions", "mayne/baselines", "mayne/solvers", "saes")
EVERY_CODE = (*CODE, *(f"companion/{name}.py" for name in MODULES))
LEVEL = (0.025, 0.975)


@dataclass(frozen=True)
class Options:
    """What is compared: scale of `encode-scaled`, features of the largest decomposition, resampled vectors."""

    target_norm: float
    n_features: int = 64
    resamples: int = 8
    methods: tuple[str, ...] = tuple(METHODS)
    seed: int = 0

    @property
    def counts(self) -> list[int]:
        """Powers of two up to `n_features`, and `n_features`."""
        return [*(2**i for i in range(20) if 2**i < self.n_features), self.n_features]


def options(case: Case, target_norm: float, n_features: int = 64, **others: Any) -> Options:
    """Options that a case allows: a small autoencoder has fewer features than asked for, and gives those it has."""
    return Options(target_norm, min(n_features, case.sae.n_features), **others)


def parse_methods(text: str) -> tuple[str, ...]:
    """Methods separated by commas; empty: all."""
    chosen = tuple(name.strip() for name in text.split(",") if name.strip()) or tuple(METHODS)
    for name in chosen:
        need(name in METHODS, f"methods among {', '.join(METHODS)}", repr(name), "separate them by commas.")
    return chosen


def curves(case: Case, options: Options) -> pd.DataFrame:
    """Explained share of the squared norm: method, n_features, explained, cosine, low, high.

    95% intervals are over vectors of resampled pairs, each compared with itself; the baselines, signed pursuit of random
    vectors and on shuffled dictionaries, have the mean and the interval over as many seeds.
    """
    return _of_options(case, options, "curves", _curves)


def stability(case: Case, options: Options) -> pd.DataFrame:
    """Mean Jaccard index of two vectors of resampled pairs: method, n_features, jaccard, low, high, resamples.

    The 95% interval is from resampling the vectors, since pairs that share one are not independent.
    """
    return _of_options(case, options, "stability", _stability)


def steering_vectors(case: Case, options: Options) -> dict[str, torch.Tensor]:
    """The vector, what each method and the autoencoder itself leave of it, and the baselines, [d] each.

    A mean of differences has thousands of features; what it would be without the limit on their number is there too.
    """
    sae, found, count = case.sae, contrast(case), options.n_features
    vector, other, more = found.vector, shuffled(sae, options.seed), _extras(found, options)
    sums = {name: reconstruct(decompose(vector, sae, name, count, **more), sae) for name in options.methods}
    if DIFFERENCE in sums:
        sums[WHOLE] = reconstruct(decompose(vector, sae, DIFFERENCE, sae.n_features, **more), sae)
    return {
        ORIGINAL: vector,
        **sums,
        AUTOENCODER: sae.decode(sae.encode(vector)),
        f"{PURSUIT}, {SHUFFLED}": reconstruct(decompose(vector, other, PURSUIT, count), other),
        RANDOM: random_like(vector, options.seed),
    }


def pursued(case: Case, sae: Sae, n_features: int = 64) -> torch.Tensor:
    """What signed pursuit makes of the vector with so many features, [1 + s, d]: on the autoencoder's own dictionary, then
    on `DICTIONARIES` shuffled ones."""
    n_features = min(n_features, sae.n_features)

    def compute(_: None) -> pd.DataFrame:
        vector, dictionaries = contrast(case).vector, [sae, *(shuffled(sae, s) for s in range(DICTIONARIES))]
        sums = (reconstruct(decompose(vector, one, PURSUIT, n_features), one) for one in dictionaries)
        return activations.frame(torch.stack(list(sums)))

    about = {"sae": sae.about(), "features": n_features}
    return activations.tensor(kept(case, "pursued", compute, about, "none", EVERY_CODE))


def equal_kl(case: Case, vector: torch.Tensor, other: torch.Tensor) -> float:
    """The multiple of `other` [d] that moves next tokens of a neutral text as much as `vector` [d] does, in KL."""

    def compute(model: Model) -> pd.DataFrame:
        tokens = neutral_tokens(model)

        def moved(*deltas: torch.Tensor) -> list[float]:
            return run(model, traces.divergences, tokens, case.layer, torch.stack(deltas))[0].tolist()

        factor = float(vector.norm() / other.norm())
        wanted, found = moved(vector, factor * other)
        for _ in range(TRIES):  # near 0 a divergence grows with the square of the dose
            if abs(found / wanted - 1) < CLOSE:
                break
            factor *= (wanted / found) ** 0.5
            [found] = moved(factor * other)
        return pd.DataFrame([{"factor": factor, "kl": found, "kl_vector": wanted}])

    digest = hashlib.sha256(torch.stack([vector, other]).numpy().tobytes()).hexdigest()
    found = kept(case, "dose", compute, {"values_sha256": digest}, code=EVERY_CODE).iloc[0]
    expected, step = "a dose with the same divergence within a fifth", "compare at equal norm."
    need(abs(found["kl"] / found["kl_vector"] - 1) < 0.2, expected, f"{found['kl']:.3g}", step)
    return float(found["factor"])


def _of_options(case: Case, options: Options, what: str, compute: Callable) -> pd.DataFrame:
    about = {"sae": case.sae.about(), "options": asdict(options)}
    return kept(case, what, lambda _: compute(case, options), about, "none", EVERY_CODE)


def _extras(found: Contrast, options: Options) -> dict:
    return {"target_norm": options.target_norm, "positive": found.positive, "negative": found.negative}


def _curves(case: Case, options: Options) -> pd.DataFrame:
    sae, found, counts = case.sae, contrast(case), options.counts
    key, seeds = ["method", "n_features"], range(max(2, options.resamples))
    main, *drawn = (
        reconstruction_curve(each.vector, sae, options.methods, counts, **_extras(each, options))
        for each in (found, *found.resamples(options.resamples, options.seed))
    )
    main = main.merge(_spread(drawn)[[*key, "low", "high"]], on=key, how="left")
    random = [reconstruction_curve(random_like(found.vector, seed), sae, [PURSUIT], counts) for seed in seeds]
    mixed = [reconstruction_curve(found.vector, shuffled(sae, seed), [PURSUIT], counts) for seed in seeds]
    named = ((RANDOM, random), (SHUFFLED, mixed))
    chance = [_spread(parts).assign(method=f"{PURSUIT}, {name}") for name, parts in named]
    return pd.concat([main, *chance], ignore_index=True)[[*key, "explained", "cosine", "low", "high"]]


def _spread(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean and 95% interval of several curves."""
    if not parts:
        return pd.DataFrame(columns=["method", "n_features", "explained", "cosine", "low", "high"])
    together = pd.concat(parts).groupby(["method", "n_features"], sort=False)
    low, high = (together["explained"].apply(pd.Series.quantile, level) for level in LEVEL)
    means = together[["explained", "cosine"]].mean()
    return means.assign(low=low, high=high).reset_index()


def _stability(case: Case, options: Options) -> pd.DataFrame:
    sae, found, n = case.sae, contrast(case), options.n_features
    drawn, other = found.resamples(max(2, options.resamples), options.seed), shuffled(sae, options.seed)
    random = [random_like(found.vector, seed) for seed in range(len(drawn))]
    tables: dict[str, list[pd.DataFrame]] = {}
    for method in options.methods:
        tables[method] = [decompose(each.vector, sae, method, n, **_extras(each, options)) for each in drawn]
    tables[f"{PURSUIT}, {SHUFFLED}"] = [decompose(each.vector, other, PURSUIT, n) for each in drawn]
    tables[f"{PURSUIT}, {RANDOM}"] = [decompose(vector, sae, PURSUIT, n) for vector in random]
    rows = [(method, n, *_mean_overlap(each, options.seed), len(drawn)) for method, each in tables.items()]
    return pd.DataFrame(rows, columns=["method", "n_features", "jaccard", "low", "high", "resamples"])


def _mean_overlap(tables: Sequence[pd.DataFrame], seed: int, draws: int = 1000) -> tuple[float, float, float]:
    """Mean Jaccard index over pairs, and its interval: tables are drawn, pairs of a table with itself left out."""
    size, rng = len(tables), np.random.default_rng(seed)
    pairs = overlap({f"{i:03d}": table for i, table in enumerate(tables)})
    matrix = np.full((size, size), np.nan)
    for (i, j), value in zip(combinations(range(size), 2), pairs["jaccard"], strict=True):
        matrix[i, j] = matrix[j, i] = value
    picks = rng.integers(size, size=(draws, size))
    picks = picks[(picks != picks[:, :1]).any(axis=1)]  # one table alone has no pair
    low, high = np.quantile([np.nanmean(matrix[np.ix_(pick, pick)]) for pick in picks], LEVEL)
    return float(pairs["jaccard"].mean()), float(low), float(high)
