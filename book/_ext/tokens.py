"""The tokens of one item, seen: what is read, steered and scored in each answer format, as lines of coloured tokens."""

import html
from itertools import groupby

import pandas as pd

from companion import models
from companion.data.ask import examples_of
from companion.data.datasets import load_dataset
from companion.outline import outline
from steerkit.formats import FORMATS, ledger
from steerkit.prompts import Prompter

SET, ITEMS = "openness", (0, 1)  # a minimal pair: in `statement` one item, elsewhere the first
MARKS = ("steered", "read", "scored")


def page(model: str) -> str:
    """One block a format: the prompt with the matching answer, and the other answer under it."""
    about, dataset = outline(model), load_dataset(SET)
    asked = Prompter(about.tokenizer, about.template)
    shown = {form: examples_of(asked, dataset, ITEMS, form, 0)[0] for form in FORMATS}
    legend = " ".join(f'<span class="token {mark}">{mark}</span>' for mark in MARKS)
    blocks = [f"The tokens of {models.label(model)}, an item of *{SET}*. Marks: {_line(legend)}"]
    for form, example in shown.items():
        table = ledger(about.tokenizer, example)
        first = table["side"] == "matching"
        other = table[~first & ~table["part"].isin(["prompt", "lead"])]
        lines = (_line(_spans(each)) for each in (table[first], other))
        blocks.append(f"*{form}*\n\n" + "\n\nthe other answer: ".join(lines))
    return "\n\n".join(blocks)


def _line(spans: str) -> str:
    return f'<span class="tokens">{spans}</span>'


def _spans(table: pd.DataFrame) -> str:
    """Tokens with their marks; neighbours without any are one piece, so that a screen reader says words."""
    found = ""
    for marks, rows in groupby(table.itertuples(), lambda row: " ".join(m for m in MARKS if getattr(row, m))):
        start, end = (f'<span class="token {marks}">', "</span>") if marks else ("", "")
        found += "".join(f"{start}{_shown(row.token)}{end}" for row in rows)
    return found


def _shown(token: str) -> str:
    """A token as markup: nothing in it is Markdown or HTML, and a line break can be seen."""
    safe = html.escape(token).replace("\n", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}")
    return "".join(f"&#{ord(one)};" if one in r"\`*_{}[]()#+-.!|$~<>:" else one for one in safe)
