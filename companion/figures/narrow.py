"""A figure once more for a phone: its panels below each other, as wide as a phone shows letters of their size."""

import warnings
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.legend import Legend

from companion.figures import paper
from companion.figures.collisions import collisions, cut
from steerkit.files import write_atomically

WIDTH = 4.2  # inches
LONG = 24  # letters of a legend's words, of which two columns have no room
ROOM = 1.2  # how much wider the paper may be because something sticks out


def save(figure: Figure, path: str | Path) -> bool:
    """Write a saved figure as a narrow PNG; whether there is one: not where words would lie on each other or be cut."""
    for axes in list(figure.axes):
        if not (axes.axison or axes.get_legend() or axes.texts):  # what was left of a row
            axes.remove()
    panels = [axes for axes in figure.axes if axes.get_subplotspec() is not None]
    if not panels:  # placed by hand
        return False
    _stack(figure, panels)
    for legend in list(figure.legends):
        _narrowed(figure, legend)
    figure.set_layout_engine("constrained")
    vars(figure).pop("paper", None)
    try:
        with warnings.catch_warnings(action="error", category=UserWarning):
            sheet = paper.sheet(figure)
    except UserWarning:  # a panel of no width is left
        return False
    if sheet.width > ROOM * WIDTH or collisions(figure) or cut(figure):
        return False
    write_atomically(Path(path), paper.png(figure))
    return True


def _stack(figure: Figure, panels: list[Axes]) -> None:
    """Every place of the grid becomes a row as high as before; names of rows that panels shared stand at each."""
    places = [axes.get_subplotspec().num1 for axes in panels]
    rows, used = panels[0].get_subplotspec().get_gridspec().nrows, sorted(set(places))
    grid = GridSpec(len(used), 1, figure=figure)
    for axes, place in zip(panels, places, strict=True):
        if len(axes.get_shared_y_axes().get_siblings(axes)) > 1:
            axes.tick_params(labelleft=True)
        axes.set_subplotspec(grid[used.index(place)])
    for axes in figure.axes:
        axes.set_in_layout(True)  # which ends when a panel is given its place
    figure.set_size_inches(WIDTH, figure.get_size_inches()[1] / rows * len(used))


def _narrowed(figure: Figure, legend: Legend) -> None:
    """The legend again in as many columns as have room."""
    words = [text.get_text() for text in legend.get_texts()]
    columns = 2 if max(map(len, words), default=0) <= LONG else 1
    figure.legend(legend.legend_handles, words, loc="outside lower center", frameon=False, ncols=columns)
    legend.remove()
