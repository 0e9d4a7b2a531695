"""How every figure looks and what it may be drawn from: theme, fixed colours, checks at the door, words.

Colours are Okabe and Ito's colour-blind safe set. A colour means one thing within its table (answer formats,
models, prompt settings), in every figure; published values are grey or hatched.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from companion import models, published
from companion.tan.tables import some
from steerkit import errors, formats

BLACK, BLUE, SKY, GREEN = "#000000", "#0072B2", "#56B4E9", "#009E73"
ORANGE, VERMILLION, PURPLE = "#E69F00", "#D55E00", "#CC79A7"  # their yellow is too pale on white
PUBLISHED, FAINT, STRIPE = "#6E6E6E", "#BDBDBD", "#F6F6F6"

FORMATS = {name: form.colour for name, form in formats.FORMATS.items()}
MODELS = {name: spec.colour for name, spec in models.MODELS.items() if spec.colour}
SETTINGS = {"BASE": BLACK, "SYS_POS": BLUE, "SYS_NEG": SKY, "USER_POS": VERMILLION, "USER_NEG": ORANGE}
UNITS = {name: form.unit for name, form in formats.FORMATS.items()}  # of a score, by answer format
PER_UNIT = {name: f"{unit} per unit multiplier" for name, unit in UNITS.items()}  # of steerability
PUBLISHED_UNIT = PER_UNIT["letter"]

WIDTH = 7.5  # inches: the text column of a book page; at 700 pixels a 9 point letter is 12 pixels high
SMALL = 8.5  # points: the smallest text in any figure
NOTE = {"fontsize": SMALL, "color": PUBLISHED}  # of words beside the numbers
RC = {
    **sns.axes_style("whitegrid"),
    **dict.fromkeys(("font.size", "axes.labelsize"), 9.5),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 9),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "white"),
    "font.family": ["DejaVu Sans"],
    "axes.titlesize": 10,
    "axes.edgecolor": "#444444",
    "grid.color": "#E4E4E4",
    "hatch.linewidth": 0.8,
    **dict.fromkeys(("figure.dpi", "savefig.dpi"), 150),  # the layout depends on it, by a pixel or two
    "figure.constrained_layout.use": True,
    "figure.max_open_warning": 0,
    "svg.fonttype": "path",
    "svg.hashsalt": "steerkit",  # the same figure gives the same file
    "text.parse_math": False,  # a dollar in a name is a dollar
}


@dataclass(frozen=True)
class Drawn:
    """A figure, the numbers it shows, and what it shows in words."""

    figure: Figure
    table: pd.DataFrame
    alt: str


theme = partial(plt.rc_context, RC)  # under which figures are drawn; nothing global changes


@contextmanager
def drawing(height: float, *shape: int, **shares: object) -> Iterator[tuple[Figure, Axes | np.ndarray]]:
    """A figure of the common width with its panels under the theme; `height` in inches, `shape` rows and columns.

    Where drawing fails the figure is closed again.
    """
    with theme():
        figure, axes = plt.subplots(*shape, figsize=(WIDTH, height), **shares)
        try:
            yield figure, axes
        except Exception:
            plt.close(figure)
            raise


@contextmanager
def grid(count: int, columns: int, around: float, height: float, **sharing: object) -> Iterator[tuple]:
    """`drawing` with `count` panels in rows of at most `columns`; yields figure, panels and what is left of the last row.

    `height` is that of a row and `around` what all of them need besides, in inches.
    """
    columns = min(count, columns)
    rows = -(-count // columns)
    with drawing(around + height * rows, rows, columns, squeeze=False, **sharing) as (figure, panels):
        flat = list(panels.ravel())
        for axes in flat[count:]:
            axes.axis("off")
        yield figure, flat[:count], flat[count:]


def model_color(name: str) -> str:
    """The colour of a model; black for one that no figure of the papers shows."""
    return MODELS.get(name.partition(" ")[0], BLACK)  # "smollm2-135m (papers' data)" is the same model


def model_label(run: str) -> str:
    """What readers call the model of a run; what stands behind its name, as "(papers' data)", stays."""
    own = re.split("[ ,]", run, maxsplit=1)[0]
    return models.label(own) + run.removeprefix(own)


def remark(axes: Axes, row: float, text: str) -> None:
    """Say in a row of a panel why it shows nothing."""
    look = {"ha": "center", "va": "center", "style": "italic", **NOTE}
    box = {"fc": "white", "ec": "none", "pad": 1.5}
    axes.text(0.5, row, text, transform=axes.get_yaxis_transform(), bbox=box, **look)


def legend(figure: Figure, handles: list | None = None, columns: int = 2, spare: Sequence = ()) -> None:
    """What marks mean, or all with a label: below the panels, or in the first of those that are not used."""
    look = {"loc": "center"} if spare else {"loc": "outside lower center", "ncols": columns}
    (spare[0] if spare else figure).legend(handles=handles or labelled(figure), **look)


def labelled(figure: Figure) -> list:
    """The first mark with each label."""
    marks: dict = {}
    for axes in figure.axes:
        for mark, label in zip(*axes.get_legend_handles_labels(), strict=True):
            marks.setdefault(label, mark)
    return list(marks.values())


def dot(label: str, marker: str = "o", ms: float = 4.5, ls: str = "none", **look: object) -> Line2D:
    """A marker for a legend."""
    return Line2D([], [], ls=ls, marker=marker, ms=ms, label=label, **look)


def line(label: str, lw: float, color: str = BLACK, ls: str = "-") -> Line2D:
    """A line for a legend."""
    return Line2D([], [], color=color, lw=lw, ls=ls, label=label)


def beside(axes: Axes, at: tuple, by: tuple, text: str, coords: object = "data", **look) -> None:
    """Write beside a place, `by` so many points."""
    axes.annotate(text, at, by, xycoords=coords, textcoords="offset points", **look)


def logarithmic(axes: Axes, base: int = 10) -> None:
    """An axis of powers with plain numbers."""
    axes.set_xscale("log", base=base)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


need = partial(errors.need, done="Nothing was drawn.")  # or refuse


def checked(frame: pd.DataFrame, columns: Sequence[str], finite: Sequence[str]) -> pd.DataFrame:
    """The frame itself, when it has rows, the columns, and finite numbers in those named in ``finite``."""
    missing = ", ".join(column for column in columns if column not in frame.columns)
    wanted = f"a table with columns {', '.join(columns)}"
    need(not missing, wanted, f"no {missing}", "pass the table that steerkit writes.")
    need(not frame.empty, "a table with rows", "an empty one", "look at the filter or the run that made it.")
    bad = int((~np.isfinite(frame[list(finite)].to_numpy(dtype=float))).any(axis=1).sum())
    wanted, found = f"finite numbers in {', '.join(finite)}", f"{bad} of {len(frame)} rows without"
    need(not bad, wanted, found, "drop or mend these rows, and say so.")
    return frame


def full_vectors(frame: pd.DataFrame, key: Sequence[str], *numbers: str) -> pd.DataFrame:
    """Rows of the vectors of all training pairs, in one answer format, each ``key`` once: no layers or runs mixed.

    ``numbers`` are columns that have to be there and finite.
    """
    ids = (name for name in key if name == "example_id")
    columns = ("dataset", *ids, "format", "vector", "layer", *numbers)
    checked(frame, list(dict.fromkeys(columns)), numbers)
    kept = frame[frame["vector"] == "full"]
    need(not kept.empty, "rows of the vector 'full'", f"only {some(frame['vector'])}", "keep these rows.")
    one_format(kept)
    found = f"some twice, with layers {some(kept['layer'])}"
    once = not kept.duplicated(list(key)).any()
    need(once, f"each {', '.join(key)} once", found, "choose one layer for each data set.")
    return kept


def one_format(frame: pd.DataFrame) -> str:
    """The answer format of a table that must hold only one."""
    (*most, last), found = FORMATS, list(frame["format"].unique())
    expected = f"one answer format: {', '.join(most)} or {last}"
    need(len(found) == 1 and found[0] in FORMATS, expected, some(found), "choose the rows of one format.")
    return found[0]


def in_order(rows: pd.DataFrame, heights: pd.Series, then: pd.Series) -> pd.DataFrame:
    """The rows by data set, those with the largest heights first, and within each by what rises with `then`."""
    order = heights.sort_values(ascending=False).index
    return rows.iloc[np.lexsort([then, rows["dataset"].map(order.get_loc)])].reset_index(drop=True)


def span(values: Iterable[pd.Series | np.ndarray]) -> tuple[float, float]:
    """Ends of an axis that holds all values, and zero, with a little room: the same for figures shown as tabs."""
    everything = np.concatenate([[0.0], *(np.asarray(each, dtype=float).ravel() for each in values)])
    low, high = everything.min(), everything.max()
    room = 0.04 * (high - low)
    return low - room, high + room


def in_distribution(names: Iterable[str]) -> pd.DataFrame:
    """The paper's in-distribution numbers of Llama-2-7b for these data sets (mean, median, q1, ...), NaN where none."""
    suffix = f"_{published.MAIN}"
    frame = published.datasets().reindex(list(names)).filter(like=suffix)
    return frame.rename(columns=lambda column: column.removesuffix(suffix))


