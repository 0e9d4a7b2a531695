"""The list of options in the text of a question, as the files of the field write it."""

from __future__ import annotations

import re

from steerkit.items import OPTION

HEADER = re.compile(r"(?:^|\n)[ \t*_]*(?:answer )?(?:choice|option|answer|response)s?[*_]*:?[*_]*\s*$", re.I)
# Some human-written questions end with it, after the last option.
ANSWER_CUE = re.compile(r"\s*\n\s*Answer:\s*$")


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
