"""Features of a vector, as the figures of Mayne et al. 2024 and the claims read them.

An autoencoder's pre-activation is a projection plus a constant: pre(x) = x @ W_enc + pre(0). The projection is what
the vector itself says; pre(0) is the encoder bias, or what is left of it where a file subtracts the decoder bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from steerkit.decomposition import top_features

if TYPE_CHECKING:
    from companion.mayne.activations import Contrast, Plain
    from steerkit.sae import Sae

PLAIN, POSITIVE, NEGATIVE = "plain text", "positive", "negative"
VECTOR, SCALED, ZERO = "vector", "vector, scaled", "zero"
OFTEN, RARELY = 0.1, 0.05  # the rule of figure 4, see `opposite_pair`


def usual_norm(plain: Plain) -> float:
    """The norm that "scaled" means: the median over tokens of plain text; a few sinks would carry a mean away."""
    return float(np.median(plain.norms))


def most_active(vectors: Mapping[str, torch.Tensor], sae: Sae, count: int = 5) -> pd.DataFrame:
    """The most active features of some inputs [d] and of zero: input, rank, feature, activation, in_zero.

    Inputs with fewer active features have fewer rows; an input without any has none.
    """
    inputs = {**vectors, ZERO: torch.zeros(sae.width)}
    found = pd.concat({name: top_features(sae, x, count) for name, x in inputs.items()}, names=["input"])
    found = found.reset_index("input").reset_index(drop=True)
    return found.assign(in_zero=found["feature"].isin(found.loc[found["input"] == ZERO, "feature"]))


def at_zero(sae: Sae) -> torch.Tensor:
    """pre(0), [f]: what the zero vector gets."""
    return sae.pre_activations(torch.zeros(sae.width))


def threshold(sae: Sae, feature: int) -> float:
    """What the pre-activation of a feature has to exceed; 0 where the autoencoder has no thresholds."""
    return 0.0 if sae.threshold is None else float(sae.threshold[feature])


def default_feature(sae: Sae) -> int:
    """The feature with the highest pre-activation at zero: 4888 in the paper."""
    return int(at_zero(sae).argmax())


def opposite_pair(
    answers: Contrast, sae: Sae, norm: float, often: float = OFTEN, rarely: float = RARELY
) -> tuple[int, int] | None:
    """A feature of which the vector has a negative part, and the spurious one where most of it shows up; or None.

    `companion.figures.autoencoder.rule` says it in words; `norm` is that of activations.
    """
    positive, negative, vector = sae.encode(answers.positive), sae.encode(answers.negative), answers.vector
    along, longer = vector @ sae.W_enc, vector * (norm / vector.norm())
    on_positive, on_negative = ((side > 0).float().mean(0) for side in (positive, negative))
    less = (on_negative >= often) & (negative.mean(0) > positive.mean(0))
    less &= (sae.encode(vector) == 0) & (along < 0)
    more = (on_positive <= rarely) & (on_negative <= rarely) & (sae.encode(longer) > 0) & (along > 0)
    directions = torch.nn.functional.normalize(sae.W_enc.T, dim=1)
    carried = along[less, None] * (directions[less] @ directions[more].T)
    if not (carried > 0).any():
        return None
    first, second = divmod(int(carried.argmax()), carried.shape[1])
    return int(less.nonzero()[first]), int(more.nonzero()[second])


def pair_numbers(answers: Contrast, sae: Sae, norm: float, pair: tuple[int, int]) -> pd.DataFrame:
    """What the vector does to both features of figure 4: one row each, the truly negative one first."""
    vector, features = answers.vector, list(pair)
    sides, directions = (answers.positive, answers.negative), (sae.W_enc.T, sae.W_dec)
    active = [(sae.encode(side)[:, features] > 0).double().mean(0).tolist() for side in sides]
    cosines = [float(torch.cosine_similarity(*rows[features], dim=0)) for rows in directions]
    scaled = sae.pre_activations(vector * (norm / vector.norm()))
    numbers = {
        "feature": ["truly negative", "spurious"],
        "ours": features,
        "projection of the vector": (vector @ sae.W_enc)[features].tolist(),
        "pre-activation at zero": at_zero(sae)[features].tolist(),
        "threshold": [threshold(sae, feature) for feature in features],
        "activation of the vector": sae.encode(vector)[features].tolist(),
        "scaled vector, pre-activation": scaled[features].tolist(),
        "active on positive answers": active[0],
        "active on negative answers": active[1],
        "cosine, encoder": cosines[0],
        "cosine, decoder": cosines[1],
    }
    return pd.DataFrame(numbers)
