"""The figures of Mayne et al. 2024: a steering vector as a sparse autoencoder sees it, beside what the paper has."""

from collections.abc import Collection, Mapping
from itertools import product

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator

from companion import published
from companion.figures import style
from companion.figures.style import Drawn, number, signed
from companion.mayne import features
from companion.mayne.activations import Contrast
from companion.mayne.features import NEGATIVE, PLAIN, POSITIVE, SCALED, VECTOR, ZERO
from steerkit.sae import Sae

# What an activation belongs to, in all figures of this paper.
COLORS = {PLAIN: style.SKY, POSITIVE: style.GREEN, NEGATIVE: style.PURPLE}
COLORS |= dict.fromkeys((SCALED, VECTOR), style.BLACK)
NAMES = {PLAIN: "plain text", POSITIVE: "positive answers", NEGATIVE: "negative answers"}
NAMES |= {SCALED: "vector, scaled\nto the median\nnorm", VECTOR: "steering vector"}
NORM_BINS, PAIR_BINS = 60, 24
COUNT = 5  # features of an input that are listed
NONE = "no feature is active"
DOSE = ("shared", "low", "high")
BY_LAYER = ["format", "layer", "mean", "low", "high", "n", "placebo"]


def figure_1(norms: Mapping[str, np.ndarray], length: float) -> Drawn:
    """Histograms of the norms of activations by what they belong to, with the norm of the steering vector as a line."""
    table = _histograms(norms, length)
    with style.drawing(3.4) as (figure, axes):
        for what, rows in table[table["what"] != VECTOR].groupby("what", sort=False):
            total, widths = rows["count"].sum(), rows["high"] - rows["low"]
            look = {"color": COLORS[what], "alpha": 0.6 if what == PLAIN else 0.4, "lw": 0, "align": "edge"}
            label = f"{NAMES[what]} (n = {total:,})"
            axes.bar(rows["low"], rows["count"] / total, widths, label=label, **look)
        axes.axvline(length, color=COLORS[VECTOR], lw=2)
        style.logarithmic(axes)
        low, high = table["low"].min(), table["high"].max()
        axes.set_xlim(low / (high / low) ** 0.06, high * (high / low) ** 0.03)
        axes.set(ylim=(0, axes.get_ylim()[1] * 1.12), ylabel="share of the tokens")
        axes.set_xlabel("L2 norm of the residual stream, logarithmic")
        side, shift = ("left", 5) if length < np.sqrt(low * high) else ("right", -5)
        text = f"steering vector\n{number(length)}"
        style.beside(axes, (length, 0.97), (shift, 0), text, ("data", "axes fraction"), va="top", ha=side)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.grid(visible=False, axis="x")
        style.legend(figure)
    plain = np.asarray(norms[PLAIN])
    longer = f"longer than {np.mean(plain < length):.1%} of the tokens"
    longer = "shorter than every token" if length <= plain.min() else longer
    low, middle, high = np.quantile(plain, [0, 0.5, 1])
    alt = (
        f"Histogram of the norms of the residual stream over {len(plain):,} tokens of plain text, from "
        f"{number(low)} to {number(high)}, median {number(middle)}, with those of the positive and negative answers. "
        f"The steering vector, a line at {number(length)}, is {longer}; the median token is {number(middle / length)} "
        "times as long as the vector."
    )
    return Drawn(figure, table, alt)


def _histograms(norms: Mapping[str, np.ndarray], length: float) -> pd.DataFrame:
    """Columns what, low, high, count: bins on a logarithmic scale, and the vector as a bin without width."""
    _check({**norms, VECTOR: np.array([length])}, (PLAIN, VECTOR))
    everything = np.concatenate(list(norms.values()))
    edges = np.geomspace(everything.min() * 0.999, everything.max() * 1.001, NORM_BINS + 1)
    bins = pd.DataFrame({"low": edges[:-1], "high": edges[1:]})
    parts = [bins.assign(what=what, count=np.histogram(values, edges)[0]) for what, values in norms.items()]
    own = pd.DataFrame({"what": [VECTOR], "low": length, "high": length, "count": 1})
    return pd.concat([*parts, own], ignore_index=True).query("count > 0")[[*own]]


