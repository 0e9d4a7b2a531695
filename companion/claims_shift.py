"""The claims of Tan et al. 2024 that need more than one prompt setting, more than one model, or the layer sweep.

They are judged on the profiles that the figures over several models show (`Settings.compared`), which may be recorded
ones; each row says on which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from companion import published
from companion.profiles import Settings
from companion.tan import experiment, ranges, records, settings_tables
from companion.tan import tables as shifts
from steerkit import stats
from steerkit.errors import SteerkitError
from steerkit.formats import FORMATS

LEAST = {"logits": 0.25, "nats per token": 0.02}  # own steerability of a data set in figure 7
FEWEST = 5  # data sets in a correlation that is judged: fewer have no interval worth the name
FIRST_SHIFT = ("BASE", "USER_NEG")
LAST_SHIFT = ("SYS_POS", "USER_NEG")


@dataclass(frozen=True)
class Wider:
    """What these claims are judged on, for one answer format: the run itself and the profiles it is compared with."""

    settings: Settings
    answer_format: str
    runs: tuple[Settings, ...]
    table: pd.DataFrame  # SHIFTS of all runs

    def of(self, settings: Settings) -> pd.DataFrame:
        """SHIFTS of one run."""
        return self.table[self.table["model"] == settings_tables.name_of(settings)]

    @property
    def where(self) -> str:
        """The profiles behind the numbers."""
        return ", ".join(settings.profile for settings in self.runs)


def gather(settings: Settings, answer_format: str) -> Wider:
    """Read or compute the tables."""
    runs = tuple(records.compared(settings, "shift", (answer_format,)))
    return Wider(settings, answer_format, runs, settings_tables.over_models(runs, answer_format)[0])


def judge(wider: Wider) -> list[dict]:
    """All rows for one answer format; a claim that cannot be judged says why."""
    rows = []
    for claim in CLAIMS:
        row = {"id": claim.__name__.replace("_", "-"), **claim(wider)}
        where = row.pop("where", wider.settings.profile if claim in OWN else wider.where)
        rows.append(row | {"ours": f"{row['ours']} ({where})"})
    return rows


def _verdict(holds: bool) -> str:
    return "agrees" if holds else "differs"


def _not_run(row: dict, why: str) -> dict:
    return row | {"ours": why, "verdict": "not run"}


def _interval(found: pd.Series, name: str) -> str:
    return f"{found[name]:.2f} [{found[f'{name}_low']:.2f}, {found[f'{name}_high']:.2f}]"


def _correlated(wider: Wider, measure: str, shift: tuple[str, str]) -> dict[str, pd.Series]:
    """By model the correlation over data sets between BASE->BASE and a shift, models without it left out."""
    found = {}
    for settings in wider.runs:
        name = settings_tables.name_of(settings)
        both = shifts.paired(wider.of(settings), (name, "BASE", "BASE"), (name, *shift), measure)
        if len(both) >= FEWEST:
            found[name] = shifts.correlate(both)
    return found


def id_and_ood_correlate(wider: Wider) -> dict:
    """Data sets that are steerable in distribution are steerable out of it."""
    row = {
        "statement": "Steerability in and out of distribution correlate over data sets.",
        "published": f"Spearman {published.statistic('spearman-id-ood:BASE->USER_NEG'):.2f} (Llama-2-7B, BASE to USER_NEG)",
        "rule": "95% interval above 0 for every model",
        "exhibit": "tan-fig-5",
    }
    found = _correlated(wider, "mean", FIRST_SHIFT)
    if not found:
        return _not_run(row, f"fewer than {FEWEST} data sets")
    text = "; ".join(f"{name} {_interval(r, 'spearman')}" for name, r in found.items())
    return row | {"ours": text, "verdict": _verdict(all(r["spearman_low"] > 0 for r in found.values()))}


def ood_is_weaker(wider: Wider) -> dict:
    """On average a vector loses something under a shift against the persona."""
    means = published.shifts().query("model == 'llama2-7b'").groupby(["train", "test"])["mean"].mean()
    row = {
        "statement": "Under a shift to the opposite persona vectors steer less on average.",
        "published": f"mean {means['BASE', 'BASE']:.2f} in distribution, {means[FIRST_SHIFT]:.2f} from BASE to USER_NEG (Llama-2-7B)",
        "rule": "95% interval of the mean loss over data sets above 0 for every model",
        "exhibit": "tan-fig-5",
    }
    losses = {settings_tables.name_of(settings): _loss(wider, settings) for settings in wider.runs}
    if any(len(loss) < FEWEST for loss in losses.values()):
        return _not_run(row, f"fewer than {FEWEST} data sets")
    rng = np.random.default_rng(wider.settings.seed)
    found = {name: stats.bootstrap_mean(loss.to_numpy(), rng) for name, loss in losses.items()}
    text = "; ".join(
        f"{name} loses {one.estimate:.3f} [{one.low:.3f}, {one.high:.3f}]" for name, one in found.items()
    )
    return row | {"ours": text, "verdict": _verdict(all(one.low > 0 for one in found.values()))}


def _loss(wider: Wider, settings: Settings) -> pd.Series:
    """Mean steerability in distribution minus that under the first shift, one number a data set."""
    wide = wider.of(settings).pivot(index="dataset", columns=["train", "test"], values="mean")
    return (wide["BASE", "BASE"] - wide[FIRST_SHIFT]).dropna()


def some_sets_fail(wider: Wider) -> dict:
    """Some concepts that are steerable in distribution are not out of it."""
    theirs = (
        published.shifts()
        .query("model == 'qwen1.5-14b'")
        .pivot_table(index="dataset", columns=["train", "test"], values="mean")
    )
    lost = int(((theirs["BASE", "BASE"] > 0.25) & (theirs[FIRST_SHIFT] <= 0)).sum())
    row = {
        "statement": "Some data sets are steerable in distribution and not under a shift.",
        "published": f"{lost} of {len(theirs)} data sets from above 0.25 to below 0 (Qwen1.5-14B, BASE to USER_NEG)",
        "rule": "at least one data set of one model: interval above 0 in distribution, mean at or below 0 under the shift, intervals apart",
        "exhibit": "tan-fig-5",
    }
    counts = {}
    for settings in wider.runs:
        wide = wider.of(settings).pivot(index="dataset", columns=["train", "test"])
        low, high, mean = wide["low"]["BASE", "BASE"], wide["high"][FIRST_SHIFT], wide["mean"][FIRST_SHIFT]
        failed = (low > 0) & (mean <= 0) & (high < low)
        counts[settings_tables.name_of(settings)] = (int(failed.sum()), int((low > 0).sum()))
    text = "; ".join(
        f"{name} {lost} of {steerable} steerable sets" for name, (lost, steerable) in counts.items()
    )
    return row | {"ours": text, "verdict": _verdict(any(lost for lost, _ in counts.values()))}


def variances_correlate(wider: Wider) -> dict:
    """How much examples differ is a property of the data set too."""
    row = {
        "statement": "The variance of steerability in and out of distribution correlates over data sets.",
        "published": f"Spearman {published.statistic('spearman-id-ood-variance'):.2f} (Llama-2-7B, SYS_POS to USER_NEG)",
        "rule": "95% interval above 0 for every model that has the settings",
        "exhibit": "tan-app-variance",
    }
    found = _correlated(wider, "variance", LAST_SHIFT)
    if not found:
        return _not_run(row, f"no model with a system prompt and {FEWEST} data sets")
    text = "; ".join(f"{name} {_interval(r, 'spearman')}" for name, r in found.items())
    return row | {"ours": text, "verdict": _verdict(all(r["spearman_low"] > 0 for r in found.values()))}


def _models_agree(wider: Wider, train: str, test: str, row: dict) -> dict:
    try:
        found = shifts.between_models(wider.table, train, test).iloc[0]
    except SteerkitError as error:  # one model, too few data sets, or a model without the setting
        return _not_run(row, error.found)
    if found["n"] < FEWEST:
        return _not_run(row, f"only {found['n']} common data sets")
    text = f"Spearman {found['spearman']:.2f} [{found['low']:.2f}, {found['high']:.2f}], n = {found['n']}"
    return row | {"ours": text, "verdict": _verdict(found["low"] > 0)}


def models_agree_in_distribution(wider: Wider) -> dict:
    """Figure 6, left; from the main grids, which more models have than the prompt settings."""
    row = {
        "statement": "Two unrelated models agree on the order of data sets in distribution.",
        "published": f"Spearman {published.statistic('spearman-models-id', 'llama2-7b/qwen1.5-14b'):.2f}",
        "rule": "95% interval above 0",
        "exhibit": "tan-fig-6",
    }
    runs = records.compared(wider.settings, "grid", (wider.answer_format,))
    tables = []
    for settings in runs:
        slopes = experiment.slopes(settings, wider.answer_format).query("vector == 'full'")
        means = slopes.groupby("dataset")["steerability"].mean().rename("mean").reset_index()
        tables.append(means.assign(model=settings_tables.name_of(settings), train="BASE", test="BASE"))
    table = pd.concat(tables, ignore_index=True).assign(variance=np.nan)
    found = _models_agree(replace(wider, table=table), "BASE", "BASE", row)
    return found | {"where": ", ".join(settings.profile for settings in runs)}


def models_agree_out_of_distribution(wider: Wider) -> dict:
    """Figure 6, right; USER_NEG instead of SYS_POS for training where a model has no system prompt."""
    row = {
        "statement": "Two unrelated models agree on the order of data sets out of distribution.",
        "published": f"Spearman {published.statistic('spearman-models-ood', 'llama2-7b/qwen1.5-14b'):.2f} (SYS_POS to USER_NEG)",
        "rule": "95% interval above 0 (BASE to USER_NEG, which both models have)",
        "exhibit": "tan-fig-6",
    }
    return _models_agree(wider, *FIRST_SHIFT, row)


def _trend(wider: Wider, x: str, y: str, tables: dict[str, pd.DataFrame], row: dict) -> dict:
    """A rank correlation over the points of each model, with an interval over whole data sets."""
    texts, signs = [], []
    for name, table in tables.items():
        if table.empty or table["dataset"].nunique() < FEWEST:
            texts.append(f"{name} too few data sets above the filter")
            continue
        found = _over_datasets(table, x, y, wider.settings.seed)
        texts.append(f"{name} {found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}]")
        signs.append(found.high < 0)
    if not signs:
        return _not_run(row, "; ".join(texts))
    return row | {"ours": "; ".join(texts), "verdict": _verdict(all(signs))}


def _over_datasets(table: pd.DataFrame, x: str, y: str, seed: int, draws: int = 1000) -> stats.Interval:
    """Spearman over points; data sets are drawn with all their points, which are not independent."""
    rng, names = np.random.default_rng(seed), table["dataset"].unique()
    parts = {name: part[[x, y]] for name, part in table.groupby("dataset")}
    found = []
    for _ in range(draws):
        drawn = pd.concat([parts[name] for name in rng.choice(names, len(names))]).rank()
        found.append(drawn[x].corr(drawn[y]))
    ranks = table[[x, y]].rank()
    low, high = np.nanquantile(found, [0.025, 0.975])
    return stats.Interval(float(ranks[x].corr(ranks[y])), float(low), float(high), 0.95, draws, ("points",))


def prompts_explain_failures(wider: Wider) -> dict:
    """Figure 7, without the diagonal."""
    row = {
        "statement": "Where a prompt setting changes the unsteered propensity more, vectors from elsewhere work less.",
        "published": f"Spearman {published.statistic('spearman-relative-baseline'):.2f} (Llama-2-7B, diagonal included)",
        "rule": "95% interval below 0 without the diagonal, every model",
        "exhibit": "tan-fig-7",
    }
    tables = {}
    for settings in wider.runs:
        table, _ = settings_tables.relative_of(
            settings, wider.answer_format, LEAST[FORMATS[wider.answer_format].unit]
        )
        tables[settings_tables.name_of(settings)] = table if table.empty else table[~table["diagonal"]]
    return _trend(wider, "distance", "relative", tables, row)


def distant_settings_have_other_vectors(wider: Wider) -> dict:
    """Appendix: cosine against distance."""
    row = {
        "statement": "Vectors of prompt settings with more different propensities are less alike.",
        "published": f"Spearman {published.statistic('spearman-cosine-baseline'):.2f} (Llama-2-7B)",
        "rule": "95% interval below 0, every model",
        "exhibit": "tan-app-cosine",
    }
    tables = {
        settings_tables.name_of(s): settings_tables.cosines_of(s, wider.answer_format)[0] for s in wider.runs
    }
    return _trend(wider, "distance", "cosine", tables, row)


def middle_layers_steer_best(wider: Wider) -> dict:
    """Appendix: the layer sweep of this run's own profile."""
    row = {
        "statement": "Steerability peaks in the middle of the network.",
        "published": "layer 13 of 32 (Llama-2-7B), 21 of 40 (Qwen1.5-14B)",
        "rule": "best layer between a quarter and three quarters of the depth",
        "exhibit": "tan-app-layers",
    }
    summary = experiment.layer_summary(wider.settings, wider.answer_format)
    best, last = experiment.choose_layer(summary), int(summary["layer"].max())
    text = f"layer {best} of {last + 1} swept"
    return row | {"ours": text, "verdict": _verdict(0.25 <= best / (last + 1) <= 0.75)}


