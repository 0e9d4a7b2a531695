"""Markdown as the book's pages need it: tables from frames, and fences that hold other fences."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd

ESCAPES = str.maketrans({"|": "\\|", "<": "&lt;", "{": "&#123;", "$": "\\$", "[": "\\["})
# Pieces of a cell that stay as they are.
ROLE = re.compile(
    r"(\{download\}`[^`]*`|\[[^\]\[]*\]\([^)]*\)|`[^`]*`|<a [^>]*>[^<]*</a>|<span [^>]*>[^<]*</span>|<br>|\*\w+\*)"
)


def table(rows: pd.DataFrame | Iterable[dict[str, Any]], cell: Callable[[Any], str] | None = None) -> str:
    """Rows as a Markdown table in a box that scrolls by itself on a phone; cells are text, not Markdown."""
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    return fence("div", "scroll", f"\n{plain(frame, cell or escaped)}\n")


def table_of_markdown(rows: pd.DataFrame | Iterable[dict[str, Any]]) -> str:
    """The same, where links, downloads and code in a cell are what they say."""
    return table(rows, _escaped_around_roles)


def plain(frame: pd.DataFrame, cell: Callable[[Any], str] = str) -> str:
    """The table alone."""
    head = ["| " + " | ".join(map(str, frame.columns)) + " |", "|" + "---|" * len(frame.columns)]
    rows = ["| " + " | ".join(map(cell, row)) + " |" for row in frame.itertuples(index=False)]
    return "\n".join([*head, *rows])


def escaped(value: object) -> str:
    """A value as text that is no markup."""
    return " ".join(str(value).split()).translate(ESCAPES)


def _escaped_around_roles(value: object) -> str:
    pieces = ROLE.split(" ".join(str(value).split()))  # every second one is a role
    return "".join(p.replace("|", "\\|") if i % 2 else p.translate(ESCAPES) for i, p in enumerate(pieces))


def fence(name: str, argument: str, body: str, **options: str) -> str:
    """A directive in colons, one colon more than any fence inside it has."""
    inside = [len(run) for run in re.findall(r"^(:{3,})", body, re.MULTILINE)]
    colons = ":" * max([3, *(length + 1 for length in inside)])
    lines = [f":{key.replace('_', '-')}: {value}".rstrip() for key, value in options.items()]
    head = [f"{colons}{{{name}}} {argument}".rstrip(), *lines, *([""] if lines else [])]
    return "\n".join([*head, body, colons])


def tabs(group: str, items: list[tuple[str, str, str]]) -> str:
    """Tabs of (key, label, body); tabs with the same key in groups of the same name open together."""
    inner = [fence("tab-item", label, body, sync=key) for key, label, body in items]
    return fence("tab-set", "", "\n".join(inner), sync_group=group)


def folded(title: str, body: str, **options: str) -> str:
    """A box that a reader opens."""
    return fence("dropdown", title, body, **options)


def code(*commands: str, language: str = "bash") -> str:
    """Commands as a block with a button that copies them."""
    return f"```{language}\n" + "\n".join(commands) + "\n```"
