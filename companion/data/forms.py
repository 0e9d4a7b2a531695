"""Which label shows the behaviour of an item: in its first form, and in the other one.

A model may prefer a label, A or B, Yes or No, whatever it stands for. So an item can be asked in two forms that differ
in which label shows the behaviour.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from steerkit.errors import need
from steerkit.formats import Format
from steerkit.items import Item
from steerkit.prompts import Example, Prompter

OPTION = re.compile(r"(?:^|\n)[ \t]*\(([A-Z])\):?")
OTHER = "~other"  # ends the id of the second form of an item


def asked(prompter: Prompter, form: Format, item: Item, *, other: bool = False) -> Example:
    """One item in its first form, or in the other one; one that lists the labels itself has its options exchanged."""
    label = first_label(item, form.labels)
    if not other:
        return form.ask(prompter, item, label)
    turned = exchanged(item) if item.positive_letter == label else item
    example = form.ask(prompter, turned, form.labels[label == form.labels[0]])
    return replace(example, id=example.id + OTHER)


def first_label(item: Item, labels: Sequence[str]) -> str:
    """The label that shows the behaviour in the first form of an item: the item's own, when it lists these.

    Else it depends on the item alone, so that it is the same in every split and subset, and each label is that of
    half of the items: alternating in choice items; in persona items of a pair one each, turned round from pair to
    pair; in other persona items changing every second row, as these files alternate Yes and No.
    """
    own = item.positive_answer or item.positive_letter
    if own in labels or {*labels} <= {letter for letter, _ in item.options}:
        return own
    if item.kind == "choice":
        return labels[item.row % 2]
    if item.pair is None:
        return labels[(item.row // 2 + 1) % 2]
    return labels[(item.pair % 2 == 0) != (item.positive_answer == "Yes")]


def exchanged(item: Item) -> Item:
    """A choice item with the texts of its two options exchanged, so that the other letter matches."""
    count, mend = len(item.options), "drop the item, or switch counterbalanced off."
    need(count == 2, f"two options in {item.id}, to exchange them", str(count), mend)
    (_, first), (_, second) = item.options
    marks = [mark for mark in OPTION.finditer(item.question) if mark[1] in "AB"][-2:]
    head, between = item.question[: marks[0].end()], item.question[marks[0].end() : marks[1].end()]
    tail = item.question[marks[1].end() :]
    question = head + between.replace(first, second, 1) + tail.replace(second, first, 1)
    answers = {"matching": item.not_matching, "not_matching": item.matching}
    return replace(item, question=question, options=(("A", second), ("B", first)), **answers)