def figure_2(table: pd.DataFrame, vector: str, label: str = "") -> Drawn:
    """The most active features (input, rank, feature, activation) of `vector` and of zero: ours left, published right.

    A missing bar means that the feature is not among the five of that input. `label` names the model.
    """
    shown = table_1(table)
    panels = {"ours": (label or vector, table, vector, style.BLUE)}
    theirs = (_published_features(), published.VECTOR, style.PUBLISHED)
    panels["published"] = ("Gemma-2-2B, Gemma Scope", *theirs)
    alt = "The most active features of a steering vector and of the zero vector."
    with style.drawing(3.7, 1, 2) as (figure, columns):
        for axes, (whose, (title, rows, name, color)) in zip(columns, panels.items(), strict=True):
            one, other = (rows[rows["input"] == each].sort_values("rank") for each in (name, ZERO))
            _feature_bars(axes, one, other, color, whose)
            axes.set(title=f"{whose}:\n{title}", xlabel="activation")
            shared = len(set(one["feature"]) & set(other["feature"]))
            one, other = (", ".join(_cells(each)) or "none, since nothing is active" for each in (one, other))
            alt += f" {whose.capitalize()}: the vector's most active features are {one}; those of the zero vector are "
            alt += f"{other}; {shared} features are in both."
        columns[0].set_ylabel("feature")
        style.legend(figure, columns=4)
    return Drawn(figure, shown, alt)


def table_1(table: pd.DataFrame) -> pd.DataFrame:
    """Table 1: a row an input, published rows first: source, input, 1 to 5, shared with zero."""
    rows, columns = [], ("input", "rank", "feature", "activation")
    if not table.empty:  # as it is where the vector and zero activate nothing
        style.checked(table, columns, columns[1:])
    for source, part in (("published", _published_features()), ("ours", table)):
        usual = set(part.loc[part["input"] == ZERO, "feature"])
        for name in dict.fromkeys([*part["input"], ZERO]):  # without any active feature it has no rows
            own = part[part["input"] == name].sort_values("rank")
            cells = (_cells(own) or [NONE]) + [""] * COUNT
            shared = f"{len(set(own['feature']) & usual)} of {len(own)}"
            rows.append((source, name, *cells[:COUNT], "" if name == ZERO else shared))
    return pd.DataFrame(rows, columns=["source", "input", *map(str, range(1, COUNT + 1)), "also in zero"])


def _published_features() -> pd.DataFrame:
    parts = [published.top_features(name).assign(input=name) for name in published.inputs()]
    return pd.concat(parts, ignore_index=True)


def _feature_bars(axes: Axes, vector: pd.DataFrame, zero: pd.DataFrame, color: str, whose: str) -> None:
    kept = pd.concat([vector, zero])
    if kept.empty:
        axes.set(xticks=[], yticks=[])
        look = {"ha": "center", "color": style.PUBLISHED, "style": "italic"}
        axes.text(0.5, 0.5, NONE, transform=axes.transAxes, **look)
        return
    shown, full = list(dict.fromkeys(kept["feature"])), {"fc": color, "label": f"vector, {whose}"}
    hollow = {"fc": "white", "ec": color, "lw": 1.2, "label": f"zero, {whose}"}
    for own, shift, look in ((vector, -0.2, full), (zero, 0.2, hollow)):
        places = own["feature"].map(shown.index) + shift
        axes.barh(places, own["activation"], height=0.36, **look)
        for place, value in zip(places, own["activation"], strict=True):
            style.beside(axes, (value, place), (3, 0), f"{value:.2f}", va="center", fontsize=style.SMALL)
    axes.set(yticks=range(len(shown)), yticklabels=[str(int(feature)) for feature in shown])
    axes.invert_yaxis()
    axes.set_xlim(0, kept["activation"].max() * 1.18)
    axes.grid(visible=False, axis="y")


def _cells(rows: pd.DataFrame) -> list[str]:
    return [f"{int(row.feature)} ({row.activation:.2f})" for row in rows.itertuples()]