def wider_ranges_flatten_slopes(wider: Wider) -> dict:
    """Appendix: saturation lowers the slope of a wide range and keeps the order of data sets."""
    theirs = published.datasets()[["mean_range_0.5_llama2-7b", "mean_range_1.5_llama2-7b"]].dropna()
    row = {
        "statement": "Over a wider range of multipliers slopes are smaller and the order of data sets is the same.",
        "published": f"smaller in {int((theirs.iloc[:, 1] < theirs.iloc[:, 0]).sum())} of {len(theirs)} data sets, "
        f"Spearman of the orders {theirs.corr('spearman').iloc[0, 1]:.2f} (Llama-2-7B)",
        "rule": "smaller in more than half of the data sets, and Spearman above 0.8",
        "exhibit": "tan-app-ranges",
    }
    wanted = [width for width in (0.5, 1.5) if {width, -width} <= set(wider.settings.multipliers)]
    if len(wanted) < 2 or len(wider.settings.datasets) < FEWEST:
        return _not_run(row, "too few multipliers or data sets in this profile")
    grid = experiment.grid(wider.settings, wider.answer_format)
    found = ranges.by_range(grid[grid["vector"] == "full"], wanted, draws=100)
    wide = found.pivot(index="dataset", columns="width", values="mean").abs()
    smaller, order = int((wide[1.5] < wide[0.5]).sum()), wide.corr("spearman").iloc[0, 1]
    text = f"smaller in {smaller} of {len(wide)}, Spearman {order:.2f}"
    return row | {"ours": text, "verdict": _verdict(smaller > len(wide) / 2 and order > 0.8)}


OWN = (middle_layers_steer_best, wider_ranges_flatten_slopes)  # of the profile itself
CLAIMS: tuple[Callable[[Wider], dict], ...] = (
    id_and_ood_correlate,
    ood_is_weaker,
    some_sets_fail,
    variances_correlate,
    models_agree_in_distribution,
    models_agree_out_of_distribution,
    prompts_explain_failures,
    distant_settings_have_other_vectors,
    middle_layers_steer_best,
    wider_ranges_flatten_slopes,
)
