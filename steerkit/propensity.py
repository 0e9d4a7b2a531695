"""Propensity: how much a model leans to the matching side of one example, and which tokens say so.

It is a difference, score(matching) - score(not matching) (Tan et al. 2024, section 3). A score is a weighted sum over
`Read`s, so the engines need to know nothing about formats. Which reading an answer format has stands in its row of
`steerkit.formats.FORMATS`; the readings are here. A letter can be read in more than one way: `FIDELITIES` has them by
name, and is open to more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from steerkit.prompts import Example

Fidelity = str  # a name in `FIDELITIES`


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


def two_branches(example: Example, start: int, closing: int, scale: str, mean: bool = False) -> Question:
    """A branch a side; `start` is the first steered token counted from the end of the prompt, `closing` how much of it counts."""
    cut = len(example.prompt) + start
    head = example.prompt[cut:] + example.lead
    branches = []
    for side, answer in enumerate((example.matching, example.not_matching)):
        scored = answer + example.closing[:closing]
        weight = 1.0 / len(scored) if mean else 1.0
        reads = tuple(Read(len(head) - 1 + i, token, side, weight) for i, token in enumerate(scored))
        branches.append(Branch((head + scored)[:-1], reads))
    return Question(example.id, example.prompt[:cut], tuple(branches), scale)  # type: ignore[arg-type]


def completions(example: Example, fidelity: Fidelity = "letter") -> Question:
    """The mean log-probability of the tokens of each answer (nats per token), steered from the last prompt token on."""
    return two_branches(example, start=-1, closing=0, scale="logprob", mean=True)


FIDELITIES: dict[str, Callable[[Example], Question]] = {"letter": one_token}


def lettered(example: Example, fidelity: Fidelity) -> Question:
    """The letter between its brackets, in the way asked for."""
    return FIDELITIES[fidelity](example)
