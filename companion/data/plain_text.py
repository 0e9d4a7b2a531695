"""Ordinary text to set activations of prompts against: from the bundled data sets, the Python library, or a file.

In place of the Pile (Mayne et al. 2024): statements and questions of the bundled sets, without chat template and without
the set that is analysed, then docstrings of the standard library; or a user's own text file.
"""

from __future__ import annotations

import ast
import hashlib
import random
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from companion.data.datasets import load_dataset, names
from steerkit.errors import need, told

if TYPE_CHECKING:
    import torch

    from steerkit.model import Model

CONTEXT = 128  # tokens of a window
SKIP = 1  # of each window: the first position is an attention sink, with a norm far above all others
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
    rng, wanted = random.Random(seed), LETTERS * tokens
    texts, origin = list(_bundled(exclude)), "bundled data sets"
    rng.shuffle(texts)
    if sum(map(len, texts)) < wanted:
        more = list(_docstrings())
        rng.shuffle(more)
        texts, origin = texts + more, f"{origin} and docstrings of the Python library"
    return PlainText("\n".join(texts)[:wanted], origin)


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
