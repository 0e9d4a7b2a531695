"""What the pairs of a data set say: predictors, items that go backwards, common words, numbers of pairs, single tokens."""

from collections.abc import Mapping

import pandas as pd
import seaborn as sns

from companion.figures import rows, style
from companion.figures.style import Drawn
from companion.tan import backwards, predict, sizes, unigram

APART, FORTY = "sixty sets kept apart", "forty sets of the paper"
Names = Mapping[str, str]
COLORS = {APART: style.BLUE, FORTY: style.FAINT}
NAMED = {"norm": "norm of the vector", "words": "words alone"}
NAMED[predict.MEASURED] = "measured on the training pairs"


def league(table: pd.DataFrame, labels: Names) -> Drawn:
    """Rank correlations of what is known beforehand with steerability (`tan.predict.league`, columns model and sets)."""
    shown = table[table["given"] == ""].dropna(subset="estimate")  # of what does not vary there is none
    order, lines = [*predict.PREDICTORS, *predict.CONTROLS, predict.MEASURED], (0, predict.LINE)
    words = "rank correlation with steerability,\nwithin kinds"
    alt = "Rank correlations with steerability of the sets kept apart"
    return _panels(shown, labels, "predictor", order, lines, words, alt)


def areas(table: pd.DataFrame, labels: Names) -> Drawn:
    """How well items that go backwards are told in sets never seen (`tan.backwards.judged`, with a column model)."""
    shown = table.rename(columns={"area": "estimate"}).assign(sets=APART)
    order, lines = list(shown["features"].unique()), (0.5, backwards.LINE)
    words, alt = "area under the curve within sets", "Area under the curve"
    return _panels(shown, labels, "features", order, lines, words, alt)


def _panels(
    table: pd.DataFrame, labels: Names, key: str, order: list, lines: tuple, words: str, alt: str
) -> Drawn:
    """A panel a model, a row a value of `key`: estimates with their intervals, the sets kept apart above the others.

    `lines` are where an estimate says nothing, and the registered one.
    """
    style.checked(table, ("model", "sets", key, "estimate", "low", "high"), ["estimate", "low", "high"])
    models, there = list(table["model"].unique()), [which for which in COLORS if which in set(table["sets"])]
    shown = table[table[key].isin(order)]
    shown = shown.set_index(shown[key].map(order.index))
    names, count = [NAMED.get(row, row) for row in order], len(there)
    with rows.drawing(names, len(models), count, lines[0], sharex=True) as (figure, panels):
        for axes, model in zip(panels, models, strict=True):
            for place, which in enumerate(there):
                own = shown[(shown["model"] == model) & (shown["sets"] == which)]
                rows.points(axes, own[rows.ESTIMATE], COLORS[which], rows.shift(place, count), label=which)
            axes.axvline(lines[1], label=f"the registered line, {lines[1]:g}", **rows.REGISTERED)
            axes.set(title=labels[model], xlabel=words)
    told = shown[shown["sets"] == APART]
    numbers = (told[key] + " " + told["estimate"].map("{:.2f}".format)).groupby(told["model"], sort=False)
    said = "; ".join(f"{labels[model]}: {', '.join(each)}" for model, each in numbers)
    return Drawn(figure, table, f"{alt}. {said}.")


def calibration(table: pd.DataFrame, labels: Names) -> Drawn:
    """Predicted and observed shares that go backwards (`tan.backwards.calibration`, with a column model)."""
    style.checked(table, ("model", "predicted", "observed"), ["predicted", "observed"])
    with style.drawing(3.4) as (figure, axes):
        for model, part in table.groupby("model", sort=False):
            look = {"ms": 4.5, "color": style.model_color(str(model)), "label": labels[str(model)]}
            axes.plot(part["predicted"], part["observed"], "o-", **look)
        line = {"color": style.BLACK, "lw": 0.9, "ls": "--", "zorder": 0}
        axes.axline((0, 0), slope=1, label="observed as predicted", **line)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set(xlabel="predicted share that goes backwards", ylabel="observed share")
        axes.legend()
    ends = table.groupby("model", sort=False)["observed"].agg(["first", "last"])
    said = "; ".join(f"{labels[m]} {row['first']:.2f} to {row['last']:.2f}" for m, row in ends.iterrows())
    return Drawn(figure, table, f"Observed share from the lowest to the highest tenth: {said}.")


