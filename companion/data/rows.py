"""From the bytes of a data file to items, with every flaw of a row named by it (`companion.data.checks`: of a whole set).

Formats: Perez et al. 2022 (JSON lines), CAA (Rimsky et al. 2023), and TruthfulQA's multiple choice (Lin et al. 2021),
asked as in Tan et al. 2024; and texts with a positive and a negative answer, also as columns of a CSV file.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from companion.data.forms import OPTION
from steerkit.errors import SteerkitError, need, told
from steerkit.items import Item, letter_of
from steerkit.prompts import STATEMENT_REQUEST

# Artefacts of the model that wrote the sets. Tan et al.'s code has the same character class (no `<` inside):
# a greedy `.*` would also delete the sentences between two tags.
META_TAG = re.compile(r"<META_START>[^<]*<META_END>")
HEADER = re.compile(r"(?:^|\n)[ \t*_]*(?:answer )?(?:choice|option|answer|response)s?[*_]*:?[*_]*\s*$", re.I)
# Some human-written questions end with it, after the last option.
ANSWER_CUE = re.compile(r"\s*\n\s*Answer:\s*$")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FIELDS = ("question", "answer_matching_behavior", "answer_not_matching_behavior")
CONTRAST = ("prompt", "positive", "negative")
MEND = "mend the row, or drop it."
NOT_LOADED = "The data set was not loaded."
_need = partial(need, next_step=MEND, done=NOT_LOADED)


def read_rows(content: bytes, path: str) -> list[Any]:
    """Rows of a file: a list in a .json file, a header and its columns in a .csv file, one a line in any other."""

    step, said = "save the file as UTF-8.", "byte {0.start} that is not".format
    with told((UnicodeDecodeError,), f"UTF-8 text in {path}", step, NOT_LOADED, said):
        text = content.decode("utf-8-sig")
    suffix = path.lower().rpartition(".")[2]
    if suffix == "json":
        rows = _parse(text, path, 1) if text.strip() else []
    elif suffix == "csv":
        rows = _table(text, path)
    else:  # files put one after the other have their byte order marks at the start of lines
        lines = enumerate((line.lstrip("\ufeff") for line in text.split("\n")), 1)
        rows = [_parse(line, path, number) for number, line in lines if line.strip()]
    step = "write one JSON object per item (.jsonl: one a line; .json: a list), or columns (.csv)."
    found = f"a {type(rows).__name__}" if rows else "none"
    _need(rows and isinstance(rows, list), f"items in {path}", found, next_step=step)
    return rows


def _parse(text: str, path: str, first_line: int) -> Any:
    step = "mend or delete that line."
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        expected = f"JSON in line {first_line + error.lineno - 1} of {path}"
        found = f"{text.split(chr(10))[error.lineno - 1].strip(chr(13))[:60]!r} ({error.msg})"
        raise SteerkitError(expected, found, done=NOT_LOADED, next_step=step) from error
    except (RecursionError, ValueError) as error:  # brackets in brackets, or a number of thousands of digits
        expected, found = f"JSON from line {first_line} of {path} on", f"{text[:60]!r} ({error})"
        raise SteerkitError(expected, found, done=NOT_LOADED, next_step=step) from error


def _once(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object none of whose fields is there twice: which of them is meant nobody knows."""
    if twice := [name for name, count in Counter(name for name, _ in fields).items() if count > 1]:
        raise ValueError(f"{twice[0]!r} twice in one object")
    return dict(fields)


def _table(text: str, path: str) -> list[dict[str, str]]:
    """Rows of a table with a header, separated by whichever of comma, semicolon and tab its first line has most of."""
    separator = max(",;\t", key=text.partition("\n")[0].count)
    step = "save it as CSV with a header and one row an item."
    with told((csv.Error,), f"a table in {path}", step, NOT_LOADED):
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        rows, header = list(reader), [str(name).strip().lower() for name in reader.fieldnames or ()]
    _need(len({*header}) == len(header), f"columns of different names in {path}", str(header), next_step=step)
    for number, row in enumerate(rows):
        found = f"more of them in row {number}, {str(row.get(None))[:60]}"
        _need(None not in row, f"as many columns as the header of {path} has", found, next_step=step)
    return [dict(zip(header, (value or None for value in row.values()), strict=True)) for row in rows]


def parse_rows(
    rows: list[Any], dataset: str, row_format: str | None = None, more_options: bool = False
) -> tuple[Item, ...]:
    """Items of the raw `rows` of one file, with ids made of the name `dataset` and the row.

    `row_format` is a name of `READERS`; None recognises the format of each row by its fields. `more_options` allows
    more than two: CAA's survival-instinct lists up to eight. A row without the fields of its format or without exactly
    two options is refused, and one whose labels name no option or the same one twice.
    """
    rows = [_filled(row) if isinstance(row, Mapping) else {} for row in rows]
    bare = [i for i, row in enumerate(rows) if not row.get("prompt") and {*CONTRAST[1:]} <= row.keys()]
    found = f"none in row {dataset}/{bare[0]:04d}, and {len(bare)} without in all" if bare else ""
    mend = "give every row its prompt, or none (then they are statements about oneself)."
    alike = not (bare and any(row.get("prompt") for row in rows))
    _need(alike, "a prompt in every row, or in none", found, next_step=mend)
    how = row_format, more_options
    return tuple(_parse_row(row, f"{dataset}/{i:04d}", *how) for i, row in enumerate(rows))


