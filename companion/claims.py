"""The claims of Tan et al. 2024, one function each: what was published, what was found here, and whether it holds.

The name of a function is the claim's id and its docstring the claim; the exhibit that shows it and the rule that
decides stand above it, and the rule is printed beside the verdict. A claim that a small model does not bear out is a
result and says so; one that cannot be judged says why. Intervals are 95%. The second paper's are in `claims_mayne`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from companion import published
from companion.profiles import Settings
from companion.tan import experiment, records, tables
from companion.tan.formats import bias_share
from companion.tan.means import by_range
from companion.tan.tables import SAME, name_of
from steerkit import stats
from steerkit.errors import SteerkitError
from steerkit.formats import FORMATS

Found = tuple[str, str, bool | None]  # published, ours, whether it holds; None: not run
WORDS = {True: "agrees", False: "differs", None: "not run"}
LEAST = {"logits": 0.25, "nats per token": 0.02}  # own steerability of a data set in figure 7
FEWEST = 5  # data sets in a correlation that is judged: fewer have no interval worth the name
FIRST_SHIFT, LAST_SHIFT = ("BASE", "USER_NEG"), ("SYS_POS", "USER_NEG")


@dataclass(frozen=True)
class Claim:
    """A statement, the rule that decides on it, and the function that applies the rule to evidence."""

    id: str
    statement: str
    rule: str
    exhibit: str
    judge: Callable[[Any], Found]


def claim(claims: list[Claim], exhibit: str, rule: str) -> Callable[[Callable], Callable]:
    """Add a function to the claims of a paper."""

    def add(judge: Callable[[Any], Found]) -> Callable[[Any], Found]:
        statement = " ".join(judge.__doc__.split())
        claims.append(Claim(judge.__name__.replace("_", "-"), statement, rule, exhibit, judge))
        return judge

    return add


def judged(claims: Sequence[Claim], evidence: Any, answer_format: str) -> pd.DataFrame:
    """One row a claim: id, statement, answer_format, published, ours, rule, verdict, exhibit."""
    rows = []
    for one in claims:
        theirs, ours, holds = one.judge(evidence)
        verdict = WORDS[None if holds is None else bool(holds)]
        rows.append((one.id, one.statement, answer_format, theirs, ours, one.rule, verdict, one.exhibit))
    names = ["id", "statement", "answer_format", "published", "ours", "rule", "verdict", "exhibit"]
    return pd.DataFrame(rows, columns=names)


def table(settings: Settings, formats: Sequence[str]) -> pd.DataFrame:
    """One row a claim and format; the tables behind them are read, or computed when missing."""
    parts = [judged(CLAIMS, Evidence(settings, form), form) for form in formats]
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True)
class Evidence:
    """What the claims are judged on in one answer format; each table is read when the first claim asks for it."""

    settings: Settings
    form: str

    @cached_property
    def intervals(self) -> pd.DataFrame:
        """Mean steerability by data set."""
        return experiment.intervals(self.settings, self.form)

    @cached_property
    def full(self) -> pd.DataFrame:
        """Slopes of the full vector."""
        return experiment.slopes(self.settings, self.form).query("vector == 'full'")

    @cached_property
    def runs(self) -> list[Settings]:
        """The profiles that figures over several models show, which may be recorded ones."""
        return records.compared(self.settings, "shift", (self.form,))

    @cached_property
    def shifts(self) -> pd.DataFrame:
        """SHIFTS of all runs."""
        return tables.over_models(self.runs, self.form)[0]

    def wide(self, run: Settings) -> pd.DataFrame:
        """SHIFTS of one run: a row a data set, columns by value, training and test setting."""
        own = self.shifts[self.shifts["model"] == name_of(run)]
        return own.pivot(index="dataset", columns=["train", "test"])

    def llama(self, column: str) -> pd.Series:
        """A published number of Llama-2-7B for the data sets of this run that have one."""
        names = published.among(self.settings.datasets)
        return published.datasets().loc[names, f"{column}_llama2-7b"].dropna()


def interval(found: Sequence[float], digits: str = ".2f") -> str:
    """An estimate with its interval, in words."""
    estimate, low, high = found
    return f"{estimate:{digits}} [{low:{digits}}, {high:{digits}}]"


def _where(text: str, runs: Sequence[Settings]) -> str:
    """The text with the profiles behind it."""
    return f"{text} ({', '.join(run.profile for run in runs)})"


CLAIMS: list[Claim] = []


@claim(CLAIMS, "tan-fig-1", "interval above 0 in more than half of the data sets")
def mean_positive(e: Evidence) -> Found:
    """Adding the vector moves the mean propensity in the intended direction."""
    above, sets, theirs = int((e.intervals["low"] > 0).sum()), len(e.intervals), e.llama("mean")
    said = f"mean steerability above 0 in {int((theirs > 0).sum())} of {len(theirs)} data sets"
    return said, f"95% interval above 0 in {above} of {sets} data sets", above > sets / 2


@claim(CLAIMS, "tan-fig-1", "above the placebo in more than half of the data sets")
def beats_random(e: Evidence) -> Found:
    """The effect belongs to the direction, not to its norm."""
    above, sets = int((e.intervals["low"] > e.intervals["random"]).sum()), len(e.intervals)
    ours = f"95% interval above the mean of norm-matched random vectors in {above} of {sets} data sets"
    return "no placebo in the paper", ours, above > sets / 2


@claim(CLAIMS, "tan-fig-1", "intervals of the most and the least steerable data set do not overlap")
def varies_across_datasets(e: Evidence) -> Found:
    """Steerability differs strongly between data sets."""
    ours, theirs = e.intervals.sort_values("estimate")[["estimate", "low", "high"]], e.llama("mean")
    least, most = ours.iloc[0], ours.iloc[-1]
    said = f"{theirs.min():.2f} to {theirs.max():.2f} (logits per unit multiplier)"
    return said, f"{interval(least, '.3f')} to {interval(most, '.3f')}", most["low"] > least["high"]


NEAR_THE_WORST = "worst data set within 0.15 of the published worst, and less than 0.4 in the median set"


@claim(CLAIMS, "tan-fig-1", NEAR_THE_WORST)
def anti_steerable(e: Evidence) -> Found:
    """In many data sets a large share of examples is steered the wrong way, in the worst almost half."""
    share, theirs = (e.full["steerability"] <= 0).groupby(e.full["dataset"]).mean(), e.llama("anti_steerable")
    said, ours = (f"median {each.median():.2f}, worst {each.max():.2f}" for each in (theirs, share))
    return said, ours, abs(share.max() - theirs.max()) <= 0.15 and share.median() < 0.4


@claim(CLAIMS, "tan-fig-4", "median share explained at least half of the published one")
def bias_explains_variance(e: Evidence) -> Found:
    """Much of the variance of steerability is bias towards a letter or a word."""
    theirs = (1 - e.llama("variance_unexplained") / e.llama("variance_total")).median()
    said = f"median share explained {theirs:.2f}"
    if not FORMATS[e.form].biased:
        return said, "no letter and no Yes/No in this format", None
    ours = e.full.groupby("dataset").apply(bias_share, include_groups=False).median()
    return said, f"median share explained {ours:.2f}", ours >= theirs / 2


@claim(CLAIMS, "tan-fig-1", "95% interval of the rank correlation with Llama-2-7B above 0")
def dataset_property(e: Evidence) -> Found:
    """How steerable a concept is belongs to the data set: models agree on the order."""
    rho, theirs = published.statistic("spearman-models-id", "llama2-7b/qwen1.5-14b"), e.llama("mean")
    said = f"Spearman of Llama-2-7B and Qwen1.5-14B over 38 data sets {rho:.2f}"
    if len(theirs) < 4:
        return said, f"only {len(theirs)} data sets with a published value", None
    ours = e.intervals.set_index("dataset")["estimate"].reindex(theirs.index).to_numpy()
    found = stats.rank_correlation(ours, theirs.to_numpy(), np.random.default_rng(0))
    text = interval((found.estimate, found.low, found.high))
    return said, f"Spearman with Llama-2-7B {text} over {len(theirs)} data sets", found.low > 0


def _correlated(e: Evidence, measure: tables.Measure, shift: tuple[str, str]) -> tuple[str, bool | None]:
    """Over data sets: BASE->BASE against a shift, in every model that has it; no words when none has."""
    found = {}
    for run in e.runs:
        name = name_of(run)
        both = tables.paired(e.shifts, (name, *SAME), (name, *shift), measure)
        if len(both) >= FEWEST:
            found[name] = tables.correlate(both)[["spearman", "spearman_low", "spearman_high"]]
    text = "; ".join(f"{name} {interval(each)}" for name, each in found.items())
    return text, all(each["spearman_low"] > 0 for each in found.values()) if found else None


@claim(CLAIMS, "tan-fig-5", "95% interval above 0 for every model")
def id_and_ood_correlate(e: Evidence) -> Found:
    """Steerability in and out of distribution correlate over data sets."""
    rho = published.statistic("spearman-id-ood:BASE->USER_NEG")
    text, holds = _correlated(e, "mean", FIRST_SHIFT)
    ours = _where(text or f"fewer than {FEWEST} data sets", e.runs)
    return f"Spearman {rho:.2f} (Llama-2-7B, BASE to USER_NEG)", ours, holds


@claim(CLAIMS, "tan-fig-5", "95% interval of the mean loss over data sets above 0 for every model")
def ood_is_weaker(e: Evidence) -> Found:
    """Under a shift to the opposite persona vectors steer less on average."""
    means = published.shifts().query("model == 'llama2-7b'").groupby(["train", "test"])["mean"].mean()
    own, moved = means[SAME], means[FIRST_SHIFT]
    said = f"mean {own:.2f} in distribution, {moved:.2f} from BASE to USER_NEG (Llama-2-7B)"
    wide = {name_of(run): e.wide(run)["mean"] for run in e.runs}
    losses = {name: (each[SAME] - each[FIRST_SHIFT]).dropna() for name, each in wide.items()}
    if any(len(loss) < FEWEST for loss in losses.values()):
        return said, _where(f"fewer than {FEWEST} data sets", e.runs), None
    rng, texts, holds = np.random.default_rng(e.settings.seed), [], True
    for name, loss in losses.items():
        one = stats.bootstrap(loss.to_numpy(), seed=rng)
        texts.append(f"{name} loses {interval((one.estimate, one.low, one.high), '.3f')}")
        holds &= one.low > 0
    return said, _where("; ".join(texts), e.runs), holds


LOST = (
    "at least one data set of one model: interval above 0 in distribution, mean at or below 0 under the shift"
)
LOST += ", intervals apart"


@claim(CLAIMS, "tan-fig-5", LOST)
def some_sets_fail(e: Evidence) -> Found:
    """Some data sets are steerable in distribution and not under a shift."""
    theirs = published.shifts().query("model == 'qwen1.5-14b'")
    theirs = theirs.pivot_table(index="dataset", columns=["train", "test"], values="mean")
    lost = int(((theirs[SAME] > 0.25) & (theirs[FIRST_SHIFT] <= 0)).sum())
    said = f"{lost} of {len(theirs)} data sets from above 0.25 to below 0 (Qwen1.5-14B, BASE to USER_NEG)"
    texts, any_lost = [], False
    for run in e.runs:
        mean, low, high = (e.wide(run)[column] for column in ("mean", "low", "high"))
        steers = low[SAME] > 0
        failed = steers & (mean[FIRST_SHIFT] <= 0) & (high[FIRST_SHIFT] < low[SAME])
        texts.append(f"{name_of(run)} {int(failed.sum())} of {int(steers.sum())} steerable sets")
        any_lost |= bool(failed.any())
    return said, _where("; ".join(texts), e.runs), any_lost


@claim(CLAIMS, "tan-app-variance", "95% interval above 0 for every model that has the settings")
def variances_correlate(e: Evidence) -> Found:
    """The variance of steerability in and out of distribution correlates over data sets."""
    rho = published.statistic("spearman-id-ood-variance")
    text, holds = _correlated(e, "variance", LAST_SHIFT)
    ours = _where(text or f"no model with a system prompt and {FEWEST} data sets", e.runs)
    return f"Spearman {rho:.2f} (Llama-2-7B, SYS_POS to USER_NEG)", ours, holds


def _models_agree(table: pd.DataFrame, shift: tuple[str, str]) -> tuple[str, bool | None]:
    try:
        found = tables.between_models(table, *shift).iloc[0]
    except SteerkitError as error:  # one model, too few data sets, or a model without the setting
        return error.found, None
    if found["n"] < FEWEST:
        return f"only {found['n']} common data sets", None
    return f"Spearman {interval(found[['spearman', 'low', 'high']])}, n = {found['n']}", found["low"] > 0


@claim(CLAIMS, "tan-fig-6", "95% interval above 0")
def models_agree_in_distribution(e: Evidence) -> Found:
    """Two unrelated models agree on the order of data sets in distribution."""
    # From the main grids, which more models have than the prompt settings.
    runs, parts = records.compared(e.settings, "grid", (e.form,)), []
    for run in runs:
        slopes = experiment.slopes(run, e.form).query("vector == 'full'")
        means = slopes.groupby("dataset")["steerability"].mean().rename("mean").reset_index()
        parts.append(means.assign(model=name_of(run), train="BASE", test="BASE", variance=np.nan))
    text, holds = _models_agree(pd.concat(parts, ignore_index=True), SAME)
    rho = published.statistic("spearman-models-id", "llama2-7b/qwen1.5-14b")
    return f"Spearman {rho:.2f}", _where(text, runs), holds


@claim(CLAIMS, "tan-fig-6", "95% interval above 0 (BASE to USER_NEG, which both models have)")
def models_agree_out_of_distribution(e: Evidence) -> Found:
    """Two unrelated models agree on the order of data sets out of distribution."""
    rho = published.statistic("spearman-models-ood", "llama2-7b/qwen1.5-14b")
    text, holds = _models_agree(e.shifts, FIRST_SHIFT)
    return f"Spearman {rho:.2f} (SYS_POS to USER_NEG)", _where(text, e.runs), holds


def _falls(e: Evidence, y: str, points_of: Mapping[str, pd.DataFrame]) -> tuple[str, bool | None]:
    """A rank correlation with the distance of two settings; data sets are drawn with all their points."""
    texts, falls = [], []
    for name, points in points_of.items():
        if points.empty or points["dataset"].nunique() < FEWEST:
            texts.append(f"{name} too few data sets above the filter")
            continue
        rng, sets = np.random.default_rng(e.settings.seed), points["dataset"].unique()
        parts = {each: part[["distance", y]] for each, part in points.groupby("dataset")}
        drawn = (pd.concat([parts[each] for each in rng.choice(sets, len(sets))]).rank() for _ in range(1000))
        low, high = np.nanquantile([each["distance"].corr(each[y]) for each in drawn], [0.025, 0.975])
        rho = points["distance"].rank().corr(points[y].rank())
        texts.append(f"{name} {interval((rho, low, high))}")
        falls.append(high < 0)
    return _where("; ".join(texts), e.runs), all(falls) if falls else None


@claim(CLAIMS, "tan-fig-7", "95% interval below 0 without the diagonal, every model")
def prompts_explain_failures(e: Evidence) -> Found:
    """Where a prompt setting changes the unsteered propensity more, vectors from elsewhere work less."""
    found = {name_of(run): tables.relative_of(run, e.form, LEAST[FORMATS[e.form].unit])[0] for run in e.runs}
    rho = published.statistic("spearman-relative-baseline")
    said = f"Spearman {rho:.2f} (Llama-2-7B, diagonal included)"
    return said, *_falls(e, "relative", {name: each.query("not diagonal") for name, each in found.items()})


@claim(CLAIMS, "tan-app-cosine", "95% interval below 0, every model")
def distant_settings_have_other_vectors(e: Evidence) -> Found:
    """Vectors of prompt settings with more different propensities are less alike."""
    rho = published.statistic("spearman-cosine-baseline")
    found = {name_of(run): tables.cosines_of(run, e.form)[0] for run in e.runs}
    return f"Spearman {rho:.2f} (Llama-2-7B)", *_falls(e, "cosine", found)


@claim(CLAIMS, "tan-app-layers", "best layer between a quarter and three quarters of the depth")
def middle_layers_steer_best(e: Evidence) -> Found:
    """Steerability peaks in the middle of the network."""
    summary = experiment.layer_summary(e.settings, e.form)
    best, count = experiment.choose_layer(summary), int(summary["layer"].max()) + 1
    said = "layer 13 of 32 (Llama-2-7B), 21 of 40 (Qwen1.5-14B)"
    return said, _where(f"layer {best} of {count} swept", [e.settings]), 0.25 <= best / count <= 0.75


@claim(CLAIMS, "tan-app-ranges", "smaller in more than half of the data sets, and Spearman above 0.8")
def wider_ranges_flatten_slopes(e: Evidence) -> Found:
    """Over a wider range of multipliers slopes are smaller and the order of data sets is the same."""
    theirs = published.datasets()[["mean_range_0.5_llama2-7b", "mean_range_1.5_llama2-7b"]].dropna()
    fewer, rho = int((theirs.iloc[:, 1] < theirs.iloc[:, 0]).sum()), theirs.corr("spearman").iloc[0, 1]
    said = f"smaller in {fewer} of {len(theirs)} data sets, Spearman of the orders {rho:.2f} (Llama-2-7B)"
    wanted = [width for width in (0.5, 1.5) if {width, -width} <= set(e.settings.multipliers)]
    if len(wanted) < 2 or len(e.settings.datasets) < FEWEST:
        return said, _where("too few multipliers or data sets in this profile", [e.settings]), None
    grid = experiment.grid(e.settings, e.form).query("vector == 'full'")
    wide = by_range(grid, wanted, draws=100).pivot(index="dataset", columns="width", values="mean").abs()
    smaller, order = int((wide[1.5] < wide[0.5]).sum()), wide.corr("spearman").iloc[0, 1]
    text = f"smaller in {smaller} of {len(wide)}, Spearman {order:.2f}"
    return said, _where(text, [e.settings]), smaller > len(wide) / 2 and order > 0.8
