"""Vectors that a steering vector is set against, all of them sums of the same training differences, and t intervals.

A vector is a sum over training groups, so that those of groups drawn again, of labels drawn at random and of another
direction with the same scatter need no model run: they are the same differences with other weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from companion.verdicts import Effect
from steerkit.errors import need
from steerkit.stats import t_interval

RESAMPLES = 200  # vectors of training groups drawn again behind one interval
Measure = Callable[[torch.Tensor], torch.Tensor]  # vectors [n, d] -> numbers [n]


@dataclass(frozen=True)
class Groups:
    """Differences of the training examples, added up over each of g groups [g, d], and the sizes of the groups [g]."""

    sums: torch.Tensor
    sizes: torch.Tensor

    @property
    def vector(self) -> torch.Tensor:
        """The steering vector [d]: the mean over examples."""
        return self.sums.sum(0) / self.sizes.sum()

    def resampled(self, rng: np.random.Generator, count: int = RESAMPLES) -> torch.Tensor:
        """Vectors [count, d] of groups drawn with replacement."""
        n = len(self.sums)
        times = torch.from_numpy(rng.multinomial(n, np.full(n, 1 / n), size=count)).float()
        return times @ self.sums / (times @ self.sizes)[:, None]

    def shuffled(self, rng: np.random.Generator, same_norm: bool = True) -> Groups:
        """The same with labels drawn at random, group by group; the vector as long as it was, unless said otherwise."""
        signs = torch.from_numpy(rng.choice([-1.0, 1.0], size=(len(self.sums), 1))).float()
        mixed = replace(self, sums=signs * self.sums)
        scale = self.vector.norm() / mixed.vector.norm() if same_norm else 1.0
        return replace(mixed, sums=scale * mixed.sums)

    def isotropic(self, rng: np.random.Generator) -> Groups:
        """The same scatter around a direction drawn at random, as long as the vector."""
        noise = torch.from_numpy(rng.standard_normal(len(self.vector))).float()
        moved = noise * (self.vector.norm() / noise.norm()) - self.vector
        return replace(self, sums=self.sums + self.sizes[:, None] * moved)

    def effect(self, measure: Measure, rng: np.random.Generator) -> Effect:
        """What `measure` says of the vector; a t interval with the scatter over resampled vectors as standard error."""
        estimate = float(measure(self.vector[None])[0])
        return t_interval(estimate, float(measure(self.resampled(rng)).double().std()), len(self.sums) - 1)


def grouped(means: torch.Tensor, groups: np.ndarray) -> Groups:
    """From the mean activations [p, 2, d] of both sides of p training examples, with a label an example."""
    labels, member = np.unique(groups, return_inverse=True)
    expected, step = "at least two groups of training examples", "train on more pairs."
    need(len(labels) >= 2, expected, f"{len(labels)}", step, done="Nothing was judged.")
    sums = torch.zeros(len(labels), means.shape[-1])
    sums.index_add_(0, torch.from_numpy(member), means[:, 0] - means[:, 1])
    return Groups(sums, torch.bincount(torch.from_numpy(member)).float())


def smallest(effects: list[Effect]) -> Effect:
    """Of effects that all have to be there, the one least sure to be: a claim about all of them holds if it does."""
    return min(effects, key=lambda one: one.low)
