"""Raising single tokens at the dose of a vector, as registered in `unigram.yaml`: the control of chapter 2 on words.

Half of the pairs of a data set make a vector, and from the same texts the log odds of every token: of its share in the
matching answers over that in the others. Added to the logits of each next token they need no direction in any residual
stream. Both are given the same dose, nats a token on the neutral text, and both are tried on pairs of the other half.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from companion.tan.dose import neutral_tokens
from companion.tan.ranks import correlated, ratio
from steerkit.errors import need
from steerkit.formats import question
from steerkit.model import Model
from steerkit.prompts import Example
from steerkit.vectors import Vectors

if TYPE_CHECKING:
    import torch

TESTS, ADDED = 10, 0.5
KINDS = ("vector", "shift", "exchanged")  # what moves a test pair; the last is the shift of exchanged labels
NUMBERS = (*KINDS, "kl", "scale")
LINE = 0.7


def table(
    model: Model, pairs: Sequence[Example], found: Vectors, seed: int, ids: Collection[str]
) -> pd.DataFrame:
    """UNIGRAM table of a data set: a row a test pair, of those in `ids` where there are any.

    `found` [p, 1, d] are the differences of the pairs. Columns example_id; vector, shift and exchanged (half of the
    difference in propensity between the two signs of the dose, nats a token); kl (the dose, of the half's vector at
    multiplier 1) and scale (of the log odds at that dose).
    """
    from steerkit import evaluate
    from steerkit.extraction import mean_difference

    middle, rows, told = len(pairs) // 2, [], neutral(model)
    halves = pairs[:middle], pairs[middle:]
    for turn, (train, test) in enumerate((halves, halves[::-1])):
        tests = [one for one in test[:TESTS] if one.id in ids or not ids]
        if not tests:
            continue
        vector = mean_difference(found.select([one.id for one in train]).values, found.layers)
        dose = dose_at(model, vector, told)
        rng = np.random.default_rng(crc32(f"{seed} {pairs[0].id} {turn}".encode()))
        odds = {"shift": log_odds(train), "exchanged": log_odds(exchanged(train, rng))}
        scale = {k: scale_at(told[:, list(own)].double().exp(), own, dose) for k, own in odds.items()}
        moved = evaluate(model, tests, vector, [-1.0, 1.0]).propensity[:, 0, 0]
        row = {"example_id": [one.id for one in tests], "kl": dose, "scale": scale["shift"]}
        row |= {"vector": ((moved[:, 1] - moved[:, 0]) / 2).tolist()}
        row |= {k: [shifted(model, one, own, scale[k]) for one in tests] for k, own in odds.items()}
        rows.append(pd.DataFrame(row))
    return pd.concat(rows, ignore_index=True)


def log_odds(train: Sequence[Example]) -> dict[int, float]:
    """Log of the smoothed share of each token in the matching answers over that in the others."""
    return odds_of((one.matching, one.not_matching) for one in train)


def odds_of(pairs: Iterable[tuple[Iterable[Any], Iterable[Any]]]) -> dict[Any, float]:
    """The same of each word, or token, of the first sides of some pairs over that in the second."""
    counts = [Counter(word for side in sides for word in side) for sides in zip(*pairs, strict=True)]
    need(counts and any(counts), "training texts with words", "none", "give pairs of texts.")
    known = sorted(counts[0] | counts[1])
    sums = [c.total() + ADDED * len(known) for c in counts]
    logs = [np.log([(c[w] + ADDED) / total for w in known]) for c, total in zip(counts, sums, strict=True)]
    return dict(zip(known, (logs[0] - logs[1]).tolist(), strict=True))


def exchanged(train: Sequence[Example], rng: np.random.Generator) -> list[Example]:
    """The same pairs, each with its two answers exchanged or not, by a coin."""
    coins = rng.random(len(train)) < 0.5
    return [
        replace(one, matching=one.not_matching, not_matching=one.matching) if coin else one
        for one, coin in zip(train, coins, strict=True)
    ]


def logprobs(
    model: Model, prefix: Sequence[int], tokens: Sequence[int], layer: int = 0, delta: Any = None
) -> torch.Tensor:
    """Log-probabilities [n, vocabulary] after each of `tokens`, with `delta` [d], if any, added there after a block."""
    import torch

    from steerkit import traces
    from steerkit.remote import run

    delta = torch.zeros(model.width) if delta is None else delta
    return run(model, traces.steered_logits, prefix, tokens, layer, delta)[0].float().log_softmax(-1)


def neutral(model: Model, layer: int = 0, delta: Any = None) -> torch.Tensor:
    """The same of the neutral text, from the second token on, as doses are measured."""
    return logprobs(model, [], neutral_tokens(model), layer, delta)[1:]


def dose_at(model: Model, vector: Vectors, told: torch.Tensor) -> float:
    """Nats a token on the neutral text, of which `told` is `neutral`, of a vector [1, 1, d] at multiplier 1."""
    import torch

    [layer] = vector.layers
    moved = neutral(model, layer, vector.values[0, 0])
    return float(torch.nn.functional.kl_div(moved, told, reduction="sum", log_target=True)) / len(told)


def normalised(plain: torch.Tensor, odds: Mapping[int, float], scale: float) -> torch.Tensor:
    """By how much all logits fall when odds are added to them and the probabilities [n, known] sum to one again, [n]."""
    return (plain @ (scale * plain.new_tensor(list(odds.values()))).expm1()).log1p()


def divergence(plain: torch.Tensor, odds: Mapping[int, float], scale: float) -> float:
    """Mean divergence of the unsteered from the shifted distributions, nats a token."""
    shift = scale * (plain @ plain.new_tensor(list(odds.values())))
    return float((normalised(plain, odds, scale) - shift).mean())


def scale_at(plain: torch.Tensor, odds: Mapping[int, float], dose: float) -> float:
    """The scale at which the odds have this dose; the divergence grows with it."""
    most = 1.0
    while (reached := divergence(plain, odds, most)) < dose:
        step = "use longer texts."
        need(most < 64, f"a shift of tokens of {dose:.3g} nats", f"at most {reached:.3g}", step)
        most *= 2
    return float(brentq(lambda scale: divergence(plain, odds, scale) - dose, 0, most))


def shifted(model: Model, one: Example, odds: Mapping[int, float], scale: float) -> float:
    """Half of the change in propensity of a pair (nats a token) between the odds times scale and times minus scale."""
    effect, asked = 0.0, question(one)
    for branch in asked.branches:
        told = logprobs(model, asked.prefix, branch.tokens)
        plain = told[:, list(odds)].double().exp()
        fall = normalised(plain, odds, scale) - normalised(plain, odds, -scale)
        for read in branch.reads:
            gain = scale * odds.get(read.token, 0.0) - float(fall[read.position]) / 2
            effect += (1 - 2 * read.side) * read.weight * gain
    return effect


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """From the UNIGRAM table of one model, one row: sets; share, low, high (effect of the shift over that of the vector);
    exchanged (the same of exchanged labels), exchanged_low, exchanged_high; order, order_low and order_high."""
    by_set = table.groupby("dataset", sort=False)
    means = by_set[[*KINDS]].mean()
    need(len(means) > 1, "two data sets", str(len(means)), "use more sets.")
    shift, exchanged = (ratio(means[[name, "vector"]].to_numpy()) for name in KINDS[1:])
    order = correlated(means["vector"], means["shift"], by_set["kind"].first())
    row = [len(means), *shift, *exchanged, *(order[name] for name in ("estimate", "low", "high"))]
    columns = "sets share low high exchanged exchanged_low exchanged_high order order_low order_high"
    return pd.DataFrame([row], columns=columns.split())


def verdict(found: Sequence[pd.DataFrame]) -> str:
    """The registered verdict, from `shares` of every model on the sixty sets."""
    if all(each["low"].item() > LINE for each in found):
        return "tokens do as much"
    return "the vector does more" if all(each["high"].item() < LINE for each in found) else "undecided"
