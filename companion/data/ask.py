"""Items of a data set as examples: letters for the two answers, partners for statements, either form of an item.

The two forms of an item ask the same question so that the other letter, or the other word, shows the behaviour. A model
that leans to the letter A, or to the word Yes, answers them in opposite ways; a model that leans to the behaviour
answers them alike. So the mean of the two is free of that bias, item by item, and half of their difference is the bias.
(Tan et al. 2024 balance over items instead, and regress the bias out.)
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from companion.data.datasets import Dataset
from companion.data.forms import asked
from steerkit.errors import need
from steerkit.formats import FORMATS
from steerkit.items import Item, fold

if TYPE_CHECKING:
    import numpy as np

    from steerkit.prompts import Example, Prompter

logger = logging.getLogger(__name__)
WORD = re.compile(r"[\w']+")
SHORT = 2  # an option of so many words or fewer is a label rather than a text
Texts = tuple[str, str]  # of a pair: matching, not matching


def examples_of(
    prompter: Prompter,
    dataset: Dataset,
    indices: Sequence[int],
    answer_format: str,
    seed: int,
    counterbalanced: bool = False,
) -> list[Example]:
    """Tokenised examples of some items in one answer format.

    `seed` pairs statements that have no pair number; `counterbalanced` asks every item in both of its forms.
    """
    import numpy as np

    items, form = [dataset.items[i] for i in indices], FORMATS[answer_format]
    if not form.biased:
        return [form.ask(prompter, *pair) for pair in statement_pairs(items, np.random.default_rng(seed))]
    firsts = [asked(prompter, form, item) for item in items]
    others = [asked(prompter, form, item, other=True) for item in items if counterbalanced]
    return with_others(firsts, others)


def with_others(firsts: Sequence[Example], others: Sequence[Example]) -> list[Example]:
    """First forms, and those second forms that are not there already (a set may list both orders of its options)."""
    asked = {(example.prompt, example.matching) for example in firsts}
    return [*firsts, *(other for other in others if (other.prompt, other.matching) not in asked)]


def statement_pairs(items: Sequence[Item], rng: np.random.Generator | None = None) -> list[tuple[Item, Item]]:
    """Pairs (matching, not matching) for the statement format.

    Persona items with a pair number: the two statements of each pair; without: statements labelled Yes, each with a
    random one labelled No, for which `rng` is needed. Choice items: each question once, whatever the order of its
    options, as (item, item), because these are the two completions. Left out, with a count in a log message: persona
    items without a partner, and choice items with an empty stem or option or with equal options (the papers have some).
    """
    choices, pairs, single = [], defaultdict(dict), {"Yes": [], "No": []}
    for item in items:
        if item.kind == "choice":
            texts = [fold(item.matching_text), fold(item.not_matching_text)]
            choices += [item] if item.stem and all(texts) and texts[0] != texts[1] else []
        elif item.pair is not None:
            pairs[item.pair][item.positive_answer] = item
        else:
            single[item.positive_answer].append(item)
    partners = [(pair["Yes"], pair["No"]) for pair in pairs.values() if len(pair) == 2]
    if any(single.values()):
        step = "pass rng=numpy.random.default_rng(seed)."
        need(rng is not None, "a numpy random generator, rng", "none, and items without pair numbers", step)
        drawn = [[side[i] for i in rng.permutation(len(side))] for side in single.values()]
        partners += zip(*drawn, strict=False)
    left_out = len(items) - len(choices) - 2 * len(partners)
    first = {item.same_question_key: item for item in reversed(choices)}
    pairs = [(item, item) for item in choices if first[item.same_question_key] is item] + partners
    step = "use more items; a persona set needs both labels."
    need(pairs, "a matching and a not matching statement", f"{len(items)} items without such a pair", step)
    if left_out:
        _left_out(items[0].id.rpartition("/")[0], left_out, len(items))
    return pairs


@cache
def _left_out(dataset: str, count: int, of: int) -> None:
    """Say it once: the same items are asked many times."""
    logger.warning("%s: %d of %d items have no counterpart and are left out", dataset, count, of)


def texts_of(matching: Item, other: Item) -> Texts:
    """The two completions of a pair of the statement format."""
    if matching.kind == "persona":
        return matching.statement, other.statement
    return matching.matching_text, matching.not_matching_text


def words(text: str) -> list[str]:
    """The words of a text, in order.

    >>> words("No, I don't.")
    ['no', 'i', "don't"]
    """
    return WORD.findall(text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").lower())


def short(texts: Texts) -> bool:
    """Whether one of two texts is a label rather than a text."""
    return min(len(words(text)) for text in texts) <= SHORT


def yes_no(texts: Texts) -> bool:
    """Whether both texts begin with Yes or No."""
    return all(words(text)[:1] in (["yes"], ["no"]) for text in texts)
