"""The claims about prompt settings, on tables whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from companion import claims_shift
from companion.claims_shift import FIRST_SHIFT, Wider, ood_is_weaker, some_sets_fail
from companion.profiles import load_profile
from companion.tan import settings_tables


def wider_of(own: dict[str, list[float]], shifted: dict[str, list[float]], low: float = 0.1, high: float = 0.05) -> Wider:  # fmt: skip
    """One run a model, with a mean a data set in distribution and under the first shift; intervals are the same for all."""
    settings = load_profile("smoke")
    runs = tuple(replace(settings, model=model) for model in own)
    rows = [
        (f"set-{i}", settings_tables.name_of(run), *setting, mean, low, high)
        for run in runs
        for setting, means in ((("BASE", "BASE"), own), (FIRST_SHIFT, shifted))
        for i, mean in enumerate(means[run.model])
    ]
    table = pd.DataFrame(rows, columns=["dataset", "model", "train", "test", "mean", "low", "high"])
    return Wider(settings, "statement", runs, table)


def test_a_loss_is_judged_by_its_interval_over_data_sets_and_not_by_two_means():
    """The mean is lower in both; only one of the two losses is more than the spread of the data sets."""
    rng = np.random.default_rng(0)
    own = rng.normal(1.0, 0.3, 20)
    clear, noise = own - 0.2 + rng.normal(0, 0.05, 20), own - 0.01 + rng.normal(0, 0.3, 20)
    noise += own.mean() - 0.01 - noise.mean()
    lost = ood_is_weaker(wider_of({"tiny": own}, {"tiny": clear}))
    unsure = ood_is_weaker(wider_of({"tiny": own}, {"tiny": noise}))
    assert (lost["verdict"], unsure["verdict"]) == ("agrees", "differs")
    assert f"{(own - clear).mean():.3f}" in lost["ours"] and f"{(own - noise).mean():.3f}" in unsure["ours"]


def test_the_interval_of_the_loss_is_that_of_a_mean():
    """Against the normal approximation: mean -+ 1.96 standard errors, for many data sets."""
    rng = np.random.default_rng(1)
    own, shifted = rng.normal(1, 0.3, 400), rng.normal(0.9, 0.3, 400)
    text = ood_is_weaker(wider_of({"tiny": own}, {"tiny": shifted}))["ours"]
    low, high = (float(part) for part in text.partition("[")[2].rstrip("]").split(", "))
    loss = own - shifted
    half = 1.96 * loss.std(ddof=1) / np.sqrt(len(loss))
    assert low == pytest.approx(loss.mean() - half, abs=0.006)
    assert high == pytest.approx(loss.mean() + half, abs=0.006)


def test_every_model_must_lose():
    own = {"tiny": [1.0, 1.1, 0.9, 1.2, 0.8], "tiny-gemma3": [1.0, 1.1, 0.9, 1.2, 0.8]}
    shifted = {"tiny": [0.5, 0.6, 0.4, 0.7, 0.3], "tiny-gemma3": [1.0, 1.2, 0.8, 1.3, 0.7]}
    assert ood_is_weaker(wider_of(own, shifted))["verdict"] == "differs"


def test_few_data_sets_are_not_judged():
    few = {"tiny": [1.0] * (claims_shift.FEWEST - 1)}
    row = ood_is_weaker(wider_of(few, few))
    assert row["verdict"] == "not run" and str(claims_shift.FEWEST) in row["ours"]


@pytest.mark.parametrize(
    ("worst", "low", "high", "verdict"),
    [
        (-0.1, 0.1, 0.05, "agrees"),
        (0.1, 0.1, 0.05, "differs"),  # less, and still something
        (-0.1, -0.1, -0.2, "differs"),  # was not steerable to begin with
        (-0.1, 0.1, 0.2, "differs"),  # intervals overlap: noise around zero would do that
    ],
)
def test_a_set_fails_when_it_steers_in_distribution_and_not_under_the_shift(worst, low, high, verdict):
    own = {"tiny": [0.5] * 6}
    row = some_sets_fail(wider_of(own, {"tiny": [0.4] * 5 + [worst]}, low, high))
    assert row["verdict"] == verdict
