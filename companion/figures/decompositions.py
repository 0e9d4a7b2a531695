"""Decompositions of a steering vector, judged three ways: reconstruction, behaviour, stability."""

import numpy as np
import pandas as pd

from companion.figures import rows, style
from companion.figures.style import Drawn, number
from companion.mayne.decompositions import AUTOENCODER, DIFFERENCE, ORIGINAL, PURSUIT, RANDOM, SHUFFLED, WHOLE

FLOOR = -0.5  # below, a reconstruction is further away than a vector that points elsewhere; drawn at the edge
COLORS = {"encode": style.VERMILLION, "encode-scaled": style.ORANGE, DIFFERENCE: style.PURPLE}
COLORS |= {"encode-minus-zero": style.BLACK, PURSUIT: style.BLUE, "nnls": style.GREEN, "lasso": style.SKY}
COLORS |= {AUTOENCODER: style.VERMILLION, WHOLE: style.PURPLE}


def curves(table: pd.DataFrame) -> Drawn:
    """Explained share of the squared norm by number of features, one line a method (`mayne.decompositions.curves`).

    Baselines are grey. A method that leaves the panel below is named there with its value at the most features.
    """
    shown = ("n_features", "explained", "low", "high")
    rows, below = style.checked(table, ("method", *shown), shown[:2]), []
    with style.drawing(4.4) as (figure, axes):
        for method, own in rows.groupby("method", sort=False):
            look = _look(method)
            axes.plot(own["n_features"], own["explained"], marker=".", ms=5, label=method, **look)
            axes.fill_between("n_features", "low", "high", data=own, color=look["color"], alpha=0.13, lw=0)
            if own["explained"].max() < FLOOR:
                below.append(f"{method}: {number(own['explained'].iloc[-1])}")
        axes.axhline(0, color=style.BLACK, lw=0.9)
        style.logarithmic(axes, base=2)
        axes.set(xlabel="number of features", ylim=(FLOOR, 1.03))
        axes.set_ylabel("explained share of the squared norm")
        if below:
            look = {"ha": "right", "style": "italic", "transform": axes.transAxes, **style.NOTE}
            axes.text(0.99, 0.02, f"below the panel: {'; '.join(below)}", **look)
        style.legend(figure)
    most = rows["n_features"].max()
    last = rows[rows["n_features"] == most].sort_values("explained", ascending=False)
    listed = "; ".join(_in_words(last, "method", "explained"))
    alt = "Explained share of the squared norm of the steering vector against the number of features, from "
    alt += f"{rows['n_features'].min()} to {most}. With {most} features, in brackets 95% of vectors of resampled pairs: {listed}."
    return Drawn(figure, table, alt)


def behaviour(table: pd.DataFrame, answer_format: str) -> Drawn:
    """Mean steerability of the vector, of its reconstructions and of the baselines: vector, estimate, low, high.

    Right, cosine with the vector, norm relative to it, and the correlation of per-item steerability (items).
    """
    finite = ["cosine", "norm", "estimate", "low", "high"]
    shown = style.checked(table, ("vector", *finite, "items"), finite).reset_index(drop=True)
    style.need(ORIGINAL in set(shown["vector"]), f"a row of the {ORIGINAL}", "none", "take the whole table.")
    original, unit = shown[shown["vector"] == ORIGINAL].iloc[0], style.PER_UNIT[answer_format]
    with rows.drawing(shown["vector"].str.replace(", ", ",\n")) as (figure, [axes]):
        rows.points(axes, shown[rows.ESTIMATE], [_look(name)["color"] for name in shown["vector"]])
        axes.axvspan(original["low"], original["high"], color=style.FAINT, alpha=0.3, lw=0)
        axes.axvline(original["estimate"], color=style.FAINT, lw=1)
        axes.set_xlabel(f"mean steerability with 95% interval over test groups\n({unit})")
        for at, name, head in ((1.02, "cosine", "cosine"), (1.15, "norm", "norm"), (1.27, "items", "item r")):
            texts = shown[name].map(lambda value: number(value, ".2f") if np.isfinite(value) else "n/a")
            rows.numbers(axes, texts, head, at)
    sides = (f"cosine {number(row.cosine)}, norm {number(row.norm)}" for row in shown.itertuples())
    said = map(", ".join, zip(_in_words(shown, "vector", "estimate"), sides, strict=True))
    alt = "Mean steerability when steering with a vector or with what is left of it, with 95% intervals"
    return Drawn(figure, table, f"{alt}: {'; '.join(said)}.")


def stability(table: pd.DataFrame) -> Drawn:
    """Mean Jaccard index of the features of vectors from resampled training pairs, with intervals."""
    finite = ("n_features", "jaccard", "low", "high")
    shown = style.checked(table, ("method", *finite), finite).reset_index(drop=True)
    with rows.drawing(shown["method"].str.replace(", ", ",\n")) as (figure, [axes]):
        colors = [_look(name)["color"] for name in shown["method"]]
        rows.points(axes, shown[["jaccard", "low", "high"]], colors)
        axes.set_xlim(-0.03, 1.03)
        most = shown["n_features"].max()
        axes.set_xlabel(f"features shared by two resampled vectors (Jaccard index, {most} features)")
    listed = "; ".join(_in_words(shown, "method", "jaccard"))
    alt = f"Mean Jaccard index of the features of two vectors from resampled training pairs, with 95% intervals: {listed}."
    return Drawn(figure, table, alt)


def _look(name: str) -> dict:
    """Colour and line of a method; baselines are grey, told apart by their dashes."""
    if name.endswith((RANDOM, SHUFFLED)):
        return {"color": style.PUBLISHED, "ls": ":" if name.endswith(RANDOM) else "--", "lw": 1.4}
    return {"color": COLORS.get(name, style.BLACK), "ls": "-", "lw": 1.7}


def _in_words(table: pd.DataFrame, name: str, value: str) -> list[str]:
    """The name of each row with its value, and its interval where that is known."""
    values = table[[name, value, "low", "high"]].itertuples(index=False)
    ends = ((f"{who} {number(what)}", number(low), number(high)) for who, what, low, high in values)
    return [f"{start} [{low}, {high}]" if "nan" not in (low, high) else start for start, low, high in ends]
