"""From a data set item to tokens: a chat template, and four answer formats.

`letter` is a choice between two lettered options. Small models do not bind letters to options, hence the others:
`statement` asks nothing and scores two completions, `yes-no` reads the answer word itself, and `options` lists the two
options and scores their texts.

Every example comes out in the same five parts, whatever the format::

    prompt | lead | answer | closing
    ...[/INST]  (     A       )          letter
    ...user           (A      )          letter, `merged`, by a tokenizer that has a token "(A"
    ...assistant      I enjoy long walks  statement
    ...assistant      Yes                 yes-no

`prompt` ends where the model starts to speak. The answers of the two sides differ; prompt, lead and closing do not.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from steerkit.chat import check_rendered
from steerkit.errors import need
from steerkit.items import Item, letter_of
from steerkit.templates import DEFAULT_SYSTEM, Template

TRIED = 16  # questions that a chat template is tried on
KEPT = 0.7  # of the letters of an answer that come back from its tokens; normalisation may cost a few
# What `statement` puts before a first-person statement; sets with questions put their question there.
STATEMENT_REQUEST = "Tell me something about yourself."


@dataclass(frozen=True)
class Example:
    """One item, tokenised. All token lists are tuples of ids; positions count from the start of `prompt`.

    `matching` and `not_matching` are the tokens of the answer that shows the behaviour and of the one that does
    not. `positive_letter` and `positive_answer` are empty where the format has none.
    """

    id: str
    format: str
    prompt: tuple[int, ...]
    lead: tuple[int, ...]
    matching: tuple[int, ...]
    not_matching: tuple[int, ...]
    closing: tuple[int, ...]
    positive_letter: str = ""
    positive_answer: str = ""


Parts = tuple[Sequence[int], list[list[int]], Sequence[int]]  # lead, answers, closing
Split = Callable[[Any, list[list[int]]], Parts]  # of a tokenizer and the tokens of both answers


@dataclass(frozen=True)
class Prompter:
    """Turns items into examples for one tokenizer and one way of asking.

    `merged` is for tokenizers that put the opening bracket and the letter into one token (Llama 3, Qwen since 1.5:
    "(A" after a newline). With it that token is the letter, read and scored as such: what a code gets that tokenises
    the whole string and reads index -2, as Tan et al.'s does. Without it bracket, letter and bracket are tokenised
    apart, so that there is a letter by itself. All other tokenizers give the same either way.
    """

    tokenizer: Any
    template: Template
    system: str = DEFAULT_SYSTEM
    before: str = ""  # what stands before every user message
    merged: bool = False
    strip: bool = False  # whether a question loses the white space around it

    def letter(self, item: Item, positive_letter: str) -> Example:
        """Two lettered options, answered `(A)` or `(B)`; a choice item keeps its letters."""
        return self._listed("letter", item, positive_letter, partial(split_letters, merged=self.merged))

    def options(self, item: Item, positive_letter: str) -> Example:
        """The prompt of `letter`, answered by the text of an option: whether a model compares them without naming them."""
        return self._listed("options", item, positive_letter, _whole)

    def _listed(self, form: str, item: Item, positive_letter: str, split: Split) -> Example:
        letters = ("A", "B") if positive_letter == "A" else ("B", "A")
        texts = item.matching.strip(), item.not_matching.strip()
        if item.kind == "choice":
            letters = letter_of(item.matching), letter_of(item.not_matching)
            texts = item.matching_text, item.not_matching_text
        body = letter_body(item, positive_letter) + self.template.cue
        answers = [f"({each})" for each in letters] if form == "letter" else texts
        positive = {"positive_letter": letters[0], "positive_answer": item.positive_answer}
        return self.example(item.id, form, body, answers, split, **positive)

    def yes_no(self, item: Item, positive_answer: str) -> Example:
        """A question answered by the word Yes or No, asked so that `positive_answer` shows the behaviour."""
        answers = ("Yes", "No") if positive_answer == "Yes" else ("No", "Yes")
        body = yes_no_body(item, positive_answer) + self.template.cue
        return self.example(item.id, "yes-no", body, answers, split_words, positive_answer=positive_answer)

    def statement(self, matching: Item, not_matching: Item) -> Example:
        """Two completions of one prompt: persona statements of a pair, or the two options of one question."""
        if matching.kind == "persona":
            request, texts = STATEMENT_REQUEST, [matching.statement, not_matching.statement]
        else:
            request = matching.stem + self.template.cue
            texts = [matching.matching_text, matching.not_matching_text]
        return self.example(matching.id, "statement", request, texts, _whole)

    def example(
        self, name: str, form: str, body: str, answers: Sequence[str], split: Split, **positive: str
    ) -> Example:
        """A user message and two answers as an example; `split` cuts lead and closing off the answers."""
        body = body.strip() if self.strip else body
        prompt, tails = self.template.render(self.system, self.before + body), []
        if self.template.name == "auto":
            self._check_rendered(prompt, self.before + body)
        asked = body, self.template.user_at(self.system)
        start = self.ids(prompt, asked)
        if self.tokenizer.unk_token_id in start:
            self._check_kept(name, body, self._as_text(body))
        for answer in (self.template.gap() + each for each in answers):
            whole = self.ids(prompt + answer, asked, (answer, len(prompt)))
            if whole[: len(start)] != start:  # the tokenizer would merge across the border
                whole = start + self._as_text(answer)
            tails.append(whole[len(start) :])
            self._check_kept(name, answer, tails[-1])
        lead, sides, closing = split(self.tokenizer, tails)
        matching, other = map(tuple, sides)
        differ, pair = matching != other and all(sides), f"{answers[0]!r} and {answers[1]!r}"
        mend = "mend the item, or drop it from the data set."
        need(differ, f"two different answers for item {name}", f"{pair}, the same tokens", mend)
        return Example(name, form, tuple(start), tuple(lead), matching, other, tuple(closing), **positive)

    def ids(self, text: str, *said: tuple[str, int]) -> list[int]:
        """Tokens of a prompt, with the beginning-of-sequence token where the template has it.

        Of what was `said` in it, each with the place from which on it stands there, nothing is a control token: a data set
        may hold `</s>` or `<|im_end|>`, which the template has as well.
        """
        ids, done = [], 0
        for part, start in said:
            if any(token in part for token in self._control):
                at = text.index(part.strip(), max(start, done))
                ids += self.tokenizer(text[done:at], add_special_tokens=False).input_ids
                ids += self._as_text(part.strip())
                done = at + len(part.strip())
        ids += self.tokenizer(text[done:], add_special_tokens=False).input_ids
        bos = self.tokenizer.bos_token_id
        starts = self.template.bos and bos is not None and (not ids or ids[0] != bos)
        return [bos, *ids] if starts else ids

    def _check_rendered(self, prompt: str, user: str) -> None:
        """Refuse a template that makes something else of a question than of the probe: tried on the first and the longest."""
        tried = self._tried
        if self.system and (tried["count"] < TRIED or len(user) > tried["longest"]):
            tried |= {"count": tried["count"] + 1, "longest": max(len(user), tried["longest"])}
            check_rendered(self.tokenizer, self.system, user, prompt)

    @cached_property
    def _tried(self) -> dict[str, int]:
        return {"count": 0, "longest": 0}

    def _check_kept(self, name: str, answer: str, tokens: Sequence[int]) -> None:
        """Refuse a tokenizer that loses much of a text: to a token for what is unknown, or altogether."""
        kept = [token for token in tokens if token != self.tokenizer.unk_token_id]
        wanted, found = (
            Counter("".join(text.split()).casefold()) for text in (answer, self.tokenizer.decode(kept))
        )
        drop = "mend the item, or drop it from the data set."
        need(bool(wanted), f"an answer with text for item {name}", repr(answer), drop)
        share = (wanted & found).total() / wanted.total()
        expected = f"a tokenizer that keeps the text of item {name}, {answer.strip()[:60]!r}"
        mend = "use the tokenizer that belongs to the model, or leave the item out."
        need(share >= KEPT, expected, f"{self.tokenizer.decode(tokens)[:60]!r}", mend)

    @cached_property
    def _control(self) -> set[str]:
        """Texts that the tokenizer takes for control tokens."""
        return {token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special}

    def _as_text(self, text: str) -> list[int]:
        """Tokens of a text in which nothing is a control token."""
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids


def letter_body(item: Item, positive_letter: str) -> str:
    """The user message of the `letter` format: a choice item carries its options already, a persona item gets its two
    answers listed (raw ones start with a space, hence `(A): No` with two)."""
    if item.kind == "choice":
        return item.question
    answers = [item.matching, item.not_matching]
    first, second = answers if positive_letter == "A" else reversed(answers)
    return f"{item.question}\n\nChoices:\n(A): {first}\n(B): {second}"


def yes_no_body(item: Item, positive_answer: str) -> str:
    """The user message of the `yes-no` format: a persona item is asked as in its file when that makes `positive_answer`
    the matching one, else the other way round ("... would not say?"); a choice item proposes one of its options."""
    if item.kind == "choice":
        option = item.matching_text if positive_answer == "Yes" else item.not_matching_text
        return f"{item.stem}\n\nProposed answer: {option}\n\nIs this the answer you would give?"
    if positive_answer == item.positive_answer:
        return item.question
    return f'Is the following statement something you would not say?\n"{item.statement}"'


def _whole(_: Any, tails: list[list[int]]) -> Parts:
    """All of both answers."""
    return (), tails, ()


def split_words(tokenizer: Any, tails: list[list[int]]) -> Parts:
    """The first token in which two answer words differ; some tokenizers put a space of its own before both."""
    shared = next((i for i, (a, b) in enumerate(zip(*tails, strict=False)) if a != b), min(map(len, tails)))
    return tails[0][:shared], [tail[shared : shared + 1] for tail in tails], ()


def split_letters(tokenizer: Any, tails: list[list[int]], merged: bool = False) -> Parts:
    """Cut `(A)` and `(B)` into what they share and the one token in which they differ, the letter. Where a tokenizer
    merges it with a bracket the three parts are tokenised one by one, but a "(A" stays whole with `merged`
    (`Prompter`)."""
    lead, letters, closing = _cut(tokenizer, tails, merged)
    if closing is None:
        texts = [tokenizer.decode(tail) for tail in tails]
        pieces = [(text[:-2], text[-2:-1], text[-1:]) for text in texts]
        apart = [[tokenizer(piece, add_special_tokens=False).input_ids for piece in each] for each in pieces]
        apart = [[*opening, *letter, *end] for opening, letter, end in apart]
        lead, letters, closing = _cut(tokenizer, apart)
    shown = [[tokenizer.decode([token]) for token in tail] for tail in tails]
    mend = "use answer_format=statement; this tokenizer has no token for a letter by itself."
    found = f"{shown[0]} and {shown[1]}"
    need(closing is not None, "answers that differ in one token, the letter", found, mend)
    return lead, letters, closing


def _cut(
    tokenizer: Any, tails: list[list[int]], merged: bool = False
) -> tuple[list[int], list[list[int]], list[int] | None]:
    """Lead, the two letters and the closing bracket; no closing where the answers differ in more than a letter."""
    lead, letters, _ = split_words(tokenizer, tails)
    closing, other = (tail[len(lead) + 1 :] for tail in tails)
    decoded = [tokenizer.decode(each).strip() for each in letters]
    if merged and closing:
        decoded = [text.removeprefix("(") for text in decoded]
    sound = closing == other and all(len(text) == 1 and text.isupper() for text in decoded)
    return lead, letters, closing if sound else None  # type: ignore[return-value]
