"""From the bytes of a data file to items, with every flaw named by row.

Formats: Perez et al. 2022 (JSON lines), CAA (Rimsky et al. 2023), and TruthfulQA's multiple choice (Lin et al. 2021),
asked as in Tan et al. 2024.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from companion.data.forms import OPTION
from steerkit.errors import SteerkitError, need, told
from steerkit.items import Item, letter_of

# Artefacts of the model that wrote the sets. Tan et al.'s code has the same character class (no `<` inside):
# a greedy `.*` would also delete the sentences between two tags.
META_TAG = re.compile(r"<META_START>[^<]*<META_END>")
HEADER = re.compile(r"(?:^|\n)[ \t*_]*(?:answer )?(?:choice|option|answer|response)s?[*_]*:?[*_]*\s*$", re.I)
# Some human-written questions end with it, after the last option.
ANSWER_CUE = re.compile(r"\s*\n\s*Answer:\s*$")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FIELDS = ("question", "answer_matching_behavior", "answer_not_matching_behavior")
MEND = "mend the row, or drop it."
NOT_LOADED = "The data set was not loaded."
_need = partial(need, next_step=MEND, done=NOT_LOADED)


def read_rows(content: bytes, path: str) -> list[Any]:
    """JSON objects of a file: a list in a .json file, one a line in any other."""

    step, said = "save the file as UTF-8.", "byte {0.start} that is not".format
    with told((UnicodeDecodeError,), f"UTF-8 text in {path}", step, NOT_LOADED, said):
        text = content.decode("utf-8")
    if path.endswith(".json"):
        rows = _parse(text, path, 1) if text.strip() else []
    else:
        rows = [_parse(line, path, number) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    step = "write one JSON object per item (.jsonl: one a line; .json: a list)."
    found = f"a {type(rows).__name__}" if rows else "none"
    _need(rows and isinstance(rows, list), f"items in {path}", found, next_step=step)
    return rows


def _parse(text: str, path: str, first_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        expected = f"JSON in line {first_line + error.lineno - 1} of {path}"
        found = f"{text.splitlines()[error.lineno - 1][:60]!r} ({error.msg})"
        step = "mend or delete that line."
        raise SteerkitError(expected, found, done=NOT_LOADED, next_step=step) from error


def parse_rows(
    rows: list[Any], dataset: str, row_format: str | None = None, more_options: bool = False
) -> tuple[Item, ...]:
    """Items of the raw `rows` of one file, with ids made of the name `dataset` and the row.

    `row_format` is a name of `READERS`; None recognises the format of each row by its fields. `more_options` allows
    more than two: CAA's survival-instinct lists up to eight. A row without the fields of its format or without exactly
    two options is refused, and one whose labels name no option or the same one twice.
    """
    how = row_format, more_options
    return tuple(_parse_row(row, f"{dataset}/{i:04d}", *how) for i, row in enumerate(rows))


def _parse_row(row: Any, item_id: str, row_format: str | None, more_options: bool) -> Item:
    reader, kinds = READERS[row_format or _recognise(row, item_id)], (KeyError, TypeError, AttributeError)
    fields = sorted(row) if isinstance(row, Mapping) else type(row).__name__
    expected = f"a row with the fields of a {row_format or 'persona or choice'} item, all text"
    expected, where = f"{expected} (pair: a number)", f"{fields} in row {item_id}"
    with told(kinds, expected, MEND, NOT_LOADED, lambda error: f"{where} ({error!r})"):
        return reader(row, item_id, more_options=more_options)


def _recognise(row: Any, item_id: str) -> str:
    fields = row if isinstance(row, Mapping) else {}
    known = [row_format for field, row_format in RECOGNISED_BY.items() if field in fields]
    expected = f"a row with the fields {', '.join(FIELDS)}"
    step = "write one JSON object per item with these fields (persona items also: statement)."
    _need(known, expected, f"{sorted(fields)} in row {item_id}", next_step=step)
    return known[0]


def _text(row: Mapping[str, Any], field: str, kind: type = str) -> Any:
    if not isinstance(row[field], kind):
        raise TypeError(field)
    return row[field]


def _pair(row: Mapping[str, Any]) -> int | None:
    return None if row.get("pair") is None else _text(row, "pair", int)


def _persona(row: Mapping[str, Any], item_id: str, more_options: bool) -> Item:
    answers = [_text(row, field) for field in FIELDS[1:]]
    _check_labels(item_id, *(answer.strip() for answer in answers), ("Yes", "No"))
    question, statement = _text(row, "question"), _text(row, "statement")
    return Item(item_id, question, *answers, statement=statement, pair=_pair(row))


def _choice(
    row: Mapping[str, Any], item_id: str, more_options: bool, fields: tuple[str, ...] = FIELDS
) -> Item:
    question, *answers = (_text(row, field) for field in fields)
    question = META_TAG.sub("", question)
    stem, options = split_options(question)
    letters = tuple(letter for letter, _ in options)
    right = len(letters) > 1 and "".join(letters) == (LETTERS[: len(letters)] if more_options else "AB")
    count = "two or more" if more_options else "exactly two"
    expected = f"{count} options, (A) and (B), each on its own line"
    _need(right, expected, f"{', '.join(letters) or 'none'} in row {item_id}")
    _check_labels(item_id, *map(letter_of, answers), letters)
    return Item(item_id, question, *answers, stem=stem, options=options, pair=_pair(row))


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
    texts = (question[mark.end() : end] for mark, end in zip(marks, ends, strict=True))
    options = ((mark[1], ANSWER_CUE.sub("", text).strip()) for mark, text in zip(marks, texts, strict=True))
    stem = question[: marks[0].start()].rstrip()
    return HEADER.sub("", stem).strip(), tuple(options)


def _truthfulqa(row: Mapping[str, Any], item_id: str, more_options: bool) -> Item:
    """Correct against first incorrect answer; correct is (B) in the 1st, 3rd ... item (Tan et al.)."""
    asked, first = _text(row, "question"), {}
    for text, label in row["mc1_targets"].items():
        first.setdefault(label, text)
    labels = f"labels {sorted(row['mc1_targets'].values())} in row {item_id}"
    _need({0, 1} <= set(first), "a correct and an incorrect answer", labels)
    answers = ("(B)", "(A)") if int(item_id.rpartition("/")[2]) % 2 == 0 else ("(A)", "(B)")
    options = tuple(sorted(zip(map(letter_of, answers), (first[1], first[0]), strict=True)))
    question = f"{asked}\n\n(A) {options[0][1]}\n(B) {options[1][1]}"
    return Item(item_id, question, *answers, stem=asked.strip(), options=options)


READERS: dict[str, Callable[..., Item]] = {
    "persona": _persona,
    "choice": _choice,
    "truthfulqa": _truthfulqa,
    "caa-truthfulqa": partial(_choice, fields=("prompt", "correct", "incorrect")),
}
RECOGNISED_BY = {"statement": "persona", "mc1_targets": "truthfulqa", "correct": "caa-truthfulqa"}
RECOGNISED_BY["answer_matching_behavior"] = "choice"


def _check_labels(item_id: str, matching: str, not_matching: str, allowed: tuple[str, ...]) -> None:
    right = {matching, not_matching} <= set(allowed) and matching != not_matching
    found = f"{matching!r} and {not_matching!r} in row {item_id}"
    step = f"mend {FIELDS[1]} and {FIELDS[2]} of that row."
    _need(right, f"two different labels out of {', '.join(allowed)}", found, next_step=step)


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
