"""Figure 4 of Mayne et al. 2024: a feature of which the vector has less than nothing, and one that shows up instead."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from companion import published_mayne
from companion.figures import frames, style
from companion.figures.mayne_norms import COLORS
from companion.mayne.features import NEGATIVE, POSITIVE, Sign, Signs

COLUMNS = ("role", "feature", "side", "pre_activation")
BINS = 24
TITLES = {"negative": "truly negative", "spurious": "spurious"}


def signs(found: Signs) -> Figure:
    """Pre-activations of both features over answer tokens, and those of the steering vector as lines.

    Right of the dotted line a feature is active. The full line is the vector as it is, the dashed one the vector at the
    median norm of activations.

    Raises
    ------
    SteerkitError
        Empty table, missing column, or a number that is not finite.
    """
    rows = frames.checked(found.table, COLUMNS, COLUMNS[3:])
    negative, spurious, cosine = published_mayne.signs()
    with style.theme():
        figure, panels = plt.subplots(1, 2, figsize=(style.WIDTH, 3.9))
        for axes, one, theirs in zip(
            panels, (found.negative, found.spurious), (negative, spurious), strict=True
        ):
            _panel(axes, rows[rows["role"] == one.role], one)
            axes.set_title(f"{TITLES[one.role]}: feature {one.feature}\n(published: {theirs})")
            axes.set_xlabel("pre-activation")
        panels[0].set_ylabel("answer tokens")
        figure.suptitle(
            f"cosine of the two features: encoder {frames.signed(found.cosine_encoder)}, decoder "
            f"{frames.signed(found.cosine_decoder)}; published {frames.signed(cosine)}",
            fontsize=10,
        )
        figure.legend(handles=_legend(), loc="outside lower center", ncols=3)
    return figure


def signs_alt(found: Signs) -> str:
    """Alt text of :func:`signs`, with its numbers."""
    frames.checked(found.table, COLUMNS, COLUMNS[3:])
    negative, spurious, cosine = published_mayne.signs()
    return (
        f"Two histograms of pre-activations over answer tokens. {_said(found.negative)} {_said(found.spurious)} Their encoder "
        f"directions have a cosine of {frames.number(found.cosine_encoder)}, their decoder directions one of "
        f"{frames.number(found.cosine_decoder)}. The paper shows features {negative} and {spurious} with a cosine of "
        f"{frames.number(cosine)}."
    )


def signs_table(found: Signs) -> pd.DataFrame:
    """Ours beside the published features, one row each, with the numbers behind the figure."""
    negative, spurious, cosine = published_mayne.signs()
    rows = [
        {
            "feature": TITLES[one.role],
            "ours": one.feature,
            "projection of the vector": one.projection,
            "pre-activation at zero": one.offset,
            "threshold": one.threshold,
            "activation of the vector": one.activation,
            "scaled vector, pre-activation": one.scaled,
            "active on positive answers": one.active_positive,
            "active on negative answers": one.active_negative,
            "cosine, encoder": found.cosine_encoder,
            "cosine, decoder": found.cosine_decoder,
            "published feature": theirs,
            "published cosine": cosine,
        }
        for one, theirs in ((found.negative, negative), (found.spurious, spurious))
    ]
    return pd.DataFrame(rows)


def _panel(axes: Axes, rows: pd.DataFrame, one: Sign) -> None:
    alone = one.projection + one.offset
    reach = [*rows["pre_activation"], alone, one.scaled, one.threshold]
    edges = np.linspace(min(reach), max(reach) + 1e-9, BINS + 1)
    sides = [rows.loc[rows["side"] == side, "pre_activation"] for side in (POSITIVE, NEGATIVE)]
    axes.hist(sides, edges, color=[COLORS[POSITIVE], COLORS[NEGATIVE]], alpha=0.75)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.axvline(one.threshold, color=style.PUBLISHED, lw=1.2, ls=":")
    axes.axvline(alone, color=style.BLACK, lw=2)
    axes.axvline(one.scaled, color=style.BLACK, lw=1.6, ls="--")
    axes.grid(visible=False, axis="x")
    axes.margins(x=0.04)


def _legend() -> list[Line2D | Patch]:
    return [
        Patch(color=COLORS[POSITIVE], alpha=0.75, label="positive answers"),
        Patch(color=COLORS[NEGATIVE], alpha=0.75, label="negative answers"),
        Line2D([], [], color=style.PUBLISHED, lw=1.2, ls=":", label="active right of this"),
        Line2D([], [], color=style.BLACK, lw=2, label="steering vector"),
        Line2D([], [], color=style.BLACK, lw=1.6, ls="--", label="vector, scaled to the median norm"),
    ]


def _said(one: Sign) -> str:
    return (
        f"Feature {one.feature}, {TITLES[one.role]}: active on {one.active_positive:.0%} of the positive and "
        f"{one.active_negative:.0%} of the negative answers' tokens; the vector projects on it with {frames.number(one.projection)} "
        f"and activates it with {frames.number(one.activation)}; scaled to the norm of activations its pre-activation is "
        f"{frames.number(one.scaled)}."
    )