def dose(curve: pd.DataFrame, norm: float, usual: float) -> Drawn:
    """Features shared with zero by norm (means and ends of `features.dose_counts`); lines at the norm of the vector and of activations.

    Of the placebos the mean, and as a band what lies between the 5th and the 95th percentile of the draws.
    """
    rows = style.checked(curve, ("what", "norm", *DOSE), ("norm", *DOSE))
    looks = {"label-shuffled": (style.BLUE, "--"), "isotropic": (style.PUBLISHED, ":")}
    looks[VECTOR] = (style.BLACK, "-")
    said, own = [], rows.loc[rows["what"] == VECTOR, "shared"].array
    with style.drawing(3.4) as (figure, axes):
        for what, part in rows.groupby("what", sort=False):
            (color, line), name = looks[what], NAMES.get(what, what)
            axes.plot(part["norm"], part["shared"], color=color, ls=line, lw=2, label=name)
            low, high = (number(np.interp(at, part["norm"], part["shared"])) for at in (norm, usual))
            at_norm = f"{what} {low} at the norm of the steering vector, {number(norm)}"
            said.append(f"{at_norm}, and {high} at that of activations, {number(usual)}")
            if what != VECTOR:
                band = {"color": color, "alpha": 0.18, "lw": 0, "label": f"{name}, 5% to 95% of draws"}
                axes.fill_between("norm", "low", "high", data=part, **band)
                below, above = int((own < part["low"].array).sum()), int((own > part["high"].array).sum())
                said[-1] += f" (5% to 95% of draws, with the vector below at {below} and above at {above}"
                said[-1] += f" of {len(own)} norms)"
        for place, text in ((norm, "steering vector"), (usual, "activations")):
            axes.axvline(place, color=style.FAINT, lw=1.3)
            style.beside(axes, (place, 0.03), (4, 0), text, ("data", "axes fraction"), **style.NOTE)
        style.logarithmic(axes)
        ylabel = f"of {COUNT} features,\nthose of zero"
        axes.set(xlabel="L2 norm, logarithmic", ylabel=ylabel, ylim=(-0.2, COUNT + 0.2))
        style.legend(figure, columns=3)
    alt = f"How many of the {COUNT} most active features are those of the zero vector, by norm: {'; '.join(said)}."
    return Drawn(figure, rows.assign(vector_norm=norm), alt)


def figure_3(sae: Sae, feature: int, projections: Mapping[str, torch.Tensor]) -> Drawn:
    """Projections [n] on the encoder direction of one feature, by source: densities and medians.

    The right axis is the pre-activation: the same points, moved by what the zero vector gets.
    """
    _check(projections, NAMES)
    points = {what: np.array(projections[what].tolist()) for what in NAMES}
    offset = float(features.at_zero(sae)[feature])
    start, (theirs, bias) = features.threshold(sae, feature) - offset, published.default_component()
    with style.drawing(4.0) as (figure, axes):
        for place, (what, values) in enumerate(points.items()):
            _points(axes, place, values, COLORS[what])
        axes.axhline(start, color=style.BLACK, lw=1, ls=":")
        axes.axhline(0, color=style.FAINT, lw=1)
        axes.set(xticks=range(len(NAMES)), xticklabels=NAMES.values(), xlim=(-0.6, len(NAMES) - 0.4))
        reach = np.array([*np.concatenate(list(points.values())), start, 0.0])
        margin, coords = 0.06 * np.ptp(reach), ("axes fraction", "data")
        axes.set_ylim(reach.min() - margin, reach.max() + margin)
        style.beside(axes, (1, start), (-4, 3), "active above this line", coords, ha="right", **style.NOTE)
        axes.set_ylabel(f"projection on the encoder\ndirection of feature {feature}")
        right = axes.secondary_yaxis("right", functions=(lambda y: y + offset, lambda y: y - offset))
        right.set_ylabel(f"pre-activation\n(projection {signed(offset)})")
        axes.grid(visible=False, axis="x")
        title = f"ours: feature {feature}, at zero {number(offset)}; published: feature {theirs}"
        axes.set_title(f"{title}, encoder bias {bias:.2f} (no points)")
    rows = [(what, value) for what, values in projections.items() for value in values.tolist()]
    said = [_projected(NAMES[what].replace("\n", " "), values, start) for what, values in points.items()]
    alt = f"Projections on the encoder direction of feature {feature}, which the zero vector gives a pre-activation of "
    alt += f"{number(offset)}: {'; '.join(said)}. The paper shows feature {theirs} with an encoder bias of {bias:.2f}: "
    alt += "ordinary text projects far below zero there and the vector does not."
    return Drawn(figure, pd.DataFrame(rows, columns=["what", "projection"]), alt)


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


def _projected(name: str, values: np.ndarray, start: float) -> str:
    if len(values) == 1:
        return f"{name} {number(values[0])}, {'active' if values[0] > start else 'not active'}"
    low, middle, high = (number(value) for value in pd.Series(values).quantile([0.05, 0.5, 0.95]))
    return f"{name} median {middle}, 5% to 95% {low} to {high}, active in {np.mean(values > start):.0%}"


