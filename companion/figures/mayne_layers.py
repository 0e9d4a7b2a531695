"""Figure 5 of Mayne et al. 2024: steerability by layer of one behaviour."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from companion import published_mayne
from companion.figures import frames, style

COLUMNS = ("dataset", "format", "vector", "layer", "n", "mean", "variance")
Z = 1.959964  # half width of a normal 95% interval, in standard errors


def by_layer(summary: pd.DataFrame) -> pd.DataFrame:
    """Mean steerability of the full vector by layer with a 95% interval over examples: layer, mean, low, high, n.

    Parameters
    ----------
    summary : DataFrame
        The table of `companion.tan.experiment.layer_summary` for one data set.

    Raises
    ------
    SteerkitError
        Empty table, missing column, a number that is not finite, several data sets or formats, a layer twice.
    """
    checked = frames.checked(summary, COLUMNS, COLUMNS[3:])
    rows = frames.full_vectors(checked, ["layer"]).sort_values("layer")
    error = np.sqrt(rows["variance"] / (rows["n"] - 1).where(rows["n"] > 1))
    rows = rows.assign(low=rows["mean"] - Z * error, high=rows["mean"] + Z * error)
    return rows[["format", "layer", "mean", "low", "high", "n"]].reset_index(drop=True)


def layers(summary: pd.DataFrame, n_layers: int, sae_layer: int) -> Figure:
    """Mean steerability by layer, the best layer and the autoencoder's marked, and the paper's best at its depth.

    Parameters
    ----------
    summary : as in :func:`by_layer`
    n_layers : blocks of the model, to compare depths
    sae_layer : the block whose output the autoencoder reads

    Raises
    ------
    SteerkitError
        As :func:`by_layer`.
    """
    rows, color = by_layer(summary), style.FORMATS[frames.one_format(summary)]
    best, theirs = _best(rows), _published_depth() * (n_layers - 1)
    with style.theme():
        figure, axes = plt.subplots(figsize=(style.WIDTH, 3.5))
        axes.axhline(0, color=style.BLACK, lw=0.9)
        axes.fill_between(
            rows["layer"],
            rows["low"],
            rows["high"],
            color=color,
            alpha=0.2,
            lw=0,
            label="95% interval over examples",
        )
        axes.plot(rows["layer"], rows["mean"], color=color, lw=1.6, marker=".", ms=5)
        axes.plot(
            [best["layer"]],
            [best["mean"]],
            "o",
            ms=8,
            mfc="white",
            mec=color,
            mew=1.7,
            label=f"best, layer {best['layer']:.0f}",
        )
        axes.axvline(sae_layer, color=style.BLACK, lw=1.3, ls=":", label=f"autoencoder, layer {sae_layer}")
        layer, blocks = published_mayne.best_layer()
        axes.axvline(
            theirs, color=style.PUBLISHED, lw=1.6, label=f"published best, {layer} of {blocks} (same depth)"
        )
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        axes.set(xlabel="layer (0-based block output)", xlim=(-0.5, n_layers - 0.5))
        axes.set_ylabel(f"mean steerability\n({style.UNITS[frames.one_format(summary)]} per unit multiplier)")
        axes.grid(visible=False, axis="x")
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def layers_alt(summary: pd.DataFrame, n_layers: int, sae_layer: int) -> str:
    """Alt text of :func:`layers`, with its numbers."""
    rows = by_layer(summary)
    best, lowest = _best(rows), rows.loc[rows["mean"].idxmin()]
    layer, blocks = published_mayne.best_layer()
    return (
        f"Mean steerability by layer over {len(rows)} of {n_layers} layers: highest at layer {best['layer']:.0f}, "
        f"{frames.number(best['mean'])} with a 95% interval from {frames.number(best['low'])} to "
        f"{frames.number(best['high'])}; lowest at layer {lowest['layer']:.0f}, {frames.number(lowest['mean'])}. The "
        f"autoencoder reads layer {sae_layer}. The paper's best is layer {layer} of {blocks}, which is the depth of layer "
        f"{_published_depth() * (n_layers - 1):.0f} here."
    )


def _best(rows: pd.DataFrame) -> pd.Series:
    return rows.drop(columns="format").loc[rows["mean"].idxmax()]


def _published_depth() -> float:
    layer, blocks = published_mayne.best_layer()
    return layer / (blocks - 1)
