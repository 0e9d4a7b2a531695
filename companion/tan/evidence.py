"""What the claims are judged on: the slopes of one run in one answer format, as arrays by data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np
import pandas as pd

from companion import published
from companion.outline import layers_of
from companion.profiles import Settings
from companion.tan import experiment, tables
from companion.tan.formats import kind_of
from companion.tan.means import by_range
from steerkit import stats
from steerkit.stats import Interval

# Steering fails in a run where the mean vector moves the propensity by less than this, in standard deviations of the
# unsteered propensity over items, a unit multiplier.
FAILS = 0.05
# The arrays of `SetSlopes`.
COLUMNS = ("steerability", "baseline", "group", "positive_letter", "positive_answer")


@dataclass(frozen=True)
class SetSlopes:
    """One data set: slopes of p test items under the vector, and of vectors beside it at multiplier 0.

    `slopes`, `baseline` (unsteered propensity), `groups`, `letters` and `answers` are [p]; `beside` has the slopes at 0 of
    the PLACEBO table by kind of vector ("full", "resample", "shuffled", ...), [n, p].
    """

    name: str
    kind: str
    slopes: np.ndarray
    baseline: np.ndarray
    groups: np.ndarray
    letters: np.ndarray
    answers: np.ndarray
    beside: Mapping[str, np.ndarray]

    @cached_property
    def training(self) -> np.ndarray:
        """Means under vectors of resampled training pairs, [n]: the noise of extraction."""
        return self.beside["resample"].mean(axis=1)

    @property
    def shuffled(self) -> np.ndarray:
        """Slopes at 0 of label-shuffled vectors, [n, p]."""
        return self.beside["shuffled"]

    @property
    def at_zero(self) -> np.ndarray:
        """Slopes of the vector at 0, [p], as those of the vectors beside it."""
        return self.beside["full"][0]

    def unlabelled(self, rng: np.random.Generator) -> SetSlopes:
        """The same set under one label-shuffled vector, in the direction that raises its mean."""
        drawn = self.shuffled[rng.integers(len(self.shuffled))]
        return replace(self, slopes=drawn if drawn.mean() > 0 else -drawn)

    @cached_property
    def interval(self) -> Interval:
        """Mean steerability with the noise of test groups and of training pairs."""
        return stats.mean_interval(self.slopes, self.groups, self.training)

    @cached_property
    def spread(self) -> float:
        """Standard deviation of the unsteered propensity over items."""
        return float(self.baseline.std(ddof=1))


@dataclass(frozen=True, eq=False)
class Evidence:
    """One run in one format; each table is read, or computed when missing, when the first claim asks for it.

    `others` is the evidence of other models on the same data.
    """

    settings: Settings
    form: str
    others: tuple[Evidence, ...] = ()

    @property
    def name(self) -> str:
        """The model, and the data where they are not the bundled ones."""
        return tables.name_of(self.settings)

    @cached_property
    def slopes(self) -> pd.DataFrame:
        """SLOPES of the vector."""
        return experiment.slopes(self.settings, self.form).query("vector == 'full'")

    @cached_property
    def sets(self) -> list[SetSlopes]:
        """All data sets."""
        grid, every = (of(self.settings, self.form) for of in (experiment.grid, experiment.placebo))
        full, found = experiment.with_groups(self.slopes, grid, self.settings), []
        for name, part in full.groupby("dataset", sort=False):
            own = every[every["dataset"] == name]
            beside = own.pivot(index="example_id", columns="vector", values="slope").loc[part["example_id"]]
            kinds = beside.T.groupby(lambda vector: vector.partition("-")[0])  # of "resample-00", ...
            arrays = (part[column].to_numpy() for column in COLUMNS)
            of_kinds = {kind: vectors.to_numpy() for kind, vectors in kinds}
            found.append(SetSlopes(name, self.kinds[name], *arrays, of_kinds))
        return found

    @cached_property
    def shifts(self) -> pd.DataFrame:
        """SLOPES over prompt settings: `vector` is the training setting, `setting` the test prompts'."""
        return experiment.shift_slopes(self.settings, self.form)

    @cached_property
    def unlabelled(self) -> pd.DataFrame | None:
        """UNLABELLED table over prompt settings: slopes at 0 of vectors whose labels are drawn, where there is a record."""
        return experiment.unlabelled(self.settings, self.form)

    @cached_property
    def unlabelled_cosines(self) -> pd.DataFrame:
        """Cosines between the vectors of two prompt settings, a column a draw of labels; of none where there is no record."""
        parts = {}
        for made in [] if self.unlabelled is None else self.unlabelled.attrs["manifests"]:
            pairs = pd.MultiIndex.from_tuples(combinations(made["settings"], 2))
            parts[made["inputs"]["dataset"]] = pd.DataFrame(made["cosines"][1:], columns=pairs).T
        return pd.concat(parts, names=["dataset", "first", "second"]) if parts else pd.DataFrame()

    @cached_property
    def cosines(self) -> pd.DataFrame:
        """Cosines between the vectors of prompt settings, beside how far apart the settings are."""
        return tables.cosines_of(self.settings, self.form)[0]

    @cached_property
    def layers(self) -> pd.DataFrame:
        """Mean steerability by data set and layer of the sweep."""
        return experiment.layer_summary(self.settings, self.form)

    @property
    def n_layers(self) -> int:
        """Blocks of the model."""
        return layers_of(self.settings.model)

    @cached_property
    def ranges(self) -> pd.DataFrame:
        """Mean steerability fitted on multipliers within 0.5 and within 1.5, data sets down; empty without these."""
        grid = experiment.grid(self.settings, self.form).query("vector == 'full'")
        widths = [width for width in (0.5, 1.5) if {width, -width} <= set(grid["multiplier"])]
        if len(widths) < 2:
            return pd.DataFrame()
        return by_range(grid, widths).pivot(index="dataset", columns="width", values="mean")

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Kind of items of each data set."""
        return {name: kind_of(name, self.settings.source) for name in self.settings.datasets}

    @cached_property
    def moved(self) -> Interval:
        """Mean over data sets of steerability in standard deviations of the unsteered propensity."""
        by_set = self.slopes.groupby("dataset")
        return stats.mean_interval(by_set["steerability"].mean() / by_set["baseline"].std())

    def failure(self) -> str:
        """Why claims that presuppose steering have no meaning here; empty when it works."""
        runs = (self, *self.others)
        failed = [run for run in runs if run.moved.high < FAILS]
        if not failed:
            return ""
        moved = failed[0].moved
        found = f"{moved.estimate:.3f} [{moved.low:.3f}, {moved.high:.3f}]"
        return f"steering fails: {failed[0].name} moves by {found} standard deviations a unit multiplier"

    def llama(self, column: str) -> pd.Series:
        """A published number of Llama-2-7b for the data sets of this run that have one."""
        names = published.among(self.settings.datasets)
        return published.datasets().loc[names, f"{column}_{published.MAIN}"].dropna()
