"""A shift of single tokens at the dose of a vector: each formula against a plain one, and worlds with known answers."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import refused

from companion.data.ask import examples_of
from companion.data.datasets import load_dataset
from companion.models import model_of
from companion.tan import unigram
from companion.tan.dose import neutral_tokens
from steerkit import Vectors, evaluate, extraction, traces
from steerkit.prompts import Prompter


@pytest.fixture(scope="module")
def model():
    return model_of("tiny")


@pytest.fixture(scope="module")
def pairs(model):
    items = load_dataset("openness", "bundled")
    return examples_of(Prompter(model.tokenizer, model.template), items, range(24), "statement", 0)


def logits(model, tokens) -> torch.Tensor:
    """Of a plain forward, [s, vocabulary]."""
    with torch.no_grad():
        return model.lm._module(torch.tensor([tokens])).logits[0].double()


def whole(model, odds) -> torch.Tensor:
    """Odds of the whole vocabulary."""
    found = torch.zeros(logits(model, [0]).shape[-1], dtype=torch.float64)
    found[list(odds)] = torch.tensor(list(odds.values()), dtype=torch.float64)
    return found


def test_log_odds_are_those_of_smoothed_shares(pairs):
    found, (first, *_) = unigram.log_odds(pairs), pairs
    plus, minus = ([t for one in pairs for t in getattr(one, side)] for side in ("matching", "not_matching"))
    known = {*plus, *minus}
    assert set(found) == known
    for token in first.matching:
        shares = [(each.count(token) + 0.5) / (len(each) + 0.5 * len(known)) for each in (plus, minus)]
        assert found[token] == pytest.approx(np.log(shares[0] / shares[1]))
    assert max(map(abs, unigram.log_odds(pairs + unigram.exchanged(pairs, All())).values())) < 1e-12


class All:
    """A coin that always falls on one side."""

    def random(self, size: int) -> np.ndarray:
        return np.zeros(size)


def test_the_effect_of_a_shift_is_that_of_whole_logits_with_the_odds_added(model, pairs):
    odds, one = unigram.log_odds(pairs[:6]), pairs[7]
    whole_odds, wanted = whole(model, odds), 0.0
    for sign, answer in ((1, one.matching), (-1, one.not_matching)):
        plain = logits(model, [*one.prompt, *answer])[len(one.prompt) - 1 : -1]
        for c, half in ((0.7, 0.5), (-0.7, -0.5)):
            told = (plain + c * whole_odds).log_softmax(-1)
            wanted += sign * half * told[range(len(answer)), list(answer)].mean().item()
    assert unigram.shifted(model, one, odds, 0.7) == pytest.approx(wanted, abs=1e-6)


def test_doses_are_divergences_and_the_same_for_vector_and_shift(model, pairs, monkeypatch):
    odds, vector = unigram.log_odds(pairs[:6]), extraction.extract(model, pairs[:6], [1])
    told = unigram.neutral(model)
    dose, plain = unigram.dose_at(model, vector, told), told[:, list(odds)].double().exp()
    given = traces.site_of(model), neutral_tokens(model), 1, vector.values[0]
    slow, _ = traces.divergences(*given)
    assert dose == pytest.approx(float(slow), rel=1e-4)
    with monkeypatch.context() as patch:  # a model that does not go on from a block as it went before
        patch.setattr(traces, "resumed_logits", lambda *_: torch.zeros(()))
        whole_forwards, _ = traces.divergences(*given)
    assert float(whole_forwards) == pytest.approx(float(slow), rel=1e-4)
    scale = unigram.scale_at(plain, odds, dose)
    told = logits(model, neutral_tokens(model))[1:]
    shifted = (told + scale * whole(model, odds)).log_softmax(-1)
    found = torch.nn.functional.kl_div(shifted, told.log_softmax(-1), reduction="sum", log_target=True)
    assert scale > 0 and float(found) / len(told) == pytest.approx(dose, rel=1e-4)
    refused(unigram.scale_at, plain, odds, 1e9, said="a shift of tokens of 1e")


def test_a_set_is_tried_on_the_halves_that_did_not_make_its_vector(model, pairs):
    differences = Vectors(tuple(one.id for one in pairs), (1,), extraction.differences(model, pairs, [1]))
    table = unigram.table(model, pairs, differences, 0, ()).set_index("example_id")
    assert list(table.index) == [one.id for one in [*pairs[6:], *pairs[:6]]]
    assert table["kl"].nunique() == table["scale"].nunique() == 2
    one, train = pairs[8], pairs[:6]
    vector, odds = extraction.extract(model, train, [1]), unigram.log_odds(train)
    first, last = evaluate(model, [one], vector, [-1.0, 1.0]).propensity[0, 0, 0]
    assert table.loc[one.id, "vector"] == pytest.approx(float(last - first) / 2, abs=1e-5)
    found = unigram.shifted(model, one, odds, table.loc[one.id, "scale"])
    assert table.loc[one.id, "shift"] == pytest.approx(found)


def world(share: float, rng: np.random.Generator) -> pd.DataFrame:
    """A UNIGRAM table of sets on which a shift does this share of what their vector does."""
    true = np.repeat(rng.gamma(2, 0.05, 40), 20)
    noise = 0.05 * rng.normal(size=(3, len(true)))
    columns = dict(zip(unigram.KINDS, np.array([true, share * true, 0 * true]) + noise, strict=True))
    about = {"dataset": np.repeat([f"s{i:02d}" for i in range(40)], 20), "kind": "persona"}
    return pd.DataFrame(about | columns)


@pytest.mark.parametrize(
    ("share", "said"), [(1.1, "tokens do as much"), (0.3, "the vector does more"), (0.7, "undecided")]
)
def test_the_share_and_its_verdict_are_those_of_the_world(share, said):
    found = [unigram.shares(world(share, np.random.default_rng(seed))) for seed in (1, 2)]
    assert unigram.verdict(found) == said
    for each in found:
        assert each["low"].item() < share < each["high"].item()
        assert each["exchanged_low"].item() < 0 < each["exchanged_high"].item()
        assert each["order"].item() > 0.5
    means = world(share, np.random.default_rng(1)).groupby("dataset")[["vector", "shift"]].mean().sum()
    assert found[0]["share"].item() == pytest.approx(means["shift"] / means["vector"])
