"""Figure 3 of Mayne et al. 2024: a default component, on the axis of the vector and on that of the autoencoder."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion import published_mayne
from companion.figures import frames, style
from companion.figures.mayne_norms import COLORS
from companion.mayne.features import NEGATIVE, PLAIN, POSITIVE, SCALED, VECTOR, Component

COLUMNS = ("what", "projection")
ORDER = (PLAIN, POSITIVE, NEGATIVE, SCALED, VECTOR)
TICKS = {
    PLAIN: "plain text",
    POSITIVE: "positive answers",
    NEGATIVE: "negative answers",
    SCALED: "vector, scaled to\nthe median norm",
    VECTOR: "steering vector",
}


def default_component(component: Component) -> Figure:
    """Projections on the encoder direction of one feature, and what the autoencoder makes of them.

    The left axis is the projection, the right axis the pre-activation: the same points, moved by what the zero vector
    gets. Above the dotted line the feature is active. Bodies are densities, bars medians.

    Raises
    ------
    SteerkitError
        Empty table, missing column, a number that is not finite, or a source without points.
    """
    rows = _checked(component)
    with style.theme():
        figure, axes = plt.subplots(figsize=(style.WIDTH, 4.0))
        for place, what in enumerate(ORDER):
            _points(axes, place, rows.loc[rows["what"] == what, "projection"].to_numpy(), COLORS[what])
        start = component.threshold - component.offset
        axes.axhline(start, color=style.BLACK, lw=1, ls=":")
        axes.axhline(0, color=style.FAINT, lw=1)
        axes.set_xticks(range(len(ORDER)), [TICKS[what] for what in ORDER])
        axes.set_xlim(-0.6, len(ORDER) - 0.4)
        reach = np.array([*rows["projection"], start, 0.0])
        margin = 0.06 * np.ptp(reach)
        axes.set_ylim(reach.min() - margin, reach.max() + margin)
        axes.annotate(
            "active above this line", (1, start), xycoords=("axes fraction", "data"), xytext=(-4, 3),
            textcoords="offset points", ha="right", fontsize=style.SMALL, color=style.PUBLISHED,
        )  # fmt: skip
        axes.set_ylabel(f"projection on the encoder\ndirection of feature {component.feature}")
        right = axes.secondary_yaxis(
            "right", functions=(lambda y: y + component.offset, lambda y: y - component.offset)
        )
        right.set_ylabel(f"pre-activation\n(projection {frames.signed(component.offset)})")
        axes.grid(visible=False, axis="x")
        feature, bias = published_mayne.default_component()
        axes.set_title(
            f"ours: feature {component.feature}, at zero {frames.number(component.offset)}; "
            f"published: feature {feature}, encoder bias {bias:.2f} (no points)"
        )
    return figure


def default_component_alt(component: Component) -> str:
    """Alt text of :func:`default_component`, with its numbers."""
    rows = _checked(component)
    start = component.threshold - component.offset
    parts = []
    for what in ORDER:
        values = rows.loc[rows["what"] == what, "projection"]
        name = TICKS[what].replace("\n", " ")
        if len(values) == 1:
            active = "active" if values.iloc[0] > start else "not active"
            parts.append(f"{name} {frames.number(values.iloc[0])}, {active}")
        else:
            low, high = values.quantile([0.05, 0.95])
            parts.append(
                f"{name} median {frames.number(values.median())}, 5% to 95% {frames.number(low)} to "
                f"{frames.number(high)}, active in {np.mean(values > start):.0%}"
            )
    feature, bias = published_mayne.default_component()
    return (
        f"Projections on the encoder direction of feature {component.feature}, which the zero vector gives a "
        f"pre-activation of {frames.number(component.offset)}: {'; '.join(parts)}. The paper shows feature {feature} with "
        f"an encoder bias of {bias:.2f}: ordinary text projects far below zero there and the vector does not."
    )


def _checked(component: Component) -> pd.DataFrame:
    rows = frames.checked(component.table, COLUMNS, COLUMNS[1:])
    missing = [what for what in ORDER if what not in set(rows["what"])]
    if missing:
        raise frames.refusal(
            f"projections of {', '.join(ORDER)}", f"none of {missing[0]}", "take the whole table."
        )
    return rows


def _points(axes: Axes, place: int, values: np.ndarray, color: str) -> None:
    if len(values) == 1:
        axes.plot([place], values, marker="D", ms=8, color=color, ls="none", zorder=4)
        return
    if np.ptp(values) > 0:
        body = axes.violinplot([values], [place], widths=0.75, showextrema=False)["bodies"][0]
        body.set(facecolor=color, alpha=0.35, linewidth=0)
    shown = values[:: max(1, len(values) // 150)]
    jitter = np.random.default_rng(place).uniform(-0.14, 0.14, len(shown))
    axes.scatter(place + jitter, shown, s=7, color=color, alpha=0.6, lw=0, zorder=3)
    axes.hlines(np.median(values), place - 0.3, place + 0.3, color=color, lw=2.2, zorder=4)
