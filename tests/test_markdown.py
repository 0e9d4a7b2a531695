"""Markdown made by the package, read back by the parser that the book uses."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from _ext import markdown

HOSTILE = "a | b < c {d} $e$ [f](g)\nsecond line"


def cells(text: str) -> list[list[str]]:
    """Cells of the rows of a Markdown table, split at bars that are not escaped."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_a_cell_is_text_whatever_is_in_it():
    head, _, row = cells(markdown.table(pd.DataFrame({"x": [HOSTILE], "y": [1]})))
    assert head == ["x", "y"] and row[1] == "1"
    assert row[0] == r"a \| b &lt; c &#123;d} \$e\$ \[f](g) second line"


def test_links_downloads_and_code_stay_what_they_are_and_the_rest_is_text():
    value = "see {download}`data <a/b.csv>` or [page](/x.md) or `f(x|y)` but not {this} <b>"
    _, _, [found] = cells(markdown.table_of_markdown(pd.DataFrame({"x": [value]})))
    assert found == r"see {download}`data <a/b.csv>` or [page](/x.md) or `f(x\|y)` but not &#123;this} &lt;b>"


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_fence_is_longer_than_any_inside_it(depth):
    text = "text"
    for _ in range(depth):
        text = markdown.fence("div", "scroll", text)
    runs = [len(run) for run in re.findall(r"^(:+)", text, re.MULTILINE)]
    assert runs == [*range(depth + 2, 2, -1), *range(3, depth + 3)]


def test_tabs_in_tabs_come_out_as_tabs_in_tabs():
    """The parser of the book finds the inner set inside the first outer tab, and the table inside that."""
    pytest.importorskip("myst_parser", reason="Jupyter Book is not installed (extra: book)")
    from myst_parser.config.main import MdParserConfig
    from myst_parser.mdit_to_docutils.base import DocutilsRenderer
    from myst_parser.parsers.mdit import create_md_parser

    inner = markdown.tabs("format", [("letter", "Letter", markdown.table(pd.DataFrame({"x": [1]})))])
    outer = markdown.tabs("profile", [("one", "One", inner), ("two", "Two", "last")])
    parser = create_md_parser(MdParserConfig(enable_extensions={"colon_fence"}), DocutilsRenderer)
    [token] = [each for each in parser.parse(outer) if each.type == "colon_fence"]
    items = [each for each in parser.parse(token.content) if each.type == "colon_fence"]
    assert token.info.strip() == "{tab-set}" and [item.info.strip() for item in items] == [
        "{tab-item} One",
        "{tab-item} Two",
    ]
    assert (
        "{tab-item} Letter" in items[0].content and "| 1 |" in items[0].content and "last" in items[1].content
    )
