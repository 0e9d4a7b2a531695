"""Ordinary text to set activations of prompts against: from this package, the Python library, or a file.

In place of the Pile (Mayne et al. 2024): first the texts that no autoencoder of this project was trained on, `neutral.txt`,
which is ours, and comments in the sources of the Python library; then its docstrings and the bundled sets without the
one that is analysed, which were training text. A user's own text file replaces all of them.
"""

from __future__ import annotations

import ast
import hashlib
import random
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from companion.data.datasets import HERE, load_dataset, names
from steerkit.errors import need, told

if TYPE_CHECKING:
    import torch

    from steerkit.model import Model

CONTEXT = 128  # tokens of a window
SKIP = 1  # of each window: the first position is an attention sink, with a norm far above all others
COMMENT = re.compile(r"(?:^[ \t]*# [^\n]*\n)+", re.MULTILINE)
# Sentences without code in them, and how many words.
PROSE, WORDS = re.compile(r"[A-Z][^{}=<>|\\_@]*[.!?]"), 12
LETTERS = 8  # of text for one token asked for: more than any tokenizer here needs


@dataclass(frozen=True)
class PlainText:
    """A text and where it comes from; `sha256` of the text goes into the key of what is computed from it."""

    text: str
    origin: str

    @property
    def sha256(self) -> str:
        """Of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def plain_text(tokens: int, exclude: str = "", path: str = "", seed: int = 0) -> PlainText:
    """At least `tokens` tokens of text, when there are as many; a longer one is cut at `LETTERS` letters a token.

    `exclude` is the data set that is left out, `path` a text file in UTF-8 instead, `seed` of the order of the texts.
    """
    if path:
        return PlainText(_own(Path(path))[: LETTERS * tokens], Path(path).name)
    rng, wanted, texts, origins = random.Random(seed), LETTERS * tokens, [], []
    sources = {
        "our own prose and comments of the Python library": lambda: chain(_neutral(), _comments()),
        "docstrings of the Python library": _docstrings,
        "bundled data sets": lambda: _bundled(exclude),
    }
    for origin, source in sources.items():
        if sum(map(len, texts)) < wanted:
            more = list(source())
            rng.shuffle(more)
            texts += more
            origins.append(origin)
    return PlainText("\n".join(texts)[:wanted], " and ".join(origins))


def windows(model: Model, text: str, tokens: int, context: int = CONTEXT) -> torch.Tensor:
    """Token windows [n, context], enough for `tokens` tokens after the first position of each; a short text is one.

    Each starts with the beginning-of-sequence token where the model's template has one. Too short a text is refused.
    """
    import torch

    ids = model.tokenizer(text, add_special_tokens=False).input_ids
    bos = model.tokenizer.bos_token_id
    start = [bos] if model.template.bos and bos is not None else []
    size = min(context - len(start), len(ids))
    enough = size + len(start) > SKIP
    need(enough, f"a text of more than {SKIP} tokens", f"{len(ids)}", "give a longer text file.")
    count = min(-(-tokens // (size + len(start) - SKIP)), len(ids) // size)
    return torch.tensor([start + ids[i * size : (i + 1) * size] for i in range(count)])


def _own(path: Path) -> str:
    step = "check the path, or leave it empty for the texts that come with the package."
    expected, done = f"a text file in UTF-8 at {path}", "Nothing was computed."
    with told((OSError, UnicodeDecodeError), expected, step, done):
        text = path.read_text(encoding="utf-8")
    need(text.strip(), f"some text in {path}", "an empty file", "give another file.")
    return text


def _neutral() -> Iterator[str]:
    """Paragraphs about ordinary things, which are in no data set here."""
    for paragraph in (HERE / "neutral.txt").read_text(encoding="utf-8").split("\n\n"):
        yield " ".join(paragraph.split())


def _comments() -> Iterator[str]:
    """Comments of a sentence or more in the modules of the Python library, in the order of their files."""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        for block in COMMENT.findall(path.read_text(encoding="utf-8", errors="ignore")):
            text = " ".join(block.replace("#", " ").split())
            if len(text.split()) >= WORDS and PROSE.fullmatch(text):
                yield text


def _bundled(exclude: str) -> Iterator[str]:
    """Statements, and questions without their options."""
    for name in names("bundled"):
        if name != exclude.rpartition("/")[2]:
            for item in load_dataset(name).items:
                yield " ".join((item.statement or item.stem or "").split())


def _docstrings() -> Iterator[str]:
    """Docstrings of the modules, classes and functions of the Python library, in the order of their files."""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8", errors="ignore"))
        for node in ast.walk(tree):
            documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            if documented and (text := ast.get_docstring(node)):
                yield text
