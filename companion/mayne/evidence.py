"""What the claims of Mayne et al. 2024 are judged on: activations, plain text, gradients of test examples."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from companion.mayne import activations
from companion.mayne.activations import Case, Contrast, Plain
from companion.mayne.draws import Groups, Measure, grouped
from companion.verdicts import Effect, said
from steerkit.sae import Sae
from steerkit.stats import mean_interval


@dataclass(frozen=True)
class Evidence:
    """What the claims are judged on, for one answer format and autoencoder."""

    case: Case
    sae: Sae

    @cached_property
    def contrast(self) -> Contrast:
        """Activations of the corrigibility answers."""
        return activations.contrast(self.case)

    @cached_property
    def groups(self) -> Groups:
        """Their differences by training group."""
        return grouped(self.contrast.means, self.contrast.groups)

    @cached_property
    def plain(self) -> Plain:
        """Activations of plain text."""
        return activations.plain(self.case)

    @cached_property
    def others(self) -> list[Groups]:
        """The seven behaviours of Table 1."""
        found = (activations.contrast(self.case.of(name)) for name in activations.SEVEN)
        return [grouped(each.means, each.groups) for each in found]

    @cached_property
    def gradients(self) -> np.ndarray:
        """Gradient of the propensity, [g, d], mean of each test group: its product with a vector is the slope at zero."""
        rows = activations.gradients(self.case)
        labels = activations.example_groups(self.case, list(rows.index))
        return rows.groupby(np.asarray(labels)).mean().to_numpy(dtype=float)

    def slopes(self, vectors: torch.Tensor) -> np.ndarray:
        """By test group and vector [g, n], in units of the mean slope of the steering vector."""
        found = self.gradients @ vectors.double().numpy().T
        return found / (self.gradients @ self.groups.vector.double().numpy()).mean()

    def effect(self, measure: Measure) -> Effect:
        """What a measure says of the steering vector."""
        return self.groups.effect(measure, np.random.default_rng(self.case.settings.seed))

    @cached_property
    def silent(self) -> str:
        """Why nothing about steering can be tested: the vector itself does not steer; else empty."""
        own = mean_interval(self.gradients @ self.groups.vector.double().numpy())
        return "" if own.low > 0 else f"the vector itself does not steer: slope at zero {said(own, '.3g')}"
