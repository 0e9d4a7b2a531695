"""Text or concept: what two authors of one concept have in common, as registered in `text-or-concept.yaml`.

Everything starts from AUTHORS tables (`companion.tan.authors.slopes`). A pair never steers itself: the own-author slope
is the mean over all other pairs of its author. Pairs of authors are *known*, whose records were there before, or *new*.
"""

from collections.abc import Mapping
from functools import cached_property
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pandas as pd

from companion.tan.pairs import by_others
from companion.tan.ranks import ceiling, correlated, doubled
from steerkit import stats
from steerkit.errors import need

KNOWN = {"model", "bundled"}
DRAWS, HALVINGS, SHUFFLES = 2000, 20, 99
LINE = 0.7  # transfer above which the concept decides
SETS = ("known", "new")


class Concept:
    """One concept in one model: [test, pair] matrices of slopes by authors, and vector norms."""

    def __init__(self, table: pd.DataFrame):
        """`table` is the AUTHORS table of one concept."""
        self.name = table["dataset"].iloc[0]
        self.authors = tuple(dict.fromkeys(table["author"]))
        own = table[table["of"] == self.name]
        single, mean = own[own["by_id"] != ""], own[own["by_id"] == ""]
        self.norm = mean.groupby("by")["norm"].first().to_dict()
        self.pair_norms = {a: part.groupby("by_id")["norm"].first() for a, part in single.groupby("by")}
        self.slopes = {
            key: part.pivot(index="example_id", columns="by_id", values="slope").sort_index(axis=1).to_numpy()
            for key, part in single.groupby(["author", "by"])
        }
        others = table[(table["of"] != self.name) & (table["by"] == table["author"])]
        scaled = others["slope"] / others["norm"] * others["author"].map(self.norm)
        self.others = scaled.groupby(others["author"]).mean().to_dict()

    def own(self, author: str) -> np.ndarray:
        """Slope of each pair of an author under the mean of its other pairs."""
        return by_others(self.slopes[author, author])

    @cached_property
    def means(self) -> dict[str, float]:
        """Mean own-author slope."""
        return {author: float(self.own(author).mean()) for author in self.authors}

    def halves(self, author: str, rng: np.random.Generator) -> np.ndarray:
        """The same from two disjoint halves of the pairs, by which neither test nor training is shared: [halving, 2]."""
        slopes, found = self.slopes[author, author], []
        for _ in range(HALVINGS):
            order = rng.permutation(len(slopes))
            parts = order[: len(order) // 2], order[len(order) // 2 :]
            found.append([by_others(slopes[np.ix_(part, part)]).mean() for part in parts])
        return np.array(found)

    def moved(self, author: str, by: str) -> float:
        """Mean slope of an author's pairs under another one's vector, at the norm of its own."""
        return float(self.slopes[author, by].mean()) * self.norm[author] / self.norm[by]

    def shuffled(self, author: str, by: str, rng: np.random.Generator) -> np.ndarray:
        """The same with labels exchanged at random by pair; such a vector has a norm of about the root mean square."""
        lengths = self.pair_norms[by].to_numpy()
        signs = rng.choice([-1.0, 1.0], (SHUFFLES, len(lengths)))
        norm = np.sqrt((lengths**2).sum()) / len(lengths)
        return signs @ self.slopes[author, by].mean(axis=0) / len(lengths) * self.norm[author] / norm


def concepts(table: pd.DataFrame) -> list[Concept]:
    """Every concept of an AUTHORS table."""
    return [Concept(part) for _, part in table.groupby("dataset", sort=False)]


def is_new(first: str, second: str) -> bool:
    """Whether a pair of authors was never compared before the registration."""
    return not {first, second} <= KNOWN


class Kind:
    """Own-author means of the concepts of one kind: [concept, author], NaN where an author did not write of one."""

    def __init__(self, found: list[Concept], rng: np.random.Generator):
        """`found` are concepts of one kind in one model."""
        self.authors = tuple(dict.fromkeys(a for concept in found for a in concept.authors))
        self.means = np.array([[concept.means.get(a, np.nan) for a in self.authors] for concept in found])
        empty = np.full((HALVINGS, 2), np.nan)
        rows = [[c.halves(a, rng) if a in c.authors else empty for a in self.authors] for c in found]
        self.halved = np.array(rows)  # [concept, author, halving, 2]
        self.every = np.arange(len(found))

    def parts(self, new: bool, rows: np.ndarray, order: np.ndarray | None = None) -> np.ndarray:
        """Components (concept, interaction, author) over the concepts `rows` and the pairs of authors that are new, or
        known. `order` [concept, author] exchanges the concepts of every author."""
        means = np.take_along_axis(self.means, order, 0) if order is not None else self.means
        every = combinations(range(len(self.authors)), 2)
        pairs = [(i, j) for i, j in every if is_new(self.authors[i], self.authors[j]) == new]
        between, author = [], []
        for pair in pairs:
            both = means[rows][:, pair]
            both = both[np.isfinite(both).all(axis=1)]
            spread = np.cov(both.T)
            between.append(spread[0, 1])
            noise = (spread[0, 0] + spread[1, 1] - 2 * spread[0, 1]) / len(both)
            author.append(((both[:, 0] - both[:, 1]).mean() ** 2 - noise) / 2)
        within = [self._within(i, rows) for i in sorted({i for pair in pairs for i in pair})]
        concept = np.mean(between)
        return np.array([concept, np.mean(within) - concept, np.mean(author)]) * len(rows)

    def exchanged(self, rng: np.random.Generator) -> np.ndarray:
        """An order of the concepts of each author, of those it wrote of."""
        order = np.tile(self.every[:, None], len(self.authors))
        for column, own in enumerate(np.isfinite(self.means).T):
            order[own, column] = rng.permutation(self.every[own])
        return order

    def _within(self, author: int, rows: np.ndarray) -> float:
        """Covariance over concepts of two halves of an author's pairs, which is free of noise."""
        halved = self.halved[rows, author]
        halved = halved[np.isfinite(halved[:, 0, 0])]
        centred = halved - halved.mean(axis=0)
        return float((centred[..., 0] * centred[..., 1]).sum(axis=0).mean() / (len(halved) - 1))


def shares(table: pd.DataFrame, kinds: Mapping[str, str], draws: int = DRAWS) -> pd.DataFrame:
    """Shares of concept, interaction and author in the variance of own-author steerability, of one model.

    `kinds` has the kind of each concept. One row for the known and one for the new pairs of authors: pairs, concept,
    interaction, author (with _low and _high each), difference (concept less the two others, with its interval), and
    exchanged_most, the 95% point of the concept's share when concepts are exchanged at random within authors.
    """
    rng, found = np.random.default_rng(0), concepts(table)
    strata = [Kind([c for c in found if kinds[c.name] == kind], rng) for kind in sorted({*kinds.values()})]
    return pd.DataFrame([_shares(strata, each, rng, draws) for each in SETS])


def _shares(strata: list[Kind], which: str, rng: np.random.Generator, draws: int) -> dict[str, Any]:
    def drawn(rows: Any = lambda kind: kind.every, order: Any = lambda kind: None) -> np.ndarray:
        parts = sum(kind.parts(which == "new", rows(kind), order(kind)) for kind in strata)
        return np.append(parts, 2 * parts[0] - parts.sum()) / parts.sum()

    sampled = [drawn(lambda kind: rng.choice(kind.every, len(kind.every))) for _ in range(draws)]
    ends = zip(drawn(), *np.percentile(sampled, [2.5, 97.5], axis=0), strict=True)
    row: dict[str, Any] = {"pairs": which}
    for name, values in zip(("concept", "interaction", "author", "difference"), ends, strict=True):
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
    exchanged = [drawn(order=lambda kind: kind.exchanged(rng))[0] for _ in range(min(draws, 200))]
    return row | {"exchanged_most": float(np.percentile(exchanged, 95))}


def transfers(table: pd.DataFrame, kinds: Mapping[str, str]) -> pd.DataFrame:
    """Every vector on every other author's pairs of its concept, in one model.

    Columns dataset, kind, author, by, pairs (known, new), own (slope of the author's pairs under its own vector), low and
    high of it, steers (above zero), moved (under the vector of `by` at the same norm), others (under the author's
    vectors of other concepts, likewise), ratio and others_ratio (over own), shuffled (arrays: the ratio of vectors with
    labels exchanged, `SHUFFLES` of them).
    """
    rng, rows = np.random.default_rng(0), []
    for concept in concepts(table):
        for author, by in permutations(concept.authors, 2):
            own = stats.mean_interval(concept.own(author))
            moved, others = concept.moved(author, by), concept.others[author]
            ends = SETS[is_new(author, by)], own.estimate, own.low, own.high, own.low > 0, moved, others
            shuffled = concept.shuffled(author, by, rng) / own.estimate
            about = concept.name, kinds[concept.name], author, by
            rows.append((*about, *ends, moved / own.estimate, others / own.estimate, shuffled))
    columns = "dataset kind author by pairs own low high steers moved others ratio others_ratio shuffled"
    return pd.DataFrame(rows, columns=columns.split())


def medians(found: pd.DataFrame, draws: int = DRAWS) -> pd.DataFrame:
    """Median transfer over concepts and ordered pairs of authors that steer themselves, from `transfers` of one model.

    One row for the known and one for the new pairs: pairs, n, concepts, median, low, high (bootstrap of concepts within
    kind), others (median for other concepts by the same author), others_low, others_high, shuffled_most (95% point of the
    median when every vector has its labels exchanged); and, not registered, whole: the ratio of the summed slopes of all
    pairs of authors, also of those that do not steer, which no choice of large denominators can make small.
    """
    rng, rows = np.random.default_rng(0), []
    for which in SETS:
        every = found[found["pairs"] == which]
        part = every[every["steers"]]
        expected, step = f"pairs of authors that steer ({which})", "use more pairs or another model."
        need(len(part) > 0, expected, "none", step)
        names = [p["dataset"].unique() for _, p in part.groupby("kind")]
        by_name = {name: p[["ratio", "others_ratio"]].to_numpy() for name, p in part.groupby("dataset")}
        sampled = []
        for _ in range(draws):
            chosen = np.concatenate([rng.choice(each, len(each)) for each in names])
            sampled.append(np.median(np.concatenate([by_name[name] for name in chosen]), axis=0))
        ends = np.percentile(sampled, [2.5, 97.5], axis=0).T
        null = np.abs(np.median(np.stack(part["shuffled"].to_list()), axis=0))
        row = which, len(part), part["dataset"].nunique(), part["ratio"].median(), *ends[0]
        row += part["others_ratio"].median(), *ends[1], float(np.percentile(null, 95))
        rows.append((*row, every["moved"].sum() / every["own"].sum()))
    columns = "pairs n concepts median low high others others_low others_high shuffled_most whole"
    return pd.DataFrame(rows, columns=columns.split())


def verdict(shared: Mapping[str, pd.DataFrame], moved: Mapping[str, pd.DataFrame], which: str = "new") -> str:
    """The registered verdict over models, from `shares` and `medians` of each: "concept", "text" or "undecided"."""
    told = []
    for model in shared:
        share, median = (tables[model].set_index("pairs").loc[which] for tables in (shared, moved))
        if share["difference_low"] > 0 or median["low"] > LINE:
            told.append("concept")
        elif share["difference_high"] < 0 and median["high"] < LINE:
            told.append("text")
        else:
            told.append("undecided")
    return told[0] if len({*told}) == 1 else "undecided"


def orders(tables: Mapping[str, pd.DataFrame], kinds: Mapping[str, str]) -> pd.DataFrame:
    """Rank correlations within kinds of own-author steerability between all (author, model), those of `tables`.

    Columns first_author, first_model, second_author, second_model, those of `ranks.correlated`, and ceiling, from halves.
    """
    rng, strata = np.random.default_rng(0), pd.Series(dict(kinds))
    means, ends = {}, {}
    for model, table in tables.items():
        found = concepts(table)
        for author in dict.fromkeys(a for concept in found for a in concept.authors):
            own = [concept for concept in found if author in concept.authors]
            means[author, model] = pd.Series({c.name: c.means[author] for c in own})
            halved = {c.name: c.halves(author, rng) for c in own}
            sides = (pd.DataFrame({n: h[:, side] for n, h in halved.items()}).T for side in (0, 1))
            ends[author, model] = doubled(correlated(*sides, strata, draws=0)["estimate"])
    rows, columns = [], ("first_author", "first_model", "second_author", "second_model")
    for first, second in combinations(means, 2):
        named = dict(zip(columns, first + second, strict=True))
        row = named | correlated(means[first], means[second], strata)
        rows.append(row | {"ceiling": ceiling(ends[first], ends[second])})
    return pd.DataFrame(rows)