def dose(table: pd.DataFrame, labels: Names, most: int) -> Drawn:
    """Slope by number of common content words, as a share of the set's mean (`tan.common.dose`, with model and sets)."""
    style.checked(table, ("model", "sets", "common", "share"), ["share"])
    with style.drawing(2.9) as (figure, axes):
        for (model, which), part in table.groupby(["model", "sets"], sort=False):
            look = {"color": style.model_color(model), "ls": "-" if which == APART else ":"}
            look["label"] = f"{labels[model]}, {which}"
            axes.plot(part["common"], part["share"], marker="o", ms=4.5, **look)
        axes.axhline(1, color=style.BLACK, lw=0.9, zorder=0)
        axes.set_xticks(range(most + 1), [*map(str, range(most)), f"{most} or more"])
        axes.set(xlabel="content words that test and training pair share", ylabel="slope over the set's mean")
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
        axes.legend()
    none = table[(table["common"] == 0) & (table["sets"] == APART)]
    said = "; ".join(f"{labels[row.model]} {row.share:.2f}" for row in none.itertuples())
    return Drawn(figure, table, f"Median share of a set's slope without a common content word: {said}.")


def reliability(table: pd.DataFrame, labels: Names) -> Drawn:
    """Reliability of the order of sets by numbers of pairs (`tan.sizes.reliability`, with a column model)."""
    style.checked(table, ("model", "train", "test", "reliability"), ["reliability"])
    models = list(dict.fromkeys(table["model"]))
    with style.drawing(3.4, 1, len(models), sharey=True, squeeze=False) as (figure, [panels]):
        for axes, model in zip(panels, models, strict=True):
            wide = table[table["model"] == model].pivot(index="test", columns="train", values="reliability")
            look = {"annot": True, "fmt": ".2f", "cmap": "Blues", "vmin": 0, "vmax": 1, "cbar": False}
            sns.heatmap(wide, ax=axes, linewidths=1, annot_kws={"fontsize": style.SMALL}, **look)
            axes.set(title=labels[model], xlabel="training pairs", ylabel="")
            axes.tick_params(length=0)
        panels[0].set_ylabel("test pairs")
        panels[0].invert_yaxis()
    same = table[(table["train"] == table["test"]) & table["train"].isin(sizes.SIZES[1:4])]
    said = (f"{labels[row.model]}, {row.train}: {row.reliability:.2f}" for row in same.itertuples())
    return Drawn(figure, table, f"Reliability by as many training as test pairs: {'; '.join(said)}.")


def tokens(table: pd.DataFrame, labels: Names) -> Drawn:
    """Effects of the vector and of a shift of tokens on each set: means of `tan.unigram.table`, and `model`."""
    style.checked(table, ("model", "dataset", *unigram.KINDS), list(unigram.KINDS))
    models = list(dict.fromkeys(table["model"]))
    with style.drawing(3.6, 1, len(models), squeeze=False) as (figure, [panels]):
        for axes, model in zip(panels, models, strict=True):
            part = table[table["model"] == model]
            look = {"s": 12, "color": style.FAINT, "lw": 0, "label": "log odds, answers exchanged"}
            axes.scatter("vector", "exchanged", data=part, **look)
            look = {"s": 16, "color": style.BLUE, "lw": 0, "label": "log odds of tokens"}
            axes.scatter("vector", "shift", data=part, **look)
            style.pointed(axes, part["vector"], part["shift"], part["dataset"])
            look = {"color": style.BLACK, "lw": 0.9, "zorder": 0}
            axes.axline((0, 0), slope=1, label="as far as the vector", **look)
            axes.axline((0, 0), slope=unigram.LINE, ls="--", label="the registered line", **look)
            axes.axhline(0, color=style.BLACK, lw=0.5, zorder=0)
            axes.set(title=labels[model], xlabel="effect of the vector (nats a token)")
        panels[0].set_ylabel("effect of the shift (nats a token)")
        style.legend(figure)
    more = (table["shift"] > table["vector"]).groupby(table["model"], sort=False).mean()
    said = "; ".join(f"{labels[model]} {share:.0%}" for model, share in more.items())
    alt = f"Share of sets that the shift of tokens moves farther than the vector does: {said}."
    return Drawn(figure, table, alt)
