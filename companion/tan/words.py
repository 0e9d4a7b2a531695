"""The control without a model: how much of an item, and of a data set, single words tell.

The simplest rival of "the vector holds the behaviour" is "the vector raises the words of the matching side": count the
words of the training texts that a vector is made of, and score the test texts by them. This is a naive Bayes classifier on
bags of words with half a count added (Manning, Raghavan and Schuetze 2008, chapter 13). Words are runs of letters, digits
and apostrophes, in lower case.
"""

import os
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from companion.data.ask import Texts, short, statement_pairs, texts_of, words, yes_no
from companion.data.datasets import DATA_DIR_VARIABLE, Dataset, load_dataset
from companion.data.splits import make_split
from companion.profiles import Settings
from companion.tan.jobs import Job, split_of
from companion.tan.tables import name_of
from companion.tan.unigram import odds_of
from steerkit.errors import SteerkitError
from steerkit.files import cache_dir

LEFT_OUT = "texts that are not on this machine; fetch=True in the notebook tan-words fetches them, STEERKIT_DATA names a folder"
Pairs = dict[str, Texts]  # by example


def log_odds(pairs: Iterable[Texts]) -> dict[str, float]:
    """For each word of some training pairs: log of its smoothed share in matching texts over that in the others."""
    return odds_of(tuple(map(words, texts)) for texts in pairs)


def describe(pairs: Iterable[Texts], odds: Mapping[str, float]) -> pd.DataFrame:
    """One row a test pair, from its texts and the log odds of the training words.

    Columns score (mean log odds a word, matching minus not matching, unknown words having 0), told (share of its two
    texts that naive Bayes puts on the right side: sums above 0 say "matching"), short (an option of one or two
    words), yes_no (both begin with Yes or No), words and other_words (their numbers), ratio (the longer over the
    shorter).
    """
    rows = []
    for texts in pairs:
        sides = [words(text) for text in texts]
        sums = [float(sum(odds.get(word, 0.0) for word in side)) for side in sides]
        sizes = [max(len(side), 1) for side in sides]
        row = {"score": sums[0] / sizes[0] - sums[1] / sizes[1], "told": ((sums[0] > 0) + (sums[1] <= 0)) / 2}
        row |= {"yes_no": yes_no(texts), "short": short(texts), "ratio": max(sizes) / min(sizes)}
        rows.append(row | {"words": sizes[0], "other_words": sizes[1]})
    return pd.DataFrame(rows)


def pairs_of(settings: Settings, dataset: str, limited: bool = True) -> tuple[Pairs, Pairs]:
    """Training and test texts of a data set by example, split and paired as in the format *statement*.

    `limited` keeps as many as the profile asks for. Refused when the texts are not on this machine.
    """
    found, job = on_this_machine(dataset, settings.source), Job(settings, "grid", dataset, "statement")
    split = split_of(job) if limited else make_split(found, settings.split, settings.seed)
    return _pairs(found, split.train, settings.seed), _pairs(found, split.test, settings.seed)


def items(settings: Settings) -> pd.DataFrame:
    """`describe` for the test items of every data set of a profile, with run, dataset and example_id of its tables."""
    parts = []
    for name in settings.datasets:
        train, test = pairs_of(settings, name)
        part = describe(test.values(), log_odds(train.values()))
        parts.append(part.assign(run=name_of(settings), dataset=name, example_id=list(test)))
    return pd.concat(parts, ignore_index=True)


def here(settings: Settings) -> bool:
    """Whether the texts of all data sets of a profile are on this machine."""
    try:
        return all(on_this_machine(name, settings.source) for name in settings.datasets)
    except SteerkitError:
        return False


def options(settings: Settings) -> pd.DataFrame:
    """Properties of the written-out options of the choice sets of a profile, over all their questions.

    Index dataset; columns yes_no and short (shares of questions), told (accuracy of naive Bayes on the test part of the
    split) and ratio (median). Refused when a text is not on this machine.
    """
    rows = {}
    for name in settings.datasets:
        dataset = on_this_machine(name, settings.source)
        if dataset.items[0].kind == "choice":
            train, test = pairs_of(settings, name, limited=False)
            odds = log_odds(train.values())
            every = describe(_pairs(dataset, range(len(dataset.items)), settings.seed).values(), odds)
            rows[name] = every[["yes_no", "short"]].mean().to_dict() | {"ratio": every["ratio"].median()}
            rows[name]["told"] = describe(test.values(), odds)["told"].mean()
    return pd.DataFrame.from_dict(rows, orient="index")


def _pairs(dataset: Dataset, indices: Iterable[int], seed: int) -> Pairs:
    """The two completions of each example, paired as the model is asked (`companion.data.ask`)."""
    pairs = statement_pairs([dataset.items[i] for i in indices], np.random.default_rng(seed))
    return {first.id: texts_of(first, other) for first, other in pairs}


def on_this_machine(name: str, source: str) -> Dataset:
    """A data set that is here already: nothing is fetched for a table that nobody asked for."""
    return load_dataset(name, source, os.environ.get(DATA_DIR_VARIABLE) or cache_dir("data"))
