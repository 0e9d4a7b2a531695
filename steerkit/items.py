"""One row of a data set: a question and its two answers.

Two kinds of item (papers: Perez et al. 2022; Tan et al. 2024, section 3):

persona
    "Is the following statement something you would say?" with the answers Yes and No. Letters are added when
    it is asked (`steerkit.formats`).
choice
    A question that lists its options, `(A) ...` and `(B) ...`, and is answered by a letter.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One question with the answer that matches the behaviour and the one that does not."""

    id: str  # "<dataset>/<zero-padded row>": the row of the file, whatever split the item is in
    question: str  # as in the file, META tags removed
    matching: str  # raw answers, e.g. " Yes" or " (A)", with the file's leading space
    not_matching: str
    statement: str | None = None  # the first-person statement of a persona item
    stem: str | None = None  # a choice item's question without the list of options and its heading
    options: tuple[tuple[str, str], ...] = ()  # a choice item's (letter, text) in the order listed
    pair: int | None = None  # items of one minimal pair share it and stay together in every split

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
        """Letter of the matching option; empty for persona items, which get theirs when they are asked."""
        return letter_of(self.matching) if self.kind == "choice" else ""

    @property
    def positive_answer(self) -> str:
        """``"Yes"`` or ``"No"`` for persona items, empty for choice items."""
        return self.matching.strip() if self.kind == "persona" else ""

    @property
    def matching_text(self) -> str:
        """Text of the matching option; empty for persona items, as the next one."""
        return dict(self.options).get(letter_of(self.matching), "")

    @property
    def not_matching_text(self) -> str:
        """Text of the other option."""
        return dict(self.options).get(letter_of(self.not_matching), "")

    @property
    def same_question_key(self) -> tuple[str, ...]:
        """Equal for items that ask the same: whitespace, case and the order of the options do not count."""
        asked = self.question if self.kind == "persona" else self.stem
        return (fold(asked or ""), *sorted(fold(text) for _, text in self.options))


def fold(text: str) -> str:
    """`text` with whitespace runs made one space and case folded."""
    return " ".join(text.split()).casefold()


def letter_of(answer: str) -> str:
    """``"A"`` of the answer ``" (A)"``."""
    return answer.strip().strip("()")