def rule(often: float, rarely: float) -> str:
    """The rule of figure 4 in words."""
    return (
        f"Negative features: active on at least {often:.0%} of the negative answers' tokens, on average more active "
        "on them than on the positive ones, not activated by the vector, which points against their encoder "
        f"direction. Spurious features: active on at most {rarely:.0%} of the tokens of either side, but activated by "
        "the vector at the median norm of activations, which points along their encoder direction. Of all pairs with a "
        f"cosine of both encoder directions below {features.OPPOSITE:g}, the one in which most of the negative part is "
        "carried over: the projection on the negative feature times the cosine. Every other training group chooses the "
        "pair; it is judged on the rest."
    )


def figure_4(sae: Sae, answers: Contrast, norm: float, pair: tuple[int, int]) -> Drawn:
    """Pre-activations of both features over answer tokens, and the vector: as it is, and at `norm` (dashed)."""
    numbers, roles = features.pair_numbers(answers, sae, norm, pair), ("negative", "spurious")
    *theirs, cosine = published.signs()
    sides = {POSITIVE: answers.positive, NEGATIVE: answers.negative}
    found = {side: sae.pre_activations(x)[:, list(pair)].T.tolist() for side, x in sides.items()}
    cells = product(enumerate(zip(roles, pair, strict=True)), found)
    rows = [(*named, side, value) for (i, named), side in cells for value in found[side][i]]
    table = pd.DataFrame(rows, columns=["role", "feature", "side", "pre_activation"])
    style.checked(table, (), ["pre_activation"])
    encoder, decoder = numbers.loc[0, ["cosine, encoder", "cosine, decoder"]]
    with style.drawing(3.9, 1, 2) as (figure, panels):
        for axes, role, (_, one), their in zip(panels, roles, numbers.iterrows(), theirs, strict=True):
            _pre_activations(axes, table[table["role"] == role], one)
            axes.set(title=_title(one, their), xlabel="pre-activation")
        panels[0].set_ylabel("answer tokens")
        title = f"cosine of the two features: encoder {signed(encoder)}, decoder {signed(decoder)}"
        figure.suptitle(f"{title}; published {signed(cosine)}", fontsize=10)
        style.legend(figure, columns=3)
    said = " ".join(_said(one) for _, one in numbers.iterrows())
    alt = f"Two histograms of pre-activations over answer tokens. {said} Their encoder directions have a cosine of "
    alt += f"{number(encoder)}, their decoder directions one of {number(decoder)}. The paper shows features "
    alt += f"{theirs[0]} and {theirs[1]} with a cosine of {number(cosine)}."
    return Drawn(figure, table, alt)


def pair_table(sae: Sae, answers: Contrast, norm: float, pair: tuple[int, int]) -> pd.DataFrame:
    """The numbers behind figure 4, a column a feature, with the published ones."""
    negative, spurious, cosine = published.signs()
    numbers = features.pair_numbers(answers, sae, norm, pair)
    numbers = numbers.assign(**{"published feature": [negative, spurious], "published cosine": cosine})
    return numbers.round(4).T.reset_index().set_axis(["number", "negative", "spurious"], axis=1)


def _title(one: pd.Series, theirs: int) -> str:
    """What a feature of the pair was chosen as, or what of the rule it fails on all training groups."""
    if failed := _failed(one):
        return f"best found as {one['feature']}: feature {one['ours']}\n(published: {theirs}), but fails:\n{failed}"
    along = signed(one["projection of the vector"])
    return f"chosen as {one['feature']}: feature {one['ours']},\nprojection {along} (published: {theirs})"


def _failed(one: pd.Series) -> str:
    """What the vector does to a feature that the rule forbids; half of the groups chose the pair, all are shown."""
    along, negative = one["projection of the vector"], one["feature"] == "truly negative"
    scaled = one["scaled vector, pre-activation"] > one["threshold"]
    active = one["activation of the vector"] > 0 if negative else scaled
    side = "below" if negative else "above"
    failed = [f"projection {signed(along)}, should be {side} 0"] if (along >= 0) == negative else []
    failed += [f"{'' if negative else 'not '}activated by the vector"] if active == negative else []
    return "; ".join(failed)


