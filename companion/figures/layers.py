"""Appendix of Tan et al. 2024: which layer, which range of multipliers, and how well a line fits."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import t as student_t

from companion import published
from companion.figures import rows, samples, style
from companion.figures.style import Drawn, number

LINES = 14  # more lines than this cannot be told apart, nor labelled
CYCLE = (style.BLUE, style.ORANGE, style.GREEN, style.VERMILLION, style.SKY, style.PURPLE)
MARKERS = "osD^vP"
WIDTHS = (0.5, 1.0, 1.5)  # of the paper's ranges
# A line is named at its peak from so much of the highest peak on, and if it ends below so much of its own.
HIGH, LOW = 0.4, 0.1
PER_LINE = 4  # panels in a row of small multiples


def layer_sweep(summary: pd.DataFrame, chosen: int) -> Drawn:
    """Mean steerability against the layer (`steerkit.summary`): a line a data set, their mean, the chosen layer."""
    means = _curves(summary, chosen).pivot(index="layer", columns="dataset", values="mean")
    means = means[means.loc[chosen].sort_values(ascending=False).index]
    kind, mean, count = style.one_format(summary), means.mean(axis=1), len(means.columns)
    unit = style.PER_UNIT[kind]
    with style.drawing(4.4) as (figure, axes):
        axes.axhline(0, color=style.BLACK, lw=0.9)
        axes.axvline(chosen, color=style.BLACK, lw=1.3, ls=":", label=f"chosen layer: {chosen}")
        looks = [{"color": color, "ls": dash} for dash in ("-", "--", "-.") for color in CYCLE][:LINES]
        looks = dict(zip(means, looks if count <= LINES else [{"color": style.FAINT}] * count, strict=False))
        for name, look in looks.items():
            axes.plot(means.index, means[name], lw=1.3, marker=".", ms=5, clip_on=False, **look)
        axes.plot(mean, color=style.BLACK, lw=3.2, zorder=1.9, label="mean of the data sets")
        axes.set(xlabel="layer (0-based block output)", ylabel=f"mean steerability\n({unit})")
        axes.set_title(f"{kind} format")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=False, axis="x")
        if count <= LINES:
            _write_names(axes, means, looks)
        style.legend(figure)
    near = (means.loc[chosen] >= 0.9 * means.max()).sum()
    alt = f"Mean steerability of {style.sets(count)} at layers {means.index[0]} to {means.index[-1]}: the mean over "
    alt += f"data sets peaks at layer {mean.idxmax()} with {number(mean.max())} {unit}. At the chosen layer {chosen}"
    alt += f" it is {number(mean[chosen])}, and {near} of {count} reach 90% of their own peak there."
    return Drawn(figure, summary, alt)


def layer_curves(summary: pd.DataFrame, chosen: int) -> Drawn:
    """Mean steerability by layer with its 95% interval over examples, a panel a data set; the dot is its best layer."""
    rows, best = _curves(summary, chosen), best_layers(summary, chosen)
    kind, peaks = style.one_format(rows), best.set_index("dataset")["best"]
    color, peak = style.FORMATS[kind], rows.groupby("layer")["mean"].mean().idxmax()
    over = f"mean over {style.sets(len(best))}"
    why = f"highest {over}" if peak == chosen else f"given; the {over} peaks at layer {peak}"
    with small_multiples(len(best), 1.55, sharex=True) as (figure, panels):
        for axes, (name, own) in zip(panels, rows.groupby("dataset", sort=False), strict=True):
            axes.axhline(0, color=style.BLACK, lw=0.9)
            axes.axvline(chosen, color=style.BLACK, lw=1.3, ls=":", label="chosen layer")
            band = {"color": color, "alpha": 0.2, "lw": 0, "label": "95% interval over examples"}
            axes.fill_between("layer", "low", "high", data=own, **band)
            axes.plot(own["layer"], own["mean"], color=color, lw=1.4, marker=".", ms=3)
            dot = {"ls": "none", "marker": "o", "ms": 6, "mfc": "white", "mec": color, "mew": 1.5}
            top = own.loc[own["layer"] == peaks[name], "mean"]
            axes.plot([peaks[name]], top, label="its best layer", **dot)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.grid(visible=False, axis="x")
            axes.set_title(f"{style.tick(name)}\nbest: {peaks[name]}", fontsize=9)
        for axes in panels[-PER_LINE:]:  # the lowest of each column
            axes.set_xlabel("layer")
        figure.suptitle(f"{kind} format\nchosen layer {chosen} (0-based block output): {why}", fontsize=10)
        figure.supylabel(f"mean steerability\n({style.PER_UNIT[kind]})", fontsize=9.5)
        style.legend(figure, columns=3)
    loss = best["best_mean"] - best["chosen_mean"]
    most = best.loc[loss.idxmax()]
    alt = (
        f"Mean steerability by layer, one panel for each of {style.sets(len(best))}. Chosen layer {chosen} ({why}) is "
        f"the best layer of {int((peaks == chosen).sum())} of them; the best layers run from {peaks.min()} to "
        f"{peaks.max()}, and in {int(best['overlap'].sum())} the interval at the chosen layer reaches that at the "
        "best one."
    )
    if loss.max() > 0:
        here, top = number(most["chosen_mean"]), f"{number(most['best_mean'])} {style.PER_UNIT[kind]}"
        alt += f" {most['label']} loses most: {here} at layer {chosen} against {top} at layer {most['best']}."
    return Drawn(figure, best, alt)


def best_layers(summary: pd.DataFrame, chosen: int) -> pd.DataFrame:
    """The best layer of each data set beside the chosen one, by falling chosen_mean.

    Columns dataset, label, best, best_mean, chosen, chosen_mean, share (NaN without a best mean above 0), overlap (of
    the 95% intervals at the two layers).
    """
    rows = _curves(summary, chosen)
    top = rows.loc[rows.groupby("dataset", sort=False)["mean"].idxmax()].set_index("dataset")
    here = rows[rows["layer"] == chosen].set_index("dataset")
    found = pd.DataFrame({"label": top.index.map(published.label)}, top.index)
    found = found.assign(best=top["layer"], best_mean=top["mean"], chosen=chosen, chosen_mean=here["mean"])
    found["share"] = found["chosen_mean"] / found["best_mean"].where(found["best_mean"] > 0)
    found["overlap"] = (found["best"] == chosen) | (here["high"] >= top["low"])
    return found.reset_index()


def _curves(summary: pd.DataFrame, chosen: int) -> pd.DataFrame:
    """Rows of the full vector with low and high; sets by falling mean at the chosen layer, layers upwards."""
    rows = style.full_vectors(summary, ["dataset", "layer"], "layer", "n", "mean", "variance")
    means = rows.pivot(index="layer", columns="dataset", values="mean")
    expected = "every data set at every layer, the chosen layer among them"
    layers, empty = ", ".join(map(str, means.index)), int(means.isna().sum().sum())
    found = f"{empty} empty cells, layers {layers}, and chosen layer {chosen}"
    whole = not empty and chosen in means.index
    style.need(whole, expected, found, "sweep the same layers for every data set.")
    rows = style.in_order(rows, means.loc[chosen], rows["layer"])
    # The variance of the table is divided by n; one example has no interval. A sweep has few: a t interval.
    freedom = (rows["n"] - 1).where(rows["n"] > 1)
    error = student_t.ppf(0.975, freedom) * np.sqrt(rows["variance"] / freedom)
    return rows.assign(low=rows["mean"] - error, high=rows["mean"] + error)


def _write_names(axes: Axes, means: pd.DataFrame, looks: dict[str, dict[str, str]]) -> None:
    """Write the name of each line beyond its right end, moved apart where ends are close; of one that fell, at its peak."""
    top = means.max()
    fell = (top > HIGH * top.max()) & (means.iloc[-1] < LOW * top)
    for name in means.columns[fell]:
        peak, box = (means[name].idxmax(), top[name]), {"fc": "white", "ec": "none", "alpha": 0.8, "pad": 0.5}
        color = {"color": looks[name]["color"], "fontsize": style.SMALL, "bbox": box, "va": "center"}
        style.beside(axes, peak, (14, 0), _short(name), **color)
    ends, room = means.iloc[-1][~fell].sort_values(), 0.052 * np.ptp(axes.get_ylim())
    heights = np.array(list(accumulate(ends, lambda below, end: max(end, below + room))))
    heights -= (heights - ends.to_numpy()).mean()
    last, step = means.index[-1], 0.02 * max(np.ptp(means.index), 1)
    axes.set_xlim(means.index[0] - step, last + step)
    for (name, end), height in zip(ends.items(), heights, strict=True):
        axes.plot([last, last + 2.5 * step], [end, height], lw=1, clip_on=False, **looks[name] | {"ls": "-"})
        axes.text(last + 3 * step, height, _short(name), va="center", fontsize=style.SMALL)


def _short(name: str) -> str:
    """The label of a data set in one line."""
    first, *more = style.tick(name).split("\n")
    return first.rstrip("-") + "…" * bool(more)


def range_ablation(table: pd.DataFrame) -> Drawn:
    """Mean steerability refitted on narrower ranges of the multiplier (`tan.means.by_range`), ours beside Llama-2-7b's.

    One row a data set, by our mean over the widest range; one marker a width, ours with 95% intervals.
    """
    shown = style.full_vectors(table, ["dataset", "width"], "width", "mean", "low", "high")
    wide = shown.pivot(index="dataset", columns="width", values="mean")
    empty, expected = int(wide.isna().sum().sum()), "every width for every data set"
    style.need(not empty, expected, f"{empty} missing means", "refit the missing widths.")
    shown = style.in_order(shown, wide[wide.columns.max()], shown["width"])
    kind, names = style.one_format(shown), list(shown["dataset"].unique())
    unit = style.PER_UNIT[kind]
    theirs, widths = _published_ranges(names), sorted({*wide.columns, *WIDTHS})
    with rows.drawing([style.tick(name) for name in names], 2, 3) as (figure, (left, right)):
        _range_dots(left, shown, names, widths, style.FORMATS[kind])
        _range_dots(right, theirs, names, widths, style.PUBLISHED)
        left.set(title=f"ours:\n{kind}, 95% intervals", xlabel=f"mean steerability\n({unit})")
        samples.theirs(right, "mean steerability")
    means = ", ".join(f"{number(wide[width].mean())} within ±{width:g}" for width in wide.columns)
    alt = f"Mean steerability of {style.sets(len(wide))} ({kind} format) by width of the multiplier range: on"
    alt += f" average over sets {means}, in {unit}."
    if len(wide.columns) > 1:
        narrow, full = wide.columns.min(), wide.columns.max()
        shrink = int((wide[full].abs() < wide[narrow].abs()).sum())
        alt += f" In {shrink} of {len(wide)} sets the mean is closer to zero over ±{full:g} than over ±{narrow:g}."
    known = theirs.pivot(index="dataset", columns="width", values="mean").dropna()
    if known.empty:
        return Drawn(figure, table, f"{alt} The paper shows no such means for them.")
    first, last = (number(known[width].mean()) for width in (WIDTHS[0], WIDTHS[-1]))
    alt += f" The published Llama-2-7b means, known for {len(known)} of {len(wide)}, fall on average from {first}"
    return Drawn(figure, table, f"{alt} to {last} {style.PUBLISHED_UNIT}.")


def ranges_published(names: Sequence[str] = published.SELECTED) -> Drawn:
    """Published mean steerability of Llama-2-7b by width of the multiplier range, of the sets that have such means."""
    kept = [name for name in samples.published_names(names) if name != samples.POOL]  # it has no such means
    table, expected = _published_ranges(kept).dropna(), "a data set with published means by range"
    style.need(not table.empty, expected, ", ".join(names), "take a selected one.")
    wide = table.pivot(index="label", columns="width", values="mean")
    narrow, middle, full = (wide[width] for width in WIDTHS)
    heights = table[table["width"] == WIDTHS[-1]].set_index("dataset")["mean"]
    table = style.in_order(table, heights, table["width"])
    sets = list(table["dataset"].unique())
    with rows.drawing([style.tick(name) for name in sets], deep=3) as (figure, [axes]):
        _range_dots(axes, table, sets, WIDTHS, style.PUBLISHED)
        axes.set_xlabel(f"mean steerability ({style.PUBLISHED_UNIT})")
        samples.head(figure, "appendix, ranges of the multiplier")
    steepest = (narrow / full).idxmax()
    alt = (
        f"Published mean steerability of Llama-2-7b by width of the multiplier range ({samples.MARK}), "
        f"{style.sets(len(wide))}: on average {number(narrow.mean())} within ±0.5, {number(middle.mean())} within "
        f"±1 and {number(full.mean())} {style.PUBLISHED_UNIT} within ±1.5. It shrinks in {int((full < narrow).sum())} "
        f"sets, most in {steepest} ({number(narrow[steepest])} to {number(full[steepest])})."
    )
    return Drawn(figure, table, alt)


def _published_ranges(names: Sequence[str]) -> pd.DataFrame:
    """The published means of Llama-2-7b: dataset, label, width, mean; three rows a name, NaN where none is shown."""
    theirs = style.in_distribution(names)[[f"mean_range_{width}" for width in WIDTHS]]
    long = theirs.set_axis(WIDTHS, axis=1).rename_axis(index="dataset", columns="width")
    long = long.stack(future_stack=True).rename("mean").reset_index()
    return long.assign(label=long["dataset"].map(published.label))[["dataset", "label", "width", "mean"]]


def _range_dots(axes: Axes, table: pd.DataFrame, names: list, widths: Sequence[float], color: str) -> None:
    """One row a data set: a marker for each width, darker for wider ones, joined; with intervals if known."""
    table = table.set_index(table["dataset"].map(names.index))
    samples.remarks(axes, table.drop_duplicates("dataset"), "mean")
    known = table.dropna(subset="mean")
    below = known["width"].map(lambda width: rows.shift(widths.index(width), len(widths)))
    for row, own in known.groupby(level=0):
        axes.plot(own["mean"], row + below[[row]], color=style.FAINT, lw=1, zorder=1)
    for place, (width, fill) in enumerate(zip(widths, sns.light_palette(color, len(widths)), strict=True)):
        own, look = known[known["width"] == width], {"marker": MARKERS[place % len(MARKERS)], "fill": [fill]}
        look |= {"below": rows.shift(place, len(widths)), "label": f"multipliers within ±{width:g}"}
        rows.points(axes, own.filter(["mean", "low", "high"]), color, **look)


def residual_scatter(fits: pd.DataFrame) -> Drawn:
    """Slope of each example against the residual of its line, a panel a data set; other sets' examples are grey.

    The residual (column rmse) is the root of the SUM of squared residuals, as in the paper.
    """
    rows = style.full_vectors(fits, samples.ITEM, "steerability", "rmse")
    rows = style.in_order(rows, rows.groupby("dataset")["steerability"].mean(), np.arange(len(rows)))
    sets, kind = rows["dataset"].unique(), style.one_format(rows)
    unit, grey = style.UNITS[kind], {"color": style.FAINT, "alpha": 0.35, "rasterized": True}
    with small_multiples(len(sets), 1.75, sharex=True, sharey=True) as (figure, panels):
        for axes, name in zip(panels, sets, strict=True):
            own, others = rows[rows["dataset"] == name], rows[rows["dataset"] != name]
            axes.scatter("steerability", "rmse", data=others, s=3, lw=0, **grey)
            axes.scatter("steerability", "rmse", data=own, s=8, lw=0, color=style.FORMATS[kind], alpha=0.5)
            axes.axvline(0, color=style.BLACK, lw=0.9)
            axes.set_title(style.tick(name), fontsize=9)
            rho, count = _rank(own)
            text = f"n = {count}" if np.isnan(rho) else f"ρ = {number(rho, '.2f')}"
            corner = {"xycoords": "axes fraction", "ha": "right", "va": "top", "fontsize": style.SMALL}
            axes.annotate(text, (0.97, 0.95), **corner)
        panels[0].set_ylim(0, max(1.25 * rows["rmse"].max(), 1e-6))  # room for the text in the corner
        figure.supxlabel(f"steerability ({style.PER_UNIT[kind]})", fontsize=9.5)
        figure.supylabel(f"root of summed\nsquared residuals ({unit})", fontsize=9.5)
    medians, (rho, count) = rows.groupby("dataset")["rmse"].median(), _rank(rows)
    largest, least = medians.idxmax(), medians.idxmin()
    alt = "Scatter plots of steerability against the root of the summed squared residuals of each example's line, "
    alt += f"{style.sets(len(medians))}, {len(rows)} examples. The median residual runs from {number(medians[least])} "
    alt += f"({published.label(least)}) to {number(medians[largest])} {unit} ({published.label(largest)})."
    whole = f" Over all examples the size of the slope and the residual have a rank correlation of {rho:.2f}."
    return Drawn(figure, fits, alt + ("" if np.isnan(rho) else whole))


def _rank(rows: pd.DataFrame) -> tuple[float, int]:
    return style.rank_correlation(rows["steerability"].abs(), rows["rmse"])


@contextmanager
def small_multiples(count: int, height: float, **sharing: bool) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with `count` panels, at most four in a row; surplus panels are removed."""
    row = height if count > PER_LINE else max(height, 2.4)
    with style.grid(count, PER_LINE, 0.8, row, **sharing) as (figure, panels, spare):
        for axes in spare:
            axes.remove()
        for axes in panels[-PER_LINE:]:  # a removed panel leaves the one above without numbers
            axes.tick_params(labelbottom=True)
        yield figure, panels
