"""How every figure looks: one theme, one width, fixed colours by meaning, and one way to save.

Colours are Okabe and Ito's colour-blind safe set. A colour means one thing within its table (answer formats,
models, prompt settings), in every figure; published values are grey or hatched.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from companion import registry, store
from companion.figures.png import shrink
from steerkit import formats
from steerkit.errors import SteerkitError

BLACK, BLUE, SKY, GREEN = "#000000", "#0072B2", "#56B4E9", "#009E73"
ORANGE, VERMILLION, PURPLE = "#E69F00", "#D55E00", "#CC79A7"  # their yellow is too pale on white
PUBLISHED, FAINT, STRIPE = "#6E6E6E", "#BDBDBD", "#F6F6F6"

FORMATS = {name: form.colour for name, form in formats.FORMATS.items()}
MODELS = {name: spec.colour for name, spec in registry.MODELS.items() if spec.colour}
SETTINGS = {"BASE": BLACK, "SYS_POS": BLUE, "SYS_NEG": SKY, "USER_POS": VERMILLION, "USER_NEG": ORANGE}
# The unit of a score, by answer format.
UNITS = {name: form.unit for name, form in formats.FORMATS.items()}

WIDTH = 7.5  # inches: the text column of a book page; at 700 pixels a 9 point letter is 12 pixels high
MARGIN = 0.04  # inches around what sticks out
SMALL = 8.5  # points: the smallest text in any figure
RC = {
    **sns.axes_style("whitegrid"),
    "font.family": ["DejaVu Sans"], "font.size": 9.5, "axes.titlesize": 10, "axes.labelsize": 9.5,
    "xtick.labelsize": 9, "ytick.labelsize": 9, "legend.fontsize": 9, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#444444",
    "grid.color": "#E4E4E4", "hatch.linewidth": 0.8, "savefig.dpi": 150,
    "figure.facecolor": "white", "axes.facecolor": "white", "savefig.facecolor": "white",
    "figure.constrained_layout.use": True, "figure.max_open_warning": 0,
    "svg.fonttype": "path", "svg.hashsalt": "steerkit",  # the same figure gives the same file
}  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A figure, the numbers it shows, and what it shows in words."""

    figure: Figure
    table: pd.DataFrame
    alt: str


def theme() -> AbstractContextManager[None]:
    """The settings of matplotlib under which figures are drawn and saved; nothing global changes."""
    return plt.rc_context(RC)


def model_color(name: str) -> str:
    """The colour of a model; black for one that no figure of the papers shows."""
    return MODELS.get(name.partition(" ")[0], BLACK)  # "smollm2-135m (papers' data)" is the same model


def remark(axes: Axes, row: float, text: str) -> None:
    """Say in a row of a panel why it shows nothing."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    look = {"color": PUBLISHED, "fontsize": SMALL, "style": "italic", "bbox": box}
    axes.text(0.5, row, text, transform=axes.get_yaxis_transform(), ha="center", va="center", **look)


def margin_numbers(axes: Axes, rows: pd.Series, texts: pd.Series, head: str) -> None:
    """A column of small numbers right of a panel, one beside each row, under a head."""
    look = {"fontsize": SMALL, "color": PUBLISHED}
    for row, text in zip(rows, texts, strict=True):
        axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center", **look)
    above = {"xycoords": "axes fraction", "xytext": (0, 3), "textcoords": "offset points"}
    axes.annotate(head, (1.02, 1), va="bottom", **above, **look)


def save(figure: Figure, path: str | Path, table: pd.DataFrame) -> tuple[Path, Path, Path]:
    """Write a figure as PNG (150 dots per inch) and SVG, the table behind it as CSV, and close the figure.

    All are written under temporary names first and then moved: a failure leaves no half-written file.

    Parameters
    ----------
    figure : Figure
        Closed afterwards, also after a failure.
    path : str or Path
        Without suffix (a dot in the name is kept); the folder is made when missing.
    table : DataFrame
        What the figure shows; its index is not written.

    Returns
    -------
    tuple of Path
        The PNG, the SVG and the CSV.

    Raises
    ------
    SteerkitError
        The table is empty: a figure without its numbers is not kept.
    """
    try:
        if table.empty:
            raise SteerkitError("a table behind the figure", "an empty one", next_step="pass its frame.")
        return _write(figure, Path(path), table)
    finally:
        plt.close(figure)


def _sheet(figure: Figure) -> Bbox:
    """The paper of a figure in inches: its own size, and more where a legend or a number sticks out."""
    figure.draw_without_rendering()  # only now the layout is known
    drawn = figure.get_tightbbox()
    own = figure.bbox_inches
    if own.x0 <= drawn.x0 and own.y0 <= drawn.y0 and drawn.x1 <= own.x1 and drawn.y1 <= own.y1:
        return own
    return Bbox.union([own, drawn.padded(MARGIN)])


def _write(figure: Figure, path: Path, table: pd.DataFrame) -> tuple[Path, Path, Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    png, svg, csv = (path.with_name(f"{path.name}.{suffix}") for suffix in ("png", "svg", "csv"))
    drafts = {target: target.with_name(f".{target.name}.{os.getpid()}") for target in (png, svg, csv)}
    try:
        with theme():
            sheet = _sheet(figure)
            figure.savefig(drafts[png], format="png", metadata={"Software": None}, bbox_inches=sheet)
            shrink(drafts[png])
            figure.savefig(drafts[svg], format="svg", metadata={"Date": None}, bbox_inches=sheet)
        drafts[csv].write_bytes(store.csv(table))
        for target, draft in drafts.items():
            draft.replace(target)  # os.replace: readers see the old file or the new one
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
    return png, svg, csv
