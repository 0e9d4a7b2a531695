# shim, ranges only: they belong to tan_ranges
from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from companion import published
from companion.figures import frames, style
from companion.figures.samples import MARK, UNIT
from companion.figures.samples import head as _headed
from companion.figures.samples import published_names as _names
from companion.figures.tan_ranges import PUBLISHED_WIDTHS, published_ranges, range_dots, range_legend


def ranges(names: Sequence[str] = published.SELECTED) -> pd.DataFrame:
    """The table of :func:`ranges_published`: dataset, label, width, mean; sets by falling mean over +-1.5.

    A data set without such means is left out: the paper has them for the 13 selected.

    Raises
    ------
    SteerkitError
        An unknown data set, none, or none with means by range.
    """
    table = published_ranges(_names(names)).dropna()
    if table.empty:
        raise frames.refusal(
            "a data set with published means by range", ", ".join(names), "take a selected one."
        )
    widest = table[table["width"] == PUBLISHED_WIDTHS[-1]].sort_values("mean", ascending=False)["dataset"]
    order = dict(zip(widest, range(len(widest)), strict=True))
    return table.sort_values(
        "dataset", key=lambda column: column.map(order), kind="stable", ignore_index=True
    )


def ranges_published(names: Sequence[str] = published.SELECTED) -> Figure:
    """Published mean steerability by width of the multiplier range (appendix).

    Names as in :func:`figure_1_published`, but sets without such means are left out; errors as in
    :func:`ranges`.
    """
    table = ranges(names)
    sets = list(table["dataset"].unique())
    with style.theme():
        figure, axes = plt.subplots(figsize=(style.WIDTH, 1.6 + 0.3 * len(sets)))
        range_dots(axes, table, sets, list(PUBLISHED_WIDTHS), style.PUBLISHED)
        axes.set_xlabel(f"mean steerability ({UNIT})")
        _headed(figure, "Tan et al., appendix, ranges of the multiplier")
        figure.legend(handles=range_legend(PUBLISHED_WIDTHS), loc="outside lower center", ncols=3)
    return figure


def ranges_published_alt(names: Sequence[str] = published.SELECTED) -> str:
    """Alt text of :func:`ranges_published`, with its numbers."""
    wide = ranges(names).pivot(index="label", columns="width", values="mean")
    narrow, full = wide[PUBLISHED_WIDTHS[0]], wide[PUBLISHED_WIDTHS[-1]]
    steepest = (narrow / full).idxmax()
    return (
        f"Published mean steerability of Llama-2-7b by width of the multiplier range ({MARK}), "
        f"{frames.sets(len(wide))}: on average {frames.number(narrow.mean())} within ±0.5, "
        f"{frames.number(wide[PUBLISHED_WIDTHS[1]].mean())} within ±1 and {frames.number(full.mean())} {UNIT} within "
        f"±1.5. It shrinks in {int((full < narrow).sum())} sets, most in {steepest} "
        f"({frames.number(narrow[steepest])} to {frames.number(full[steepest])})."
    )