def _filled(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a row has: pandas and datasets fill columns up, with null or NaN."""
    return {name: value for name, value in row.items() if value is not None and value == value}


def _parse_row(row: dict[str, Any], item_id: str, row_format: str | None, more_options: bool) -> Item:
    half = f"half of a character (a lone surrogate) in row {item_id}"
    with told((UnicodeEncodeError,), "text that UTF-8 can hold", MEND, NOT_LOADED, lambda _: half):
        json.dumps(row, ensure_ascii=False).encode()
    known = [each for field, each in RECOGNISED_BY.items() if field in row]
    expected = f"a row with the fields {', '.join(FIELDS)}, or {', '.join(CONTRAST)}"
    step = "write one JSON object per item with these fields (persona items also: statement)."
    where = f"{sorted(row)} in row {item_id}"
    _need(row_format or known, expected, where, next_step=step)
    item, kinds = row_format or "persona or choice", (KeyError, TypeError, AttributeError)
    expected = f"a row with the fields of a {item} item, all text (pair: a number)"
    with told(kinds, expected, MEND, NOT_LOADED, lambda error: f"{where} ({error!r})"):
        return READERS[row_format or known[0]](row, item_id, more_options=more_options)


def _text(row: Mapping[str, Any], field: str) -> str:
    if not isinstance(row[field], str):
        raise TypeError(field)
    return row[field]


def _pair(row: Mapping[str, Any]) -> int | None:
    pair = row.get("pair")
    if isinstance(pair, str) and (digits := pair.strip().removesuffix(".0")).isdecimal():  # of a table
        return int(digits)
    if isinstance(pair, float) and pair.is_integer():  # a column of numbers in which some are missing
        return int(pair)
    if pair is not None and type(pair) is not int:
        raise TypeError("pair")
    return pair


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
    starts = [mark.start() for mark in OPTION.finditer(question) if mark[1] == "A"]
    if not starts:
        return question.strip(), ()
    _, *parts = OPTION.split(question[starts[-1] :])
    options = zip(parts[::2], (ANSWER_CUE.sub("", text).strip() for text in parts[1::2]), strict=True)
    return HEADER.sub("", question[: starts[-1]].rstrip()).strip(), tuple(options)


def _lettered(item_id: str, labels: tuple[str, str], *texts: str) -> tuple[tuple[str, str], tuple]:
    """The labels of two texts, exchanged in the 2nd, 4th ... item, and the options in the order of their letters."""
    answers = labels[::-1] if int(item_id.rpartition("/")[2]) % 2 else labels
    return answers, tuple(sorted(zip(map(letter_of, answers), texts, strict=True)))


def _truthfulqa(row: Mapping[str, Any], item_id: str, more_options: bool) -> Item:
    """Correct against first incorrect answer; correct is (B) in the 1st, 3rd ... item (Tan et al.)."""
    asked, first = _text(row, "question"), {}
    for text, label in row["mc1_targets"].items():
        first.setdefault(label, text)
    labels = f"labels {sorted(row['mc1_targets'].values())} in row {item_id}"
    _need({0, 1} <= set(first), "a correct and an incorrect answer", labels)
    answers, options = _lettered(item_id, ("(B)", "(A)"), first[1], first[0])
    question = f"{asked}\n\n(A) {options[0][1]}\n(B) {options[1][1]}"
    return Item(item_id, question, *answers, stem=asked.strip(), options=options)


def _contrast(row: Mapping[str, Any], item_id: str, more_options: bool) -> Item:
    """Two answers to a prompt, or two statements, as a choice: the positive one is (A) in the 1st, 3rd ... item."""
    prompt = (_text(row, "prompt") if row.get("prompt") else STATEMENT_REQUEST).strip()
    texts = (_text(row, field).strip() for field in CONTRAST[1:])
    answers, options = _lettered(item_id, (" (A)", " (B)"), *texts)
    listed = f"{prompt}\n\nChoices:\n (A) {options[0][1]}\n (B) {options[1][1]}"
    return Item(item_id, listed, *answers, stem=prompt, options=options, pair=_pair(row))


READERS: dict[str, Callable[..., Item]] = {
    "persona": _persona,
    "choice": _choice,
    "truthfulqa": _truthfulqa,
    "caa-truthfulqa": partial(_choice, fields=("prompt", "correct", "incorrect")),
    "contrast": _contrast,
}
RECOGNISED_BY = {"statement": "persona", "mc1_targets": "truthfulqa", "correct": "caa-truthfulqa"}
RECOGNISED_BY |= {"answer_matching_behavior": "choice", "positive": "contrast"}


def _check_labels(item_id: str, matching: str, not_matching: str, allowed: tuple[str, ...]) -> None:
    right = {matching, not_matching} <= set(allowed) and matching != not_matching
    found = f"{matching!r} and {not_matching!r} in row {item_id}"
    step = f"mend {FIELDS[1]} and {FIELDS[2]} of that row."
    _need(right, f"two different labels out of {', '.join(allowed)}", found, next_step=step)
