"""The claims: on tables whose answer is known, and every row of both papers' in the same form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from companion import claims
from companion.claims import FEWEST, FIRST_SHIFT, SAME, Evidence, ood_is_weaker, some_sets_fail
from companion.exhibits import EXHIBITS
from companion.profiles import load_profile
from companion.tan.tables import name_of


def evidence_of(
    own: dict[str, list[float]], shifted: dict[str, list[float]], low: float = 0.1, high: float = 0.05
) -> Evidence:
    """One run a model, with a mean a data set in distribution and under the first shift; intervals are the same for all."""
    found = Evidence(load_profile("smoke"), "statement")
    runs = [replace(found.settings, model=model) for model in own]
    rows = [
        (f"set-{i}", name_of(run), *setting, mean, low, high)
        for run in runs
        for setting, means in ((SAME, own), (FIRST_SHIFT, shifted))
        for i, mean in enumerate(means[run.model])
    ]
    table = pd.DataFrame(rows, columns=["dataset", "model", "train", "test", "mean", "low", "high"])
    found.__dict__.update(runs=runs, shifts=table)
    return found


def test_a_loss_is_judged_by_its_interval_over_data_sets_and_not_by_two_means():
    """The mean is lower in both; only one of the two losses is more than the spread of the data sets. The interval is,
    for many data sets, that of the normal approximation: mean -+ 1.96 standard errors."""
    rng = np.random.default_rng(0)
    own = rng.normal(1.0, 0.3, 400)
    noise = rng.normal(0, 3.0, 400)
    for loss, expected in ((0.2 + rng.normal(0, 0.3, 400), True), (0.01 + noise - noise.mean(), False)):
        _, text, holds = ood_is_weaker(evidence_of({"tiny": own}, {"tiny": own - loss}))
        assert holds == expected and f"{loss.mean():.3f}" in text
        low, high = (float(part) for part in text.partition("[")[2].partition("]")[0].split(", "))
        half = 1.96 * loss.std(ddof=1) / np.sqrt(len(loss))
        assert (low, high) == pytest.approx((loss.mean() - half, loss.mean() + half), abs=0.14 * half)


def test_every_model_must_lose_and_few_data_sets_are_not_judged():
    own = {"tiny": [1.0, 1.1, 0.9, 1.2, 0.8], "tiny-gemma3": [1.0, 1.1, 0.9, 1.2, 0.8]}
    shifted = {"tiny": [0.5, 0.6, 0.4, 0.7, 0.3], "tiny-gemma3": [1.0, 1.2, 0.8, 1.3, 0.7]}
    assert not ood_is_weaker(evidence_of(own, shifted))[-1]
    few = {"tiny": [1.0] * (FEWEST - 1)}
    _, ours, holds = ood_is_weaker(evidence_of(few, few))
    assert holds is None and str(FEWEST) in ours


@pytest.mark.parametrize(
    ("worst", "low", "high", "holds"),
    [
        (-0.1, 0.1, 0.05, True),
        (0.1, 0.1, 0.05, False),  # less, and still something
        (-0.1, -0.1, -0.2, False),  # was not steerable to begin with
        (-0.1, 0.1, 0.2, False),  # intervals overlap: noise around zero would do that
    ],
)
def test_a_set_fails_when_it_steers_in_distribution_and_not_under_the_shift(worst, low, high, holds):
    found = some_sets_fail(evidence_of({"tiny": [0.5] * 6}, {"tiny": [0.4] * 5 + [worst]}, low, high))
    assert found[-1] is holds


def test_a_claim_is_named_and_stated_by_its_function():
    made: list[claims.Claim] = []

    @claims.claim(made, "tan-fig-1", "always")
    def water_is_wet(evidence):
        """Water is wet, whatever
        is poured."""
        return "wet", evidence, {"wet": np.True_, "dry": np.False_}.get(evidence)

    for ours, verdict in (("wet", "agrees"), ("dry", "differs"), ("?", "not run")):
        row = claims.judged(made, ours, "letter").loc[0]
        assert row.to_list() == [
            *("water-is-wet", "Water is wet, whatever is poured.", "letter", "wet", ours, "always", verdict),
            "tan-fig-1",
        ]


def test_every_claim_of_both_papers_names_an_exhibit_and_comes_once():
    from companion import claims_mayne

    both = [*claims.CLAIMS, *claims_mayne.CLAIMS]
    assert len({claim.id for claim in both}) == len(both) == 22
    assert {claim.exhibit for claim in both} <= set(EXHIBITS)
