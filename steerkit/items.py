"""One row of a data set: a question and its two answers.

Two kinds of item (papers: Perez et al. 2022; Tan et al. 2024, section 3):

persona
    "Is the following statement something you would say?" with the answers Yes and No. Letters are added later
    (`companion.data.datasets.add_choices`).
choice
    A question that lists its options, `(A) ...` and `(B) ...`, and is answered by a letter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from steerkit.errors import SteerkitError

OPTION = re.compile(r"(?:^|\n)[ \t]*\(([A-Z])\):?")
HEADER = re.compile(
    r"(?:^|\n)[ \t*_]*(?:answer )?(?:choices?|options?|answers?|responses?)[*_]*:?[*_]*\s*$", re.I
)
ANSWER_CUE = re.compile(
    r"\s*\n\s*Answer:\s*$"
)  # some human-written questions end with it, after the last option


@dataclass(frozen=True)
class Item:
    """One question with the answer that matches the behaviour and the one that does not.

    Attributes
    ----------
    id : str
        ``"<dataset>/<zero-padded row>"``: the row of the file, whatever split the item is in.
    question : str
        As in the file, META tags removed.
    matching, not_matching : str
        Raw answer strings, e.g. ``" Yes"`` or ``" (A)"``, with the file's leading space.
    statement : str or None
        The first-person statement of a persona item.
    stem : str or None
        A choice item's question without the list of options and its heading.
    options : tuple of (letter, text)
        A choice item's options in the order listed; empty for persona items.
    pair : int or None
        Items of one minimal pair share it and stay together in every split (bundled sets only).
    """

    id: str
    question: str
    matching: str
    not_matching: str
    statement: str | None = None
    stem: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    pair: int | None = None

    @property
    def kind(self) -> str:
        """``"persona"`` or ``"choice"``."""
        return "choice" if self.statement is None else "persona"

    @property
    def row(self) -> int:
        """Row in the file, from 0."""
        return int(self.id.rpartition("/")[2])

    @property
    def positive_letter(self) -> str:
        """Letter of the matching option; empty for persona items, which get theirs from `add_choices`."""
        return letter_of(self.matching) if self.kind == "choice" else ""

    @property
    def positive_answer(self) -> str:
        """``"Yes"`` or ``"No"`` for persona items, empty for choice items."""
        return self.matching.strip() if self.kind == "persona" else ""

    @property
    def matching_text(self) -> str:
        """Text of the matching option; empty for persona items."""
        return dict(self.options).get(letter_of(self.matching), "")

    @property
    def not_matching_text(self) -> str:
        """Text of the option that does not match; empty for persona items."""
        return dict(self.options).get(letter_of(self.not_matching), "")

    @property
    def same_question_key(self) -> tuple[str, ...]:
        """Equal for items that ask the same: whitespace, case and the order of the options do not count."""
        asked = self.question if self.kind == "persona" else self.stem
        return (fold(asked or ""), *sorted(fold(text) for _, text in self.options))


def fold(text: str) -> str:
    """`text` with whitespace runs made one space and case folded."""
    return " ".join(text.split()).casefold()


def split_options(question: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Question without its list of options, and the options as (letter, text).

    The list starts at the last `(A)` that opens a line: a few questions quote a whole list before their own.
    """
    marks = list(OPTION.finditer(question))
    starts = [i for i, mark in enumerate(marks) if mark[1] == "A"]
    if not starts:
        return question.strip(), ()
    marks = marks[starts[-1] :]
    ends = [mark.start() for mark in marks[1:]] + [len(question)]
    options = tuple(
        (mark[1], ANSWER_CUE.sub("", question[mark.end() : end]).strip())
        for mark, end in zip(marks, ends, strict=True)
    )
    stem = question[: marks[0].start()].rstrip()
    return HEADER.sub("", stem).strip(), options


def exchanged(item: Item) -> Item:
    """A choice item with the texts of its two options exchanged, so that the other letter matches.

    Raises
    ------
    SteerkitError
        For more than two options.
    """
    if len(item.options) != 2:
        raise SteerkitError(
            f"two options in {item.id}, to exchange them",
            str(len(item.options)),
            next_step="drop the item, or switch counterbalanced off.",
        )
    (_, first), (_, second) = item.options
    marks = [mark for mark in OPTION.finditer(item.question) if mark[1] in "AB"][-2:]
    head, between = item.question[: marks[0].end()], item.question[marks[0].end() : marks[1].end()]
    tail = item.question[marks[1].end() :]
    question = head + between.replace(first, second, 1) + tail.replace(second, first, 1)
    return replace(
        item,
        question=question,
        matching=item.not_matching,
        not_matching=item.matching,
        options=(("A", second), ("B", first)),
    )


def letter_of(answer: str) -> str:
    """``"A"`` of the answer ``" (A)"``."""
    return answer.strip().strip("()")
