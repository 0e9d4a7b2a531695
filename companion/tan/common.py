"""What is left of steering when vector and test share no content word, as registered in `words-apart.yaml`."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from companion.tan import pairs
from companion.tan.pairs import Pairs
from companion.tan.ranks import ratio
from steerkit.errors import need

HASHED = 8  # digits of the hash of a word of four letters and more
OFTEN = 0.1  # a word in more of all pairs is no content word
MOST, HALF = 3, 0.5


def content_words(found: Sequence[Pairs]) -> set[str]:
    """The content words of some sets, by hash: four letters or more, in at most a tenth of all pairs."""
    counts = Counter(word for each in found for words in _words(each) for word in words)
    most = OFTEN * sum(len(each.ids) for each in found)
    return {word for word, count in counts.items() if len(word) == HASHED and count <= most}


def _words(found: Pairs) -> list[set[str]]:
    return [{word for side in texts for word in side.split()} for texts in found.texts]


def in_common(found: Pairs, content: set[str]) -> np.ndarray:
    """How many content words each two pairs of a set share, [p, p]."""
    own = [words & content for words in _words(found)]
    return np.array([[len(one & other) for other in own] for one in own])


def slopes(found: Iterable[Pairs], content: set[str]) -> pd.DataFrame:
    """Mean slope by the number of content words in common: a row a set and a number, the last of `MOST` or more.

    Columns dataset, common, n, slope (nats per token); all and drawn, the means of all (test, training) pairs of the set
    and of as many as have none in common, drawn at random. A pair's own is left out.
    """
    rows, rng = [], np.random.default_rng(0)
    for each in found:
        off = ~np.eye(len(each.ids), dtype=bool)
        common, slope = in_common(each, content)[off].clip(max=MOST), each.slope[off]
        drawn = rng.permutation(slope)[: (common == 0).sum()].mean() if (common == 0).any() else np.nan
        for number in range(MOST + 1):
            own = slope[common == number]
            row = {"dataset": each.dataset, "common": number, "n": len(own), "drawn": drawn}
            rows.append(row | {"slope": own.mean() if len(own) else np.nan, "all": slope.mean()})
    return pd.DataFrame(rows)


def kept(table: pd.DataFrame) -> pd.DataFrame:
    """The share of steerability that is left without common words, from `slopes` of one model: one row.

    Columns sets, left_out (with fewer than half of their pairs apart), kept, low, high (bootstrap over sets), drawn (the
    same of as many pairs at random); and, not registered, pooled, pooled_low and pooled_high, of all pairs apart of all sets.
    """
    apart = table[table["common"] == 0]
    enough = apart["n"] >= HALF * table.groupby("dataset")["n"].sum().loc[apart["dataset"]].to_numpy()
    used = apart[enough]
    need(len(used) > 1, "two sets with pairs that share no content word", str(len(used)), "use more sets.")
    every, sides = apart[apart["n"] > 0], ["slope", "all"]
    share, weighed = (ratio(one.to_numpy()) for one in (used[sides], every[sides].mul(every["n"], axis=0)))
    row = len(used), int((~enough).sum()), *share, used["drawn"].sum() / used["all"].sum(), *weighed
    columns = "sets left_out kept low high drawn pooled pooled_low pooled_high"
    return pd.DataFrame([row], columns=columns.split())


def dose(table: pd.DataFrame) -> pd.DataFrame:
    """Median over sets of the slope by number of content words in common, each as a share of its set's mean."""
    shares = (table["slope"] / table["all"]).groupby(table["common"])
    found = pd.DataFrame({"share": shares.median(), "sets": shares.count()})
    return found.assign(n=table.groupby("common")["n"].sum()).reset_index()


def verdict(tables: Sequence[pd.DataFrame]) -> str:
    """The registered verdict, from `kept` of every model on the sixty sets."""
    if all(table["low"].item() > 0.7 for table in tables):
        return "more than words"
    return "words" if all(table["high"].item() < 0.3 for table in tables) else "both"


def compared(found: Sequence[pd.DataFrame]) -> tuple[list[list[Pairs]], set[str]]:
    """The sets of some PRODUCTS tables, and the content words of all of them together."""
    every = [pairs.sets(table) for table in found]
    return every, content_words([each for part in every for each in part])
