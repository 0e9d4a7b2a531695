"""Figure 2 and Table 1 of Mayne et al. 2024: the most active features of vectors, and of the zero vector."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from companion import published_mayne
from companion.figures import frames, style
from companion.mayne.features import ZERO

COLUMNS = ("input", "rank", "feature", "activation")
COUNT = 5
NONE = "no feature is active"


def published() -> pd.DataFrame:
    """The published part of Figure 2 and Table 1: input, rank, feature, activation."""
    parts = [published_mayne.top_features(name).assign(input=name) for name in published_mayne.inputs()]
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def most_active(table: pd.DataFrame, vector: str, label: str = "") -> Figure:
    """The most active features of a vector and of zero: published left, ours right.

    One row a feature, a filled bar for the vector and a hollow one for zero; a missing bar means that the feature is
    not among the five of that input.

    Parameters
    ----------
    table : DataFrame
        The table of `companion.mayne.features.most_active`.
    vector : the input that is drawn beside zero
    label : the model, for the title of our panel

    Raises
    ------
    SteerkitError
        Missing column, or a number that is not finite.
    """
    ours, theirs = _checked(table), published()
    panels = {
        "published:\nGemma-2-2B, Gemma Scope": (theirs, published_mayne.VECTOR, style.PUBLISHED),
        f"ours:\n{label or vector}": (ours, vector, style.BLUE),
    }
    with style.theme():
        figure, columns = plt.subplots(1, 2, figsize=(style.WIDTH, 3.7))
        for axes, (title, (rows, name, color)) in zip(columns, panels.items(), strict=True):
            _bars(axes, rows, name, color)
            axes.set(title=title, xlabel="activation")
        columns[0].set_ylabel("feature")
        figure.legend(handles=_legend(), loc="outside lower center", ncols=4)
    return figure


def most_active_alt(table: pd.DataFrame, vector: str) -> str:
    """Alt text of :func:`most_active`, with its numbers."""
    texts = []
    for whose, rows, name in (
        ("Published", published(), published_mayne.VECTOR),
        ("Ours", _checked(table), vector),
    ):
        one, other = (rows[rows["input"] == each] for each in (name, ZERO))
        shared = len(set(one["feature"]) & set(other["feature"]))
        texts.append(
            f"{whose}: the vector's most active features are {_listed(one)}; those of the zero vector are "
            f"{_listed(other)}; {shared} features are in both."
        )
    return "The most active features of a steering vector and of the zero vector. " + " ".join(texts)


def table_1(table: pd.DataFrame) -> pd.DataFrame:
    """Table 1: a row an input, published rows first: source, input, 1 to 5, shared with zero."""
    rows = []
    for source, part in (("published", published()), ("ours", _checked(table))):
        usual = set(part.loc[part["input"] == ZERO, "feature"])
        # An input without any active feature has no rows of its own; zero is always listed.
        for name in dict.fromkeys([*part["input"], *([ZERO] if source == "ours" else [])]):
            own = part[part["input"] == name].sort_values("rank")
            cells = [f"{int(row.feature)} ({row.activation:.2f})" for row in own.itertuples()]
            cells += [NONE if not cells else ""] + [""] * COUNT
            shared = f"{len(set(own['feature']) & usual)} of {len(own)}"
            rows.append((source, name, *cells[:COUNT], "" if name == ZERO else shared))
    heads = [str(rank) for rank in range(1, COUNT + 1)]
    return pd.DataFrame(rows, columns=["source", "input", *heads, "also in zero"])


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    """The table; it may be empty, for an autoencoder in which the vector and zero activate nothing."""
    return table if table.empty else frames.checked(table, COLUMNS, COLUMNS[1:])


def _bars(axes: Axes, rows: pd.DataFrame, vector: str, color: str) -> None:
    kept = rows[rows["input"].isin([vector, ZERO])]
    if kept.empty:
        axes.set(xticks=[], yticks=[])
        axes.text(
            0.5, 0.5, NONE, transform=axes.transAxes, ha="center", color=style.PUBLISHED, style="italic"
        )
        return
    features = list(dict.fromkeys(kept.sort_values(["input", "rank"], key=_vector_first(vector))["feature"]))
    for name, shift, look in (
        (vector, -0.2, {"color": color}),
        (ZERO, 0.2, {"facecolor": "white", "edgecolor": color, "lw": 1.2}),
    ):
        own = kept[kept["input"] == name]
        places = own["feature"].map(features.index) + shift
        axes.barh(places, own["activation"], height=0.36, **look)
        for place, value in zip(places, own["activation"], strict=True):
            axes.annotate(
                f"{value:.2f}",
                (value, place),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=style.SMALL,
            )
    axes.set(yticks=range(len(features)), yticklabels=[str(int(feature)) for feature in features])
    axes.invert_yaxis()
    axes.set_xlim(0, kept["activation"].max() * 1.18)
    axes.grid(visible=False, axis="y")


def _vector_first(vector: str):
    """Sort key that puts the vector's rows before those of zero."""
    return lambda column: column.ne(vector) if column.name == "input" else column


def _legend() -> list[Patch | Line2D]:
    return [
        Patch(fc=style.PUBLISHED, label="vector, published"),
        Patch(fc="white", ec=style.PUBLISHED, lw=1.2, label="zero, published"),
        Patch(fc=style.BLUE, label="vector, ours"),
        Patch(fc="white", ec=style.BLUE, lw=1.2, label="zero, ours"),
    ]


def _listed(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "none, since nothing is active"
    return ", ".join(f"{int(row.feature)} ({row.activation:.2f})" for row in rows.itertuples())