def _pre_activations(axes: Axes, rows: pd.DataFrame, one: pd.Series) -> None:
    alone = one["projection of the vector"] + one["pre-activation at zero"]
    scaled, start = one["scaled vector, pre-activation"], one["threshold"]
    reach = [*rows["pre_activation"], alone, scaled, start]
    edges = np.linspace(min(reach), max(reach) + 1e-9, PAIR_BINS + 1)
    sides = dict(iter(rows.groupby("side", sort=False)["pre_activation"]))
    look = {"color": [COLORS[side] for side in sides], "label": [NAMES[side] for side in sides]}
    axes.hist(sides.values(), edges, alpha=0.75, **look)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.axvline(start, color=style.PUBLISHED, lw=1.2, ls=":", label="active right of this")
    axes.axvline(alone, color=style.BLACK, lw=2, label="steering vector")
    axes.axvline(scaled, color=style.BLACK, lw=1.6, ls="--", label="vector, scaled to the median norm")
    axes.grid(visible=False, axis="x")
    axes.margins(x=0.04)


def _said(one: pd.Series) -> str:
    failed = _failed(one)
    return (
        f"Feature {one['ours']}, {one['feature']}: active on {one['active on positive answers']:.0%} of the positive "
        f"and {one['active on negative answers']:.0%} of the negative answers' tokens; the vector projects on it with "
        f"{number(one['projection of the vector'])} and activates it with {number(one['activation of the vector'])}; "
        f"scaled to the norm of activations its pre-activation is {number(one['scaled vector, pre-activation'])}."
        + (f" It fails the rule: {failed}." if failed else "")
    )


def figure_5(table: pd.DataFrame, n_layers: int, sae_layer: int) -> Drawn:
    """Mean steerability by layer (format, layer, mean, low, high, n, placebo), the best layer and the autoencoder's.

    The paper's best layer is marked at the same depth of this model, which has `n_layers` blocks.
    """
    rows = style.checked(table, BY_LAYER, ["layer", "mean", "n"])[BY_LAYER]
    rows, form = rows.sort_values("layer", ignore_index=True), style.one_format(rows)
    style.need(rows["layer"].is_unique, "each layer once", "some twice", "choose one data set.")
    color = style.FORMATS[form]
    best, lowest = (rows.loc[rows["mean"].agg(end)] for end in ("idxmax", "idxmin"))
    layer, blocks = published.best_layer()
    same_depth = layer / (blocks - 1) * (n_layers - 1)
    with style.drawing(3.5) as (figure, axes):
        axes.axhline(0, color=style.BLACK, lw=0.9)
        band = {"color": color, "alpha": 0.2, "lw": 0, "label": "95% interval over test groups"}
        axes.fill_between("layer", "low", "high", data=rows, **band)
        axes.plot(rows["layer"], rows["mean"], color=color, lw=1.6, marker=".", ms=5)
        placebo = "95% of label-shuffled vectors below"
        axes.plot(rows["layer"], rows["placebo"], color=style.BLACK, lw=0.9, ls="--", label=placebo)
        ring = {"ms": 8, "mfc": "white", "mec": color, "mew": 1.7}
        axes.plot([best["layer"]], [best["mean"]], "o", label=f"best, layer {best['layer']:.0f}", **ring)
        axes.axvline(sae_layer, color=style.BLACK, lw=1.3, ls=":", label=f"autoencoder, layer {sae_layer}")
        label = f"published best, {layer} of {blocks} (same depth)"
        axes.axvline(same_depth, color=style.PUBLISHED, lw=1.6, label=label)
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        ylabel = f"mean steerability\n({style.PER_UNIT[form]})"
        axes.set(xlabel="layer (0-based block output)", ylabel=ylabel, xlim=(-0.5, n_layers - 0.5))
        axes.grid(visible=False, axis="x")
        style.legend(figure)
    alt = (
        f"Mean steerability by layer over {len(rows)} of {n_layers} layers: highest at layer {best['layer']:.0f}, "
        f"{number(best['mean'])} with a 95% interval from {number(best['low'])} to {number(best['high'])}; lowest at layer "
        f"{lowest['layer']:.0f}, {number(lowest['mean'])}. The autoencoder reads layer {sae_layer}. The paper's best is "
        f"layer {layer} of {blocks}, which is the depth of layer {same_depth:.0f} here."
    )
    return Drawn(figure, rows, alt)


def _check(sides: Mapping[str, np.ndarray | torch.Tensor], needed: Collection[str]) -> None:
    """Every source has points, and all are finite."""
    for what in needed:
        there = what in sides and len(sides[what]) > 0
        style.need(there, f"numbers of {', '.join(needed)}", f"none of {what}", "pass all of them.")
    for what, values in sides.items():
        finite = np.isfinite(np.asarray(values)).all()
        style.need(finite, "finite numbers", f"others in {what}", "look at the run that made them.")
