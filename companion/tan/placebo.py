"""What a vector is set against: slopes at multiplier 0 of vectors that the labels have nothing to do with.

One gradient a test example (`steerkit.gradient`) gives the slope of every vector there is. Vectors are those of the
data set itself, `full`; `resample-*`, from training pairs drawn again, the noise of extraction; `pca` and `logistic`,
two other ways to a direction; and three kinds of placebo. All but the resampled ones have the norm of `full`, and every
data set has seeds of its own:

    shuffled-*   the same differences with labels drawn at random: the null of "the labels mean nothing"
    other-*      the vectors of other data sets of the run: the null of "any behaviour would do"
    random-*     isotropic directions, which leave the space in which activations vary: what a norm does
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from steerkit.prompts import Example
from steerkit.vectors import Vectors, concatenate, norm_matched_random, scaled

if TYPE_CHECKING:
    import torch

RESAMPLED, SHUFFLED, OTHERS, RANDOM = 20, 99, 4, 20


def vectors_beside(
    found: torch.Tensor, full: Vectors, others: Sequence[Vectors], groups: Sequence[int], seed: int
) -> Vectors:
    """The vector and all that it is set against, from training differences [p, 1, d] with their groups."""
    from steerkit import extraction

    layers = full.layers
    named = [replace(each, names=(f"other-{i:02d}",)) for i, each in enumerate(others)]
    return concatenate(
        full,
        extraction.resampled(found, layers, RESAMPLED, seed, groups=groups),
        extraction.shuffled(found, layers, SHUFFLED, seed, groups=groups),
        *(scaled(each, full) for each in (*named, *other_directions(found, layers))),
        norm_matched_random(full, RANDOM, seed),
    )


def other_directions(found: torch.Tensor, layers: tuple[int, ...]) -> list[Vectors]:
    """Directions by other rules from the same differences [p, 1, d] (Tan et al. 2024, appendix D.4): the first principal
    component of them and their negatives, with the sign of the mean; and the weights of a logistic regression without
    intercept that tells them from their negatives."""
    import torch
    from sklearn.linear_model import LogisticRegression

    rows = found[:, 0].double()
    component = torch.linalg.svd(rows, full_matrices=False).Vh[0]
    component = component * (component @ rows.mean(0)).sign()
    both = torch.cat([rows, -rows]) / rows.norm(dim=1).mean()
    fit = LogisticRegression(fit_intercept=False).fit(both, [1] * len(rows) + [0] * len(rows))
    named = {"pca": component, "logistic": torch.from_numpy(fit.coef_[0])}
    return [Vectors((name,), layers, value.float()[None, None]) for name, value in named.items()]


def slopes_at_zero(gradients: torch.Tensor, vectors: Vectors, examples: Sequence[Example]) -> pd.DataFrame:
    """PLACEBO table: example_id, vector and slope, score per unit multiplier at multiplier 0.

    `gradients` are [p, d], one row an example.
    """
    slopes = gradients @ vectors.values[:, 0].T
    wide = pd.DataFrame(slopes.numpy(), [one.id for one in examples], vectors.names)
    long = wide.rename_axis(index="example_id", columns="vector").stack().rename("slope")
    return long.reset_index()
