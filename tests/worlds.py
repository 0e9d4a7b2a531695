"""Simulated runs: what the claims are judged on, made so that a claim is true or false."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd

from companion.tan.evidence import SetSlopes
from companion.templates import SETTINGS

KINDS = ("persona", "choice")


def a_set(
    rng: np.random.Generator,
    name: str = "set-00",
    kind: str = "persona",
    *,
    mean: float = 1.0,
    items: float = 0.6,
    training: float = 0.1,
    letter: float = 0.0,
    of_placebos: float = 0.0,
    gain: float = 0.0,
    groups: int = 24,
) -> SetSlopes:
    """One data set: slopes with a mean, a spread of items, a gap between letters, and the noise of extraction.

    Placebos have mean 0 and a gap between letters of their own; other directions are `gain` better.
    """
    letters = np.array(["A", "B"] * (groups // 2))
    side = np.where(letters == "A", 1.0, -1.0)
    alike = rng.normal(0, items, groups)

    def vectors(count: int, centre: float, spread: float, gap: np.ndarray) -> np.ndarray:
        own = centre + spread * rng.normal(size=(count, 1)) + 0.02 * rng.normal(size=(count, groups))
        return own + gap[:, None] * side

    gaps = {"full": np.array([letter]), "shuffled": of_placebos * rng.choice([-1, 1], 99)}
    slopes = alike + vectors(1, mean, training, gaps["full"])[0]
    beside = {"full": slopes[None], "pca": slopes[None] + gain, "logistic": slopes[None] - 0.02}
    beside["resample"] = alike + vectors(20, mean, training, np.full(20, letter))
    beside["shuffled"] = vectors(99, 0, 0.2, gaps["shuffled"])
    baseline, answers = rng.normal(0, 1, groups), np.full(groups, "")
    return SetSlopes(name, kind, slopes, baseline, np.arange(groups), letters, answers, beside)


def sets(
    rng: np.random.Generator, values: Sequence[float], what: str = "mean", **about: float
) -> list[SetSlopes]:
    """A data set for each value, which is its `what`; of two kinds in turn."""
    named = [(f"set-{i:02d}", KINDS[i % 2], {what: value}) for i, value in enumerate(values)]
    return [a_set(rng, name, kind, **about | own) for name, kind, own in named]


def shifts(
    rng: np.random.Generator, means: np.ndarray, moved: np.ndarray, depends: float = 0.0, needed: float = 0.0
) -> pd.DataFrame:
    """SLOPES over prompt settings of 24 items a set: `means` on the diagonal, `moved` off it.

    With `depends` steering falls with the distance of two settings, with `needed` it rises with the unsteered propensity.
    """
    n, sets, items = len(SETTINGS), len(means), 24
    level = np.argsort(rng.random((sets, n)), axis=1).astype(float)  # unsteered propensity of a setting
    own = np.eye(n, dtype=bool)
    apart = abs(level[:, :, None] - level[:, None, :])
    off = np.asarray(moved)[:, None, None] - depends * apart + needed * level[:, None, :]
    mean = np.where(own, np.asarray(means)[:, None, None], off + rng.normal(0, 0.02, (sets, n, n)))
    slopes = mean[..., None] + rng.normal(0, 0.3, (sets, n, n, items))  # [set, train, test, item]
    baseline = level[:, None, :, None] + rng.normal(0, 0.1, (sets, 1, n, items))
    axes = [[f"set-{i:02d}" for i in range(sets)], SETTINGS, SETTINGS, range(items)]
    index = pd.MultiIndex.from_product(axes, names=["dataset", "vector", "setting", "group"])
    numbers = {"steerability": slopes.ravel(), "baseline": np.broadcast_to(baseline, slopes.shape).ravel()}
    table = pd.DataFrame(numbers, index).reset_index()
    return table.assign(example_id=table["group"])


class Run(SimpleNamespace):
    """Stands for `Evidence`, one object a run."""

    __hash__ = object.__hash__


def evidence(found: list[SetSlopes], **about: object) -> Run:
    """What a claim is given, with `llama(column)` a constant unless it is said otherwise."""
    names = [each.name for each in found]
    theirs = {"mean": 1.0, "anti_steerable": 0.3, "variance_unexplained": 0.3, "variance_total": 1.0}
    known = {"name": "world", "form": "statement", "others": (), "sets": found, "unlabelled": None}
    known |= {"unlabelled_cosines": pd.DataFrame(), "settings": SimpleNamespace(source="papers")}
    known["kinds"] = {each.name: each.kind for each in found}
    ramp = np.linspace(0.5, 1.5, len(names))
    known["llama"] = lambda column: pd.Series(theirs[column], names) * ramp ** (column == "mean")
    return Run(**known | about)
