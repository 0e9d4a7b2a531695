"""The claims of Mayne et al. 2024, in the form of `companion.claims`: published, ours, rule, verdict.

Intervals are 95% over vectors of resampled training pairs, or over test groups where the model is steered. A claim
that a small model or another autoencoder does not bear out says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd

from companion import published as published_mayne
from companion.claims import Claim, Found, claim, interval, judged
from companion.mayne import activations as mayne
from companion.mayne import decompositions
from companion.mayne import features as mayne_features
from companion.mayne.activations import Case, Contrast, Plain
from companion.profiles import Settings

RESAMPLES = 20  # vectors behind an interval; they cost no model run
TOP = 5

said = partial(interval, digits=".3g")


def table(settings: Settings, formats: Sequence[str] = ("statement",), sae: str = "") -> pd.DataFrame:
    """One row a claim and format, columns as in `companion.claims.table`; for a model with an autoencoder."""
    cases = [mayne.case(settings, answer_format=form, sae=sae) for form in formats]
    return pd.concat([judged(CLAIMS, Evidence(case), case.format) for case in cases], ignore_index=True)


@dataclass(frozen=True)
class Evidence:
    """What the claims are judged on, for one answer format."""

    case: Case

    @cached_property
    def contrast(self) -> Contrast:
        """Activations of the corrigibility answers."""
        return mayne.contrast(self.case)

    @cached_property
    def plain(self) -> Plain:
        """Activations of plain text."""
        return mayne.plain(self.case)

    @cached_property
    def resamples(self) -> list[Contrast]:
        """Training pairs drawn again."""
        return self.contrast.resamples(RESAMPLES, self.case.settings.seed)

    def interval(self, measure: Callable[[Contrast], float]) -> tuple[float, float, float]:
        """A number of the vector, and its 95% interval."""
        low, high = np.quantile([measure(each) for each in self.resamples], [0.025, 0.975])
        return measure(self.contrast), float(low), float(high)


CLAIMS: list[Claim] = []
BELOW_PLAIN = "norms of 97.5% of vectors of resampled pairs below the 1st percentile of plain tokens"


@claim(CLAIMS, "mayne-fig-1", BELOW_PLAIN)
def norm_out_of_distribution(e: Evidence) -> Found:
    """The norm of the steering vector lies far below those of activations."""
    length, low, high = e.interval(lambda each: float(each.vector.norm()))
    first, middle = np.quantile(e.plain.norms, [0.01, 0.5])
    # No interval around the norm: a mean of resampled pairs has more noise in it, and noise makes it longer.
    ours = f"vector {length:.3g}, vectors of resampled pairs {low:.3g} to {high:.3g}; "
    ours += f"tokens of plain text: 1% below {first:.3g}, median {middle:.3g}"
    theirs = "far below the distribution over 200,000 tokens; the norm itself was not found"
    return theirs, ours, high < first


@claim(CLAIMS, "mayne-fig-2", f"at least {published_mayne.shared_features()} of {TOP} features in both")
def bias_dominates(e: Evidence) -> Found:
    """The encoder bias decides: the vector's most active features are those of the zero vector."""

    def shared(each: Contrast) -> float:
        found = mayne_features.most_active({"vector": each.vector}, e.case.sae, TOP)
        return float(found.loc[found["input"] == "vector", "in_zero"].sum())

    both, theirs = e.interval(shared), published_mayne.shared_features()
    ending = f"of {TOP} features in both"
    return f"{theirs} {ending}", f"{said(both)} {ending}", both[0] >= theirs


SAME_FIRST = "the first feature is that of the zero vector for every vector, and the median shares 4 of 5"


