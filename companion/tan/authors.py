"""One concept by several authors: how every author's texts move under every author's vectors.

Format *statement*. A concept has up to four authors, each with the same number of pairs: Perez et al. 2022 wrote with a
model, for the AI-risk concepts also by hand; this book has statements of its own (`bundled`) and small scenes
(`scenes`). CAA's sets are left out: for three of four concepts their questions are those of Perez et al.

The slope at multiplier 0 of an example is linear in the vector, g @ v, and a vector is a mean of differences d. So one
gradient and one difference a pair give it for the vector of any pairs at all: also for all but the example's own pair.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import pandas as pd

from companion.data.datasets import Dataset, load_dataset, names
from companion.tan.products import written_out
from steerkit.errors import need
from steerkit.items import Item
from steerkit.vectors import Vectors

if TYPE_CHECKING:
    import torch

# Author -> source of the data set, and its name for a concept.
AUTHORS = {"model": ("papers", "{}"), "human": ("papers", "human/{}")}
AUTHORS |= {source: (source, "{}") for source in ("bundled", "scenes")}
RENAMED = {"human/self-awareness-training-web-gpt": "human/self-awareness-web-gpt"}
PAIRS = 20  # of each author
WORDS = ("author", "of", "by", "example_id", "by_id")
Pair = tuple[Item, Item]


def concepts() -> tuple[str, ...]:
    """The concepts of which several authors wrote."""
    return names("scenes")


def among(datasets: Sequence[str]) -> tuple[str, ...]:
    """Those of some data sets that have several authors; one at least."""
    found = tuple(name for name in concepts() if name in datasets)
    step = f"choose some of {', '.join(concepts()[:3])}, ..."
    need(found, "a concept with several authors", ", ".join(datasets)[:200], step)
    return found


@cache
def kinds() -> dict[str, str]:
    """The kind of each concept, "persona" or "choice", as the bundled set of its name has it."""
    return {name: load_dataset(name).items[0].kind for name in concepts()}


def of_kind(concept: str, datasets: Sequence[str]) -> tuple[str, ...]:
    """The concepts among some data sets that are of the same kind as one of them."""
    known = kinds()
    return tuple(name for name in among(datasets) if known[name] == known[concept])


def hashes(concept: str) -> dict[str, str]:
    """SHA-256 of the file of each author."""
    return {author: dataset.sha256 for author, dataset in sets_of(concept).items()}


@cache
def sets_of(concept: str) -> dict[str, Dataset]:
    """The data set of every author who wrote of a concept."""
    found = {}
    for author, (source, form) in AUTHORS.items():
        name = RENAMED.get(form.format(concept), form.format(concept))
        if name in names(source):
            found[author] = load_dataset(name, source)
    return found


@cache
def pairs_of(concept: str, seed: int = 0) -> dict[str, list[Pair]]:
    """`PAIRS` pairs (matching, other) of each author who has as many that are `written_out`, drawn at random."""
    found = {}
    for author, dataset in sets_of(concept).items():
        drawn = crc32(f"{seed} {concept} {author}".encode())
        kept, _ = written_out(dataset.items, drawn)
        if len(kept) >= PAIRS:
            found[author] = random.Random(drawn).sample(kept, PAIRS)
    return found


def slopes(
    concept: str,
    ids: Mapping[str, Sequence[str]],
    gradients: Mapping[str, torch.Tensor],
    differences: Mapping[tuple[str, str], Vectors],
) -> pd.DataFrame:
    """AUTHORS table of one concept: columns dataset, author and example_id of what is steered; of, by and by_id of what
    steers, the difference of one pair `by_id` or, where that is empty, the mean of all pairs of an author; slope (nats
    per token and unit multiplier, at 0) and norm.

    `gradients` [p, d] by author, `ids` their examples; `differences` [p, 1, d] by (concept, author), in which every
    concept has its mean and this one its pairs too.
    """
    import torch

    parts = []
    for (of, by), found in differences.items():
        rows = found.values[:, 0]
        named, steer = [""], rows.mean(0, keepdim=True)
        if of == concept:
            named, steer = ["", *found.names], torch.cat([steer, rows])
        norms = steer.norm(dim=1).numpy()
        for author, gradient in gradients.items():
            size = len(gradient) * len(named)
            cells = {name: np.full(size, each) for name, each in zip(WORDS, (author, of, by), strict=False)}
            cells["example_id"] = np.repeat(ids[author], len(named))
            cells["by_id"] = np.tile(named, len(gradient))
            cells |= {"slope": (gradient @ steer.T).numpy().ravel(), "norm": np.tile(norms, len(gradient))}
            parts.append(cells)  # a frame of each of so many would take longer than the products
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return pd.DataFrame({"dataset": concept} | columns).astype(dict.fromkeys(WORDS, object))
