"""What stands against what: letters for the two answers, partners for statements."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from steerkit.errors import SteerkitError
from steerkit.items import Item, fold

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)


def add_choices(items: Iterable[Item]) -> list[str]:
    """Letter that the matching answer of each item gets.

    The letter depends on the item alone, so it is the same in every split and subset.

    * Choice items have theirs.
    * Persona items of the papers (Tan et al.'s code): A and B are swapped where ``row // 2`` is even, so the
      matching answer is B, B, A, A, B, ... As these files alternate Yes and No, each of A-Yes, A-No, B-Yes
      and B-No is a quarter of the set.
    * Persona items with a pair number: the Yes item of an even pair gets A and its No item B; in odd pairs
      the other way round. Over all pairs each combination is again a quarter; and as every pair has one A and
      one B, one Yes and one No, letter and word each cancel in a mean difference over any whole pairs.
    """
    return [_positive_letter(item) for item in items]


def _positive_letter(item: Item) -> str:
    if item.kind == "choice":
        return item.positive_letter
    if item.pair is None:
        return "B" if (item.row // 2) % 2 == 0 else "A"
    return "A" if (item.pair % 2 == 0) == (item.positive_answer == "Yes") else "B"


def statement_pairs(items: Sequence[Item], rng: np.random.Generator | None = None) -> list[tuple[Item, Item]]:
    """Pairs (matching, not matching) for the statement format.

    * Persona items with a pair number: the two statements of each pair.
    * Persona items without: statements labelled Yes, each with a random one labelled No.
    * Choice items: each question once, as (item, item), because its two options are the two completions. The
      same question with its options in another order is the same question.

    Left out, with a count in a log message: persona items without a partner, and choice items with an empty
    stem or option or with equal options (there are some in the papers' files).

    Parameters
    ----------
    items : sequence of Item
    rng : numpy Generator
        Needed for persona items without pair numbers only.

    Raises
    ------
    SteerkitError
        No pair can be made, or `rng` is needed and missing.
    """
    choices = [item for item in items if item.kind == "choice" and _has_two_completions(item)]
    paired = [item for item in items if item.kind == "persona" and item.pair is not None]
    single = [item for item in items if item.kind == "persona" and item.pair is None]
    partners = _by_pair_number(paired) + _random_pairs(single, rng)
    left_out = len(items) - len(choices) - 2 * len(partners)
    pairs = _distinct_questions(choices) + partners
    if not pairs:
        raise SteerkitError(
            "a matching and a not matching statement",
            f"{len(items)} items without such a pair",
            next_step="use more items; a persona set needs both labels.",
        )
    if left_out:
        logger.warning("%d of %d items have no counterpart and are left out", left_out, len(items))
    return pairs


def _has_two_completions(item: Item) -> bool:
    texts = [fold(item.matching_text), fold(item.not_matching_text)]
    return bool(item.stem) and all(texts) and texts[0] != texts[1]


def _distinct_questions(items: Sequence[Item]) -> list[tuple[Item, Item]]:
    first: dict[tuple[str, ...], Item] = {}
    for item in items:
        first.setdefault(item.same_question_key, item)
    return [(item, item) for item in first.values()]


def _by_pair_number(items: Sequence[Item]) -> list[tuple[Item, Item]]:
    pairs: dict[int | None, dict[str, Item]] = defaultdict(dict)
    for item in items:
        pairs[item.pair][item.positive_answer] = item
    return [(pair["Yes"], pair["No"]) for pair in pairs.values() if len(pair) == 2]


def _random_pairs(items: Sequence[Item], rng: np.random.Generator | None) -> list[tuple[Item, Item]]:
    if not items:
        return []
    if rng is None:
        raise SteerkitError(
            "a numpy random generator, rng",
            "none, and items without pair numbers",
            next_step="pass rng=numpy.random.default_rng(seed).",
        )
    sides = [[item for item in items if item.positive_answer == answer] for answer in ("Yes", "No")]
    drawn = [[side[i] for i in rng.permutation(len(side))] for side in sides]
    return list(zip(*drawn, strict=False))