def gap(name: str) -> str:
    """Why a row has no published values."""
    tan = published.tan()
    if name not in tan["datasets"]:
        return "not in the paper"
    return "pooled in the paper" if name in tan["pooled"]["sycophancy"]["members"] else "no published value"


def tick(name: str) -> str:
    """The label of a data set on at most two lines; a long name of a user's own set is cut."""
    return lines(published.label(name), 22)


def lines(text: str, width: int) -> str:
    """At most two lines of at most ``width`` letters."""
    return "\n".join(textwrap.wrap(text, width, max_lines=2, placeholder="…"))


def number(value: float, form: str = ".3g") -> str:
    """Three digits and a true minus."""
    return f"{value:{form}}".replace("-", "\N{MINUS SIGN}")


signed = partial(number, form="+.3g")  # always with a sign


def sets(count: int) -> str:
    """'1 data set', '13 data sets'."""
    return f"{count} data set{'' if count == 1 else 's'}"


def rank_correlation(left: pd.Series, right: pd.Series) -> tuple[float, int]:
    """Spearman's coefficient over the entries that both have, NaN below three or where one is constant; their number."""
    both = pd.concat([left, right], axis=1).dropna()
    return float(both.corr("spearman", min_periods=3).iloc[0, 1]), len(both)


def pointed(axes: Axes, x: Iterable[float], y: Iterable[float], sets: Iterable[str]) -> None:
    """Keep which data set is at which place of a panel, for `points`: the book shows names to who points at one."""
    names = [published.label(name) for name in sets]
    places = np.column_stack([np.asarray(list(each), dtype=float) for each in (x, y)])
    vars(axes.figure).setdefault("pointed", []).append((axes, places, names))
