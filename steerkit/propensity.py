"""Propensity: how much a model leans to the matching side of one example, and which tokens say so.

Tan et al. 2024 define the propensity as a difference of logits, m_LD = score(matching) - score(not matching). Their
two code bases compute it differently, so each way has a name (`Fidelity`) and none replaces another:

=========  ==========================================================  ==========  =================
fidelity   a side's score                                              scale       first steered token
=========  ==========================================================  ==========  =================
letter     the answer letter                                           logits      last prompt token
paper      the letter and the `)` after it, as the paper's code sums   logits      last prompt token
bench      the same two tokens, as steering-bench sums them            log-probs   the one after it
=========  ==========================================================  ==========  =================

A score is a weighted sum over `Read`s, so the engines need to know nothing about formats. Which reading an answer
format has stands in its row of `steerkit.formats.FORMATS`; the readings are here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from steerkit.prompts import Example

Fidelity = Literal["letter", "paper", "bench"]
FIDELITIES: tuple[str, ...] = get_args(Fidelity)


@dataclass(frozen=True)
class Read:
    """Score token `token` as predicted at `position` of its branch, add `weight` times it to `side`."""

    position: int
    token: int
    side: int  # 0 matching, 1 not matching
    weight: float


@dataclass(frozen=True)
class Branch:
    """Tokens that are steered, all of them, and what is read off them."""

    tokens: tuple[int, ...]
    reads: tuple[Read, ...]


@dataclass(frozen=True)
class Question:
    """One example ready for an engine: a prefix that no steering touches, and one or two branches hanging off it."""

    id: str
    prefix: tuple[int, ...]
    branches: tuple[Branch, ...]
    scale: Literal["logit", "logprob"]


def one_token(example: Example, fidelity: Fidelity = "letter") -> Question:
    """The logits of two answers of one token at one place: one branch reads both."""
    tokens = example.prompt[-1:] + example.lead
    at = len(tokens) - 1
    reads = (Read(at, example.matching[0], 0, 1.0), Read(at, example.not_matching[0], 1, 1.0))
    return Question(example.id, example.prompt[:-1], (Branch(tokens, reads),), "logit")


def lettered(example: Example, fidelity: Fidelity) -> Question:
    """The letter between its brackets in one of the three published ways."""
    if fidelity == "letter":
        return one_token(example)
    if fidelity == "paper":
        return _two_branches(example, start=-1, closing=example.closing[:1], scale="logit")
    return _two_branches(example, start=0, closing=example.closing[:1], scale="logprob")


def completions(example: Example, fidelity: Fidelity = "letter") -> Question:
    """The mean log-probability of the tokens of each answer (nats per token), steered from the last prompt token on."""
    return _two_branches(example, start=-1, closing=(), scale="logprob", mean=True)


def _two_branches(
    example: Example, start: int, closing: tuple[int, ...], scale: str, mean: bool = False
) -> Question:
    """A branch a side; `start` is the first steered token counted from the end of the prompt."""
    cut = len(example.prompt) + start
    head = example.prompt[cut:] + example.lead
    branches = []
    for side, answer in enumerate((example.matching, example.not_matching)):
        scored = answer + closing
        weight = 1.0 / len(scored) if mean else 1.0
        reads = tuple(Read(len(head) - 1 + i, token, side, weight) for i, token in enumerate(scored))
        branches.append(Branch((head + scored)[:-1], reads))
    return Question(example.id, example.prompt[:cut], tuple(branches), scale)
