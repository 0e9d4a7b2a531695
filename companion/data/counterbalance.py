"""Both forms of every item: the same question asked so that the other letter, or the other word, shows the behaviour.

A model that leans to the letter A, or to the word Yes, answers the two forms of an item in opposite ways; a model that
leans to the behaviour answers them alike. So the mean of the two is free of that bias, item by item, and half of
their difference is the bias. (Tan et al. 2024 balance over items instead, and regress the bias out.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from steerkit.items import Item, exchanged

if TYPE_CHECKING:
    from steerkit.prompts import Example, Prompter

OTHER = "~other"  # ends the id of the second form of an item
ANSWERS = {"A": "B", "B": "A", "Yes": "No", "No": "Yes"}


def letter_example(prompter: Prompter, item: Item, letter: str, *, other: bool = False) -> Example:
    """One item in format `letter`, `letter` being the matching one in its first form."""
    if not other:
        return prompter.letter(item, letter)
    turned = exchanged(item) if item.kind == "choice" else item
    return _renamed(prompter.letter(turned, ANSWERS[letter]))


def yes_no_example(prompter: Prompter, item: Item, *, other: bool = False) -> Example:
    """One item in format `yes-no`; choice items propose the matching option in even rows, the other in odd ones."""
    answer = item.positive_answer or ("Yes" if item.row % 2 == 0 else "No")
    return _renamed(prompter.yes_no(item, ANSWERS[answer])) if other else prompter.yes_no(item, answer)


def with_others(firsts: Sequence[Example], others: Sequence[Example]) -> list[Example]:
    """First forms, and those second forms that are not there already (a set may list both orders of its options)."""
    asked = {(example.prompt, example.matching) for example in firsts}
    return [*firsts, *(other for other in others if (other.prompt, other.matching) not in asked)]


def item_id(example_id: str) -> str:
    """The item that an example asks."""
    return example_id.removesuffix(OTHER)


def _renamed(example: Example) -> Example:
    return replace(example, id=example.id + OTHER)
