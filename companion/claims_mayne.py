"""The claims of Mayne et al. 2024, in the form of `companion.verdicts`: an effect with an interval, and false worlds.

False worlds keep the training activations and take the meaning away: labels drawn at random by training group, or the
same scatter around an isotropic direction. A claim that holds of these as well is true of any short difference and says
nothing about the vector: `not specific`, with the rate.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch

from companion import published, saes, verdicts
from companion.mayne import activations, decompositions, features
from companion.mayne.baselines import shuffled
from companion.mayne.draws import Groups, Measure, smallest
from companion.mayne.evidence import Evidence
from companion.profiles import Settings
from companion.tan.tables import name_of
from companion.verdicts import OURS, Claim, Effect, Trial, claim, require
from steerkit.sae import Sae
from steerkit.stats import mean_interval, t_interval

TOP = 5  # most active features
FAR = 1.0  # doublings between a norm and the first percentile that count as far
OUTSIDE = 0.1  # of all features, beyond what plain text has
SIZE = 0.2  # of the scatter over groups: a small effect (Cohen 1988)
LOST, OWN = 0.2, 0.1  # of the vector's slope: lost in reconstruction, owed to the autoencoder's directions
DRAWS = 1000  # vectors with labels drawn at random, for their norms
LEAST_GROUPS = 8  # training groups, of which half choose and half judge
SHARED = published.shared_features()  # of those, in the paper
DEALT, JUDGED = "directions shuffled", "{verdict}: {ours}"


def table(settings: Settings, formats: Sequence[str] = ("statement",), sae: str = "") -> pd.DataFrame:
    """One row a claim and format, columns of `companion.verdicts`; for a model with an autoencoder."""
    cases = [activations.case(settings, answer_format=form, sae=sae) for form in formats]
    return verdicts.frame([row for case in cases for row in _rows(Evidence(case, case.sae))])


def by_autoencoder(settings: Settings, judged: pd.DataFrame, form: str, sae: str = "") -> pd.DataFrame:
    """The verdict on each claim (rows) by every autoencoder of the model that is here (columns): that of a `table` of
    `judged` claims first, and last again with its directions dealt at random: its biases and thresholds are trained, what
    it points at is not."""
    first, usual = activations.case(settings, answer_format=form, sae=sae), saes.default_sae(settings.model)
    own = (name for name, spec in saes.SAES.items() if spec.folder and settings.model in spec.models)
    cases = {name: activations.case(settings, answer_format=form, sae=name) for name in (usual, *own)}
    evidence = {name: Evidence(case, case.sae) for name, case in cases.items() if name != first.sae_name}
    evidence[DEALT] = Evidence(first, shuffled(first.sae, settings.seed))
    rows = {first.sae_name: judged[judged["answer_format"] == form].to_dict("records")}
    rows |= {name: _rows(each) for name, each in evidence.items()}
    found = {name: {row["statement"]: JUDGED.format_map(row) for row in some} for name, some in rows.items()}
    return pd.DataFrame(found).rename_axis("statement").reset_index()


def _worlds(measure: Measure, draw: Callable[[np.random.Generator], Groups]) -> Callable:
    """What a measure says in a world that `draw` gives."""
    return lambda rng: draw(rng).effect(measure, rng)


def _rows(e: Evidence) -> list[dict]:
    return [verdicts.judged(one, e, e.case.format, name_of(e.case.settings)) for one in CLAIMS]


CLAIMS: list[Claim] = []


@claim(CLAIMS, "mayne-fig-1")
def norm_out_of_distribution(e: Evidence) -> Trial:
    """The norm of the steering vector lies far below those of activations.

    Rule: at least {FAR:g} doubling below the 1st percentile of plain tokens
    False world: labels drawn at random by training group
    """
    first, middle = np.quantile(e.plain.norms, [0.01, 0.5])
    singles = (e.contrast.means[:, 0] - e.contrast.means[:, 1]).norm(dim=1).numpy()
    rng, length = np.random.default_rng(0), float(e.groups.vector.norm())
    drawn = [float(e.groups.shuffled(rng, same_norm=False).vector.norm()) for _ in range(DRAWS)]
    longer = sum(each >= length for each in drawn)

    def measure(vectors: torch.Tensor) -> torch.Tensor:
        return (first / vectors.norm(dim=1)).log2()

    ours = f"vector {length:.3g}, label-shuffled {np.median(drawn):.3g} ({longer} of {DRAWS} as long), "
    ours += f"a single difference {np.median(singles):.3g}; tokens of plain text: 1% below {first:.3g}, "
    ours += f"median {middle:.3g}; {{}} doublings"
    theirs = "far below the distribution over 200,000 tokens; the norm itself was not found"
    unscaled = partial(e.groups.shuffled, same_norm=False)
    return Trial(theirs, ours, e.effect(measure), FAR, _worlds(measure, unscaled))


@claim(CLAIMS, "mayne-fig-2")
def bias_dominates(e: Evidence) -> Trial:
    """The encoder bias decides: the vector's most active features are those of the zero vector.

    Rule: at least {SHARED} of {TOP} features in both
    False world: an isotropic direction of the same norm
    """
    measure = partial(features.shared_with_zero, sae=e.sae, count=TOP)
    theirs = f"{SHARED} of {TOP} features in both"
    active = _active(e.sae, e.groups.vector[None], theirs)
    scaled = e.groups.vector[None] * (features.usual_norm(e.plain) / e.groups.vector.norm())
    found = e.effect(measure)
    ours = f"{_counted(found)} of {TOP} features in both; {float(measure(scaled)[0]):g} at the norm of activations; "
    ours += f"zero activates {active}"
    return Trial(theirs, ours, found, SHARED, _worlds(measure, e.groups.isotropic))


def _active(sae: Sae, vectors: torch.Tensor, said: str) -> int:
    """How many features zero activates; an autoencoder that is silent on it and on the vectors [n, d] has none to compare."""
    own, active = (int((sae.encode(each) > 0).sum()) for each in (vectors, torch.zeros(sae.width)))
    require(own + active, said, "the autoencoder activates no feature for the vector, and none for zero")
    return active


def _counted(found: Effect) -> str:
    """In words, with an interval that ends where numbers of features do."""
    return verdicts.said(replace(found, low=max(found.low, 0.0), high=min(found.high, float(TOP))))


@claim(CLAIMS, "mayne-tab-1")
def same_features(e: Evidence) -> Trial:
    """Different steering vectors have the same most active features.

    Rule: the mean vector shares at least 4 of {TOP} features with zero
    False world: an isotropic direction of the same norm
    """

    def effect(several: list[Groups]) -> Effect:
        counts = features.shared_with_zero(torch.stack([each.vector for each in several]), e.sae, TOP)
        return mean_interval(counts.numpy())

    def world(rng: np.random.Generator) -> Effect:
        return effect([each.isotropic(rng) for each in e.others])

    theirs, found = "the same features each time (values of the other vectors not found)", effect(e.others)
    _active(e.sae, torch.stack([each.vector for each in e.others]), theirs)
    ours = f"seven vectors share {_counted(found)} of {TOP} features with zero"
    return Trial(theirs, ours, found, 4, world)


@claim(CLAIMS, "mayne-fig-3")
def rescaling_does_not_help(e: Evidence) -> Trial:
    """Scaled to the norm of activations the vector still lies outside what the encoder gets of plain text.

    Rule: more than {OUTSIDE:.0%} of all features beyond the share of held-out plain tokens outside their middle 95%
    False world: labels drawn at random by training group
    """
    norm, outside = features.usual_norm(e.plain), features.outside(e.plain, e.sae)
    usual = float(outside(features.held(e.plain)).mean())

    def measure(vectors: torch.Tensor) -> torch.Tensor:
        return outside(vectors * (norm / vectors.norm(dim=1, keepdim=True))) - usual

    rng, single = np.random.default_rng(0), e.contrast.means[:, 0] - e.contrast.means[:, 1]
    beside = {"minus the vector": -e.groups.vector[None], "single differences": single}
    beside |= {"label-shuffled": torch.stack([e.groups.shuffled(rng).vector for _ in range(20)])}
    beside |= {"isotropic": torch.stack([e.groups.isotropic(rng).vector for _ in range(20)])}
    shares = ", ".join(f"{name} {float(measure(some).mean()):.2f}" for name, some in beside.items())
    number, bias = published.default_component()
    theirs = f"feature {number} (bias {bias:.2f}): text strongly negative, the scaled vector not"
    ours = f"{{}} of {e.sae.n_features} features more than of held-out plain tokens ({usual:.2f}); {shares}"
    return Trial(theirs, ours, e.effect(measure), OUTSIDE, _worlds(measure, e.groups.shuffled))


@claim(CLAIMS, "mayne-fig-4")
def negatives_turn_spurious(e: Evidence) -> Trial:
    """Negative parts of the vector, which encoding cuts to zero, appear as positive parts of opposite features.

    Rule: on the other half of the training groups the projections on both features and the excess on
        negative answers above 0, the smallest at least {SIZE} of its scatter
    False world: labels drawn at random by training group
    """
    negative, spurious, cosine = published.signs()
    theirs = f"feature {negative} gets 0.00; feature {spurious}, cosine {cosine:.2f}, gets a positive part"
    found = features.opposites(e.contrast, e.sae, features.usual_norm(e.plain))
    groups = len(found.differences)
    few = f"{groups} training groups, of which half choose and half judge"
    require(groups >= LEAST_GROUPS, theirs, few)
    require(len(found.cosines), theirs, "no two features of this autoencoder are as opposite")
    count, pairs = int((found.qualifying(features.CHOOSE) > 0).sum()), len(found.cosines) // 2
    require(count, theirs, f"none of {pairs} pairs of opposite features meets the rule")
    met = f"on one half of the training groups the rule is met by {count} of {pairs} pairs of opposite features, with "
    rng = np.random.default_rng(0)

    def signs(rng: np.random.Generator) -> torch.Tensor:
        return torch.from_numpy(rng.choice([-1, 1], size=groups))

    def effect(each: features.Opposites) -> Effect:
        pair = each.chosen(features.CHOOSE)
        if pair is None:
            return Effect(0.0, 0.0, 0.0)
        values = each.held(pair, features.JUDGE)
        scatter = np.maximum(values.std(0, ddof=1), 1e-9)
        return smallest([mean_interval(column) for column in (values / scatter).T])

    placebo = [int((found.flipped(signs(rng)).qualifying(features.CHOOSE) > 0).sum()) for _ in range(99)]
    own, chance = effect(found), np.quantile(placebo, 0.95)
    met += f"labels shuffled by {np.median(placebo):g} (95% at most {chance:g})"
    fails = (
        f"{met}; the best fails on the other half ({verdicts.said(own)}), as one does that met it by chance"
    )
    require(own.estimate >= SIZE or count > chance, theirs, fails)
    ours = f"{met}; the best, on the other half, in units of the scatter over groups: {{}}"
    return Trial(theirs, ours, own, SIZE, lambda rng: effect(found.flipped(signs(rng))))


@claim(CLAIMS, "mayne-ext-decompose", steers=True)
def reconstruction_loses_power(e: Evidence) -> Trial:
    """What the autoencoder reconstructs of the vector steers less than the vector, dose for dose.

    Rule: at equal norm and at equal KL on neutral text a loss above 0, the smaller at least {LOST:.0%} of the
        vector's slope
    False world: the sign of the difference drawn at random by test group
    """
    theirs, vector = "cited there as a finding of others, without a number", e.groups.vector
    left, nothing = (e.sae.decode(e.sae.encode(each)) for each in (vector, torch.zeros(e.sae.width)))
    require(not e.silent, theirs, e.silent)
    require(float(left.norm()) > 0, theirs, "the reconstruction is zero")
    require(not left.equal(nothing), theirs, "the autoencoder activates for the vector what it does for zero")
    doses = [float(vector.norm() / left.norm()), decompositions.equal_kl(e.case, vector, left)]
    own, *scaled = e.slopes(torch.stack([vector, *(dose * left for dose in doses)])).T
    losses = np.stack([own - each for each in scaled])
    kept = [float(each.mean()) for each in scaled]

    def effect(signs: np.ndarray | int) -> Effect:  # of the loss that is less sure to be there
        return smallest([mean_interval(each) for each in losses * signs])

    ours = f"unscaled it is {1 / doses[0]:.3g} times as long as the vector; of the vector's slope are left {kept[0]:.2f} at "
    alike, rest = float(torch.cosine_similarity(left, nothing, dim=0)), left - nothing
    without = own - e.slopes((rest * (vector.norm() / rest.norm()))[None])[:, 0]
    ours += f"equal norm and {kept[1]:.2f} at equal KL; loss {{}}. Its cosine with the reconstruction of zero is {alike:.2f}; "
    ours += f"without that the loss at equal norm is {verdicts.said(mean_interval(without))}"
    return Trial(theirs, ours, effect(1), LOST, lambda rng: effect(rng.choice([-1, 1], size=len(own))))


@claim(CLAIMS, "mayne-ext-decompose", steers=True)
def pursuit_finds_the_autoencoders_features(e: Evidence) -> Trial:
    """The sum that signed pursuit finds steers because of the autoencoder's own directions.

    Rule: the sum steers more than on shuffled dictionaries, by at least {OWN:.0%} of the vector's slope
    False world: one of the shuffled dictionaries in the place of the autoencoder's
    """
    theirs = OURS
    require(not e.silent, theirs, e.silent)
    shares = e.slopes(decompositions.pursued(e.case, e.sae))

    def effect(own: int, others: list[int]) -> Effect:
        apart, chance = shares[:, own] - shares[:, others].mean(1), shares[:, others].mean(0)
        error = np.hypot(mean_interval(apart).error, chance.std(ddof=1) * (1 + 1 / len(others)) ** 0.5)
        return t_interval(float(apart.mean()), float(error), min(len(apart), len(others)) - 1)

    def world(rng: np.random.Generator) -> Effect:
        one, *rest = rng.permutation(np.arange(1, shares.shape[1]))
        return effect(one, rest)

    ours = f"share of the vector's slope {shares[:, 0].mean():.3f}, on shuffled dictionaries {shares[:, 1:].mean():.3f}; "
    return Trial(theirs, ours + "difference {}", effect(0, list(range(1, shares.shape[1]))), OWN, world)
