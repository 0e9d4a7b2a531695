"""What figures 1 to 4 and table 1 of Mayne et al. 2024 show, as tables: norms, most active features, the default
component, and the two features by which a negative part of the vector goes wrong.

An autoencoder's pre-activation is a projection plus a constant: pre(x) = x @ W_enc + pre(0). The projection is what
the vector itself says; pre(0) is the encoder bias, or what is left of it where a file subtracts the decoder bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from steerkit.decomposition import top_features

if TYPE_CHECKING:
    import torch

    from companion.mayne.activations import Contrast, Plain
    from steerkit.sae import Sae

VECTOR, SCALED, POSITIVE, NEGATIVE, PLAIN, ZERO = (
    "vector", "vector, scaled", "positive", "negative", "plain text", "zero",
)  # fmt: skip
BINS = 60
OFTEN = 0.1  # share of the negative answers' tokens on which the truly negative feature is active, at least
RARELY = 0.05  # share of the tokens of either side on which the spurious feature is active, at most
RULE = (
    f"Negative features: active on at least {OFTEN:.0%} of the negative answers' tokens, on average more active on them than on "
    "the positive ones, not activated by the vector, which points against their encoder direction. Spurious features: active on "
    f"at most {RARELY:.0%} of the tokens of either side, but activated by the vector at the median norm of activations, which "
    "points along their encoder direction. Of all pairs of the two, the one in which most of the negative part is carried over: "
    "the projection on the negative feature times the cosine of both encoder directions."
)


@dataclass(frozen=True)
class Component:
    """The default component: a feature, its pre-activation at zero, its threshold, and projections by source.

    `table` has the columns what (vector; vector, scaled; positive; negative; plain text) and projection.
    """

    feature: int
    offset: float
    threshold: float
    table: pd.DataFrame


@dataclass(frozen=True)
class Sign:
    """One of the two features of Figure 4 and what the vector does to it."""

    role: str
    feature: int
    projection: float  # of the vector on the encoder direction
    offset: float  # pre-activation at zero
    threshold: float
    activation: float  # of the vector
    active_positive: float  # share of answer tokens
    active_negative: float
    scaled: float  # pre-activation of the vector at the norm of activations


@dataclass(frozen=True)
class Signs:
    """The truly negative feature, the spurious one, their cosines, and pre-activations of all answer tokens.

    `table`: role, feature, side, pre_activation.
    """

    negative: Sign
    spurious: Sign
    cosine_encoder: float
    cosine_decoder: float
    table: pd.DataFrame


def usual_norm(plain: Plain) -> float:
    """The norm that "scaled" means: the median over tokens of plain text; a few sinks would carry a mean away."""
    return float(np.median(plain.norms))


def norms(contrast: Contrast, plain: Plain) -> pd.DataFrame:
    """Figure 1: histograms of norms, and the norm of the vector.

    Returns
    -------
    DataFrame
        Columns what, low, high, count: bins on a logarithmic scale of plain text, positive and negative answers, and
        the vector as a bin without width. `attrs`: vector (norm), below (share of plain tokens with a smaller norm),
        median (of plain text).
    """
    sides = {
        PLAIN: plain.norms,
        POSITIVE: contrast.positive_tokens.norm(dim=1).numpy(),
        NEGATIVE: contrast.negative_tokens.norm(dim=1).numpy(),
    }
    everything = np.concatenate(list(sides.values()))
    edges = np.geomspace(everything.min() * 0.999, everything.max() * 1.001, BINS + 1)
    rows = []
    for what, values in sides.items():
        counts, _ = np.histogram(values, edges)
        rows += [(what, low, high, n) for low, high, n in zip(edges, edges[1:], counts, strict=False) if n]
    length = float(contrast.vector.norm())
    table = pd.DataFrame([*rows, (VECTOR, length, length, 1)], columns=["what", "low", "high", "count"])
    below = float((plain.norms < length).mean())
    table.attrs = {"vector": length, "below": below, "median": usual_norm(plain)}
    return table


def most_active(vectors: Mapping[str, torch.Tensor], sae: Sae, count: int = 5) -> pd.DataFrame:
    """Figure 2 and Table 1: the most active features of some inputs [d] and of the zero vector.

    Returns
    -------
    DataFrame
        Columns input, rank, feature, activation, at_zero (the activation of the same feature at zero), in_zero (whether
        it is among the most active ones of the zero vector). Inputs with fewer active features have fewer rows; an
        input without any has none.
    """
    import torch

    nothing = torch.zeros(sae.width)
    at_zero, usual = sae.encode(nothing).numpy(), set(top_features(sae, nothing, count)["feature"])
    parts = []
    for name, vector in {**vectors, ZERO: nothing}.items():
        found = top_features(sae, vector, count)
        found = found.assign(
            input=name,
            at_zero=at_zero[found["feature"].to_numpy(dtype=int)],
            in_zero=found["feature"].isin(usual),
        )
        parts.append(found)
    columns = ["input", "rank", "feature", "activation", "at_zero", "in_zero"]
    return pd.concat(parts, ignore_index=True)[columns]


def default_feature(sae: Sae) -> int:
    """The feature with the highest pre-activation at zero: 4888 in the paper."""
    import torch

    return int(sae.pre_activations(torch.zeros(sae.width)).argmax())


def default_component(contrast: Contrast, plain: Plain, sae: Sae, feature: int | None = None) -> Component:
    """Figure 3: projections on the encoder direction of one feature, by default the one that is most active at zero."""
    chosen = default_feature(sae) if feature is None else feature
    direction = sae.W_enc[:, chosen]
    vector = contrast.vector
    sides = {
        VECTOR: vector[None],
        SCALED: (vector * (usual_norm(plain) / vector.norm()))[None],
        POSITIVE: contrast.positive_tokens,
        NEGATIVE: contrast.negative_tokens,
        PLAIN: plain.values,
    }
    rows = [(what, value) for what, x in sides.items() for value in (x @ direction).tolist()]
    table = pd.DataFrame(rows, columns=["what", "projection"])
    return Component(chosen, float(offsets(sae)[chosen]), float(thresholds(sae)[chosen]), table)


def offsets(sae: Sae) -> np.ndarray:
    """pre(0), [f]: what the zero vector gets."""
    import torch

    return sae.pre_activations(torch.zeros(sae.width)).numpy()


def thresholds(sae: Sae) -> np.ndarray:
    """What a pre-activation has to exceed, [f]; zeros where the autoencoder has no thresholds."""
    return np.zeros(sae.n_features) if sae.threshold is None else sae.threshold.numpy()


def signs(contrast: Contrast, sae: Sae, norm: float) -> Signs | None:
    """Figure 4, by `RULE`; None where no feature meets it.

    Parameters
    ----------
    norm : the norm of activations, for the vector scaled to it
    """
    active = {
        POSITIVE: sae.encode(contrast.positive_tokens).numpy(),
        NEGATIVE: sae.encode(contrast.negative_tokens).numpy(),
    }
    often = {side: (found > 0).mean(0) for side, found in active.items()}
    vector = contrast.vector
    longer = vector * (norm / vector.norm())
    projection = (vector @ sae.W_enc).numpy()
    rare = (often[POSITIVE] <= RARELY) & (often[NEGATIVE] <= RARELY) & (sae.encode(longer) > 0).numpy()
    more = (often[NEGATIVE] >= OFTEN) & (active[NEGATIVE].mean(0) > active[POSITIVE].mean(0))
    lost = more & (sae.encode(vector) == 0).numpy()
    pair = _pair(
        sae, projection, np.flatnonzero(lost & (projection < 0)), np.flatnonzero(rare & (projection > 0))
    )
    if pair is None:
        return None
    scaled = sae.pre_activations(longer)
    both = dict(zip(("negative", "spurious"), pair, strict=True))
    found = [
        Sign(
            role,
            j,
            float(projection[j]),
            float(offsets(sae)[j]),
            float(thresholds(sae)[j]),
            float(sae.encode(vector)[j]),
            float(often[POSITIVE][j]),
            float(often[NEGATIVE][j]),
            float(scaled[j]),
        )
        for role, j in both.items()
    ]
    rows = [
        (role, j, side, value)
        for role, j in both.items()
        for side, x in ((POSITIVE, contrast.positive_tokens), (NEGATIVE, contrast.negative_tokens))
        for value in sae.pre_activations(x)[:, j].tolist()
    ]
    table = pd.DataFrame(rows, columns=["role", "feature", "side", "pre_activation"])
    first, second = ([j] for j in pair)
    cosines = [_cosines(each, first, second).item() for each in (sae.W_enc.T, sae.W_dec)]
    return Signs(*found, *cosines, table)


def _pair(
    sae: Sae, projection: np.ndarray, negative: np.ndarray, spurious: np.ndarray
) -> tuple[int, int] | None:
    """Of the candidates, the two between which most is carried over; None where no two are opposite."""
    carried = projection[negative][:, None] * _cosines(sae.W_enc.T, negative, spurious)
    if carried.max(initial=0) <= 0:
        return None
    first, second = np.unravel_index(carried.argmax(), carried.shape)
    return int(negative[first]), int(spurious[second])


def _cosines(rows: torch.Tensor, some: Sequence[int], others: Sequence[int]) -> np.ndarray:
    """Cosines of some rows with others, [a, b]."""
    first, second = rows[some], rows[others]
    lengths = first.norm(dim=1)[:, None] * second.norm(dim=1)
    return ((first @ second.T) / lengths.clamp_min(1e-12)).numpy()
