"""What makes the rows of a data set contradict each other, or themselves."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from companion.data.rows import MEND, NOT_LOADED
from steerkit.errors import need
from steerkit.items import Item, fold

logger = logging.getLogger(__name__)
_need = partial(need, next_step=MEND, done=NOT_LOADED)


def check_items(items: Sequence[Item]) -> None:
    """Refuse empty and equal texts, and one question, in whatever form, with opposite labels.

    For a user's own file: the papers' sets have a few of each, which are counted where they matter.
    """
    first: dict[tuple[str, ...], Item] = {}
    rows: dict[str, Item] = {}
    again: list[tuple[Item, Item]] = []
    for item in items:
        texts = [item.statement] if item.kind == "persona" else [item.matching_text, item.not_matching_text]
        shown = f"{' and '.join(repr(text[:60]) for text in texts)} in row {item.id}"
        folded = [fold(text) for text in texts]
        _need(all(folded), "answers and statements that are not empty", shown)
        _need(len({*folded}) == len(folded), "two different answers", shown)
        before = first.setdefault((*item.same_question_key, fold(item.statement or "")), item)
        labels = f"{_label(before)} in row {before.id} and {_label(item)} in row {item.id}"
        asked = item.statement or item.stem or item.question
        _need(_label(before) == _label(item), f"one label for {asked[:60]!r}", labels)
        if (earlier := rows.setdefault(fold(f"{item.question} {item.matching}"), item)) is not item:
            again.append((item, earlier))
    if again:
        (item, earlier), count = again[0], len(again)
        text = f"{count} of {len(items)} rows repeat an earlier one, such as {item.id} = {earlier.id}: they count twice, "
        logger.warning(f"{text}and intervals are too narrow. Drop them.")


def _label(item: Item) -> str:
    return item.positive_answer or repr(fold(item.matching_text)[:60])


def check_pairs(items: Sequence[Item]) -> None:
    """Check that a pair number stands on two rows that make a pair.

    Persona: one statement that matches, one that does not. Choice: one question in both orders, with one text matching.
    """
    pairs: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        if item.pair is not None:
            pairs[item.pair].append(item)
    for number, pair in pairs.items():
        problem, step = _pair_problem(pair), f"mend the rows {', '.join(item.id for item in pair)}."
        expected = "pairs of one matching and one not matching row (or one question in both orders)"
        _need(not problem, expected, f"pair {number} with {problem}", next_step=step)


def _pair_problem(pair: Sequence[Item]) -> str:
    if len(pair) != 2:
        return f"{len(pair)} row{'s' * (len(pair) != 1)}"
    first, second = pair
    if first.kind != second.kind:
        return "a persona and a choice item"
    if first.kind == "persona":
        same = first.positive_answer == second.positive_answer
        return f"two rows labelled {first.positive_answer}" * same
    if first.same_question_key != second.same_question_key or first.options[0][1] == second.options[0][1]:
        return "two rows that are not one question in both orders"
    return "different texts labelled as matching" * (first.matching_text != second.matching_text)