@claim(CLAIMS, "mayne-tab-1", SAME_FIRST)
def same_features(e: Evidence) -> Found:
    """Different steering vectors have the same most active features."""
    vectors = {name: mayne.contrast(e.case.of(name)).vector for name in mayne.SEVEN}
    found = mayne_features.most_active(vectors, e.case.sae, TOP)
    counts = found.groupby("input")["in_zero"].sum().reindex(list(vectors), fill_value=0)
    first = found[found["rank"] == 1].set_index("input")["feature"].reindex([*vectors, mayne_features.ZERO])
    same = int((first == first[mayne_features.ZERO]).iloc[:-1].sum())
    ours = f"of {TOP} features, {counts.min()} to {counts.max()} are those of the zero vector, median "
    ours += f"{counts.median():g}; the first is the same in {same} of {len(vectors)} vectors"
    theirs = "the same features each time (values of the other vectors not found)"
    return theirs, ours, same == len(vectors) and counts.median() >= 4


ABOVE_PLAIN = "interval of the scaled vector's projection above the 97.5th percentile of plain tokens"


@claim(CLAIMS, "mayne-fig-3", ABOVE_PLAIN)
def rescaling_does_not_help(e: Evidence) -> Found:
    """Scaled to the norm of activations the vector still lacks their default component."""
    norm, feature = mayne_features.usual_norm(e.plain), mayne_features.default_feature(e.case.sae)
    direction = e.case.sae.W_enc[:, feature]
    scaled = e.interval(lambda each: float(each.vector @ direction / each.vector.norm()) * norm)
    middle, high = np.quantile((e.plain.values @ direction).numpy(), [0.5, 0.975])
    number, bias = published_mayne.default_component()
    theirs = f"feature {number} (bias {bias:.2f}): text strongly negative, the scaled vector not"
    ours = f"feature {feature}: scaled vector {said(scaled)}, "
    ours += f"plain text median {middle:.3g}, 97.5% below {high:.3g}"
    return theirs, ours, scaled[1] > high


OPPOSITE = "intervals of the projections below and above 0, activation of the first 0, cosine below -0.5"


@claim(CLAIMS, "mayne-fig-4", OPPOSITE)
def negatives_turn_spurious(e: Evidence) -> Found:
    """Negative parts of the vector are cut to zero and appear as positive parts of opposite features."""
    negative, spurious, cosine = published_mayne.signs()
    theirs = f"feature {negative} gets 0.00; feature {spurious}, cosine {cosine:.2f}, gets a positive part"
    norm, sae = mayne_features.usual_norm(e.plain), e.case.sae
    pair = mayne_features.opposite_pair(e.contrast, sae, norm)
    if pair is None:
        return theirs, "no pair of features meets the rule of Figure 4", False
    rows = mayne_features.pair_numbers(e.contrast, sae, norm, pair)
    activation = rows["activation of the vector"][0]
    cosines = rows.loc[0, ["cosine, encoder", "cosine, decoder"]]
    directions = (sae.W_enc[:, feature] for feature in pair)
    first, second = (e.interval(lambda each, to=to: float(each.vector @ to)) for to in directions)
    ours = f"projection on feature {pair[0]} {said(first)}, activation {activation:.2f}; "
    ours += f"on feature {pair[1]} {said(second)}; "
    ours += f"cosine encoder {cosines.iloc[0]:.2f}, decoder {cosines.iloc[1]:.2f}"
    return theirs, ours, first[2] < 0 < second[1] and activation == 0 and cosines.min() < -0.5


LESS = "interval of the difference below 0, where the vector's own interval is above 0"


@claim(CLAIMS, "mayne-ext-decompose", LESS)
def reconstruction_loses_power(e: Evidence) -> Found:
    """What the autoencoder reconstructs of the vector steers less than the vector."""
    options = decompositions.options(e.case, mayne_features.usual_norm(e.plain))
    rows = decompositions.behaviour(e.case, options).set_index("vector")
    own, left = rows.loc[decompositions.ORIGINAL], rows.loc[decompositions.AUTOENCODER]
    named = ["estimate", "low", "high"]
    apart = said(left[["difference", "difference_low", "difference_high"]])
    ours = f"vector {said(own[named])}, reconstruction {said(left[named])}, difference {apart}"
    if not own["low"] > 0:
        return "stated without a number", f"{ours}; the vector itself does not steer", None
    return "stated without a number", ours, left["difference_high"] < 0
