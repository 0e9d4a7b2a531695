"""Features of a vector, as the figures of Mayne et al. 2024 and the claims read them.

An autoencoder's pre-activation is a projection plus a constant: pre(x) = x @ W_enc + pre(0). The projection is what
the vector itself says; pre(0) is the encoder bias, or what is left of it where a file subtracts the decoder bias.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from companion.mayne.activations import Contrast, Plain
from steerkit.sae import Sae

PLAIN, POSITIVE, NEGATIVE = "plain text", "positive", "negative"
VECTOR, SCALED, ZERO = "vector", "vector, scaled", "zero"
OFTEN, RARELY, OPPOSITE = 0.1, 0.05, -0.5  # the rule of figure 4, see `Opposites.qualifying`
CHOOSE, JUDGE = slice(0, None, 2), slice(1, None, 2)  # training groups: every other one chooses the pair


def usual_norm(plain: Plain) -> float:
    """The norm that "scaled" means: the median over tokens of plain text; a few sinks would carry a mean away."""
    return float(np.median(plain.norms))


def at_zero(sae: Sae) -> torch.Tensor:
    """pre(0), [f]: what the zero vector gets."""
    return sae.pre_activations(torch.zeros(sae.width))


def threshold(sae: Sae, feature: int) -> float:
    """What the pre-activation of a feature has to exceed; 0 where the autoencoder has no thresholds."""
    return 0.0 if sae.threshold is None else float(sae.threshold[feature])


def shared_with_zero(vectors: torch.Tensor, sae: Sae, count: int = 5) -> torch.Tensor:
    """How many of the `count` most active features of each vector [n, d] are among those of the zero vector, [n]."""
    values, found = sae.encode(torch.cat([torch.zeros(1, sae.width), vectors])).topk(count)
    usual = found[0][values[0] > 0]
    return (torch.isin(found[1:], usual) & (values[1:] > 0)).sum(1).float()


def dose_counts(vectors: Mapping[str, torch.Tensor], sae: Sae, norms: Sequence[float]) -> pd.DataFrame:
    """Features shared with zero by every vector [n, d] of each kind at each norm: what, draw, norm, shared."""
    parts = []
    for what, some in vectors.items():
        units = some / some.norm(dim=1, keepdim=True)
        for norm in norms:
            found = {"draw": range(len(units)), "shared": shared_with_zero(norm * units, sae).numpy()}
            parts.append(pd.DataFrame(found).assign(what=what, norm=norm))
    return pd.concat(parts, ignore_index=True)[["what", "draw", "norm", "shared"]]


def outside(plain: Plain, sae: Sae) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function of inputs [n, d]: of how large a share of all features their projections lie outside the middle 95% of
    those of every other token of plain text (`held` are the rest), [n]."""
    known = (plain.values[::2] @ sae.W_enc).numpy()
    ends = np.quantile(known, [0.025, 0.975], axis=0).astype("float32")
    low, high = map(torch.from_numpy, ends)

    def share(inputs: torch.Tensor) -> torch.Tensor:
        along = inputs @ sae.W_enc
        return ((along < low) | (along > high)).float().mean(1)

    return share


def held(plain: Plain) -> torch.Tensor:
    """The tokens of plain text that `outside` has not seen."""
    return plain.values[1::2]


def rarely_active(answers: Contrast, sae: Sae) -> torch.Tensor:
    """Which features are active on at most `RARELY` of the tokens of either side's answers, [f]."""
    active = [(sae.encode(side) > 0).float().mean(0) for side in (answers.positive, answers.negative)]
    return (active[0] <= RARELY) & (active[1] <= RARELY)


@dataclass(frozen=True)
class Opposites:
    """Pairs of features with opposite encoder directions, and what each of g training groups says of them.

    `pairs` [2, n]; `along`, projections of the mean difference [g, 2, n]; `active`, share of tokens [g, side, 2, n], and
    `level`, mean activation of the first feature [g, side, n], side 0 the positive one; `differences` [g, d].
    """

    pairs: torch.Tensor
    cosines: torch.Tensor
    along: torch.Tensor
    active: torch.Tensor
    level: torch.Tensor
    differences: torch.Tensor
    zero: torch.Tensor
    threshold: torch.Tensor
    norm: float

    def flipped(self, signs: torch.Tensor) -> Opposites:
        """The same with both sides of every group exchanged whose sign [g] is -1."""
        swap, signs = signs < 0, signs.float()
        active, level = self.active.clone(), self.level.clone()
        active[swap], level[swap] = active[swap].flip(1), level[swap].flip(1)
        along, differences = signs[:, None, None] * self.along, signs[:, None] * self.differences
        return replace(self, active=active, level=level, along=along, differences=differences)

    def qualifying(self, members: slice, often: float = OFTEN, rarely: float = RARELY) -> torch.Tensor:
        """How much is carried over, [n], 0 where a pair does not meet the rule of `companion.figures.autoencoder.rule`."""
        along, active, level = (each[members].mean(0) for each in (self.along, self.active, self.level))
        longer = self.norm / self.differences[members].mean(0).norm()
        less = (active[1, 0] >= often) & (level[1] > level[0])
        less &= (along[0] < 0) & (along[0] + self.zero[0] <= self.threshold[0])
        more = (active[:, 1] <= rarely).all(0)
        more &= (along[1] > 0) & (longer * along[1] + self.zero[1] > self.threshold[1])
        return torch.where(less & more, along[0] * self.cosines, 0.0)

    def chosen(self, members: slice, often: float = OFTEN, rarely: float = RARELY) -> int | None:
        """The pair in which most is carried over; None where none qualifies."""
        carried = self.qualifying(members, often, rarely)
        return int(carried.argmax()) if (carried > 0).any() else None

    def held(self, pair: int, members: slice) -> np.ndarray:
        """By group [m, 3], each to be above 0: minus the projection on the first, the projection on the second, and how
        much more active the first feature is on negative answers."""
        first, second = self.along[members, :, pair].T
        level = self.level[members, :, pair]
        return torch.stack([-first, second, level[:, 1] - level[:, 0]], 1).double().numpy()


def opposites(answers: Contrast, sae: Sae, norm: float) -> Opposites:
    """All pairs of features whose encoder directions have a cosine below `OPPOSITE`; `norm` is that of activations."""
    directions = torch.nn.functional.normalize(sae.W_enc.T, dim=1)
    found = [(part @ directions.T < OPPOSITE).nonzero() for part in directions.split(1024)]
    pairs = torch.cat([each + torch.tensor([1024 * i, 0]) for i, each in enumerate(found)]).T
    cosines = (directions[pairs[0]] * directions[pairs[1]]).sum(1)
    labels = np.unique(answers.groups)
    members = [torch.from_numpy(np.flatnonzero(answers.groups == label)) for label in labels]
    differences = torch.stack([(answers.means[i, 0] - answers.means[i, 1]).mean(0) for i in members])
    along = torch.stack([differences @ sae.W_enc[:, side] for side in pairs], 1)
    tokens = (answers.parts[i].transpose(0, 1).flatten(1, 2) for i in members)  # [side, tokens, d] each
    features = [sae.encode(each) for each in tokens]
    active = torch.stack([torch.stack([(f[..., s] > 0).float().mean(1) for s in pairs], 1) for f in features])
    level = torch.stack([f[..., pairs[0]].mean(1) for f in features])
    limits = torch.zeros(sae.n_features) if sae.threshold is None else sae.threshold
    both = (torch.stack([each[side] for side in pairs]) for each in (at_zero(sae), limits))
    return Opposites(pairs, cosines, along, active, level, differences, *both, norm)


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
