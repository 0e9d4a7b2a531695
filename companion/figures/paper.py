"""A figure on paper: laid out once, on a sheet that holds what sticks out, and written as files."""

import io
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from companion import store
from companion.figures import style
from steerkit.errors import need
from steerkit.files import write_atomically

MARGIN = 0.04  # inches around what sticks out
PALETTE = 256  # colours of a PNG: a plot has few, and so many hold it at a third of the size
# Under the theme a figure that is laid out is laid out again for each file, and drawn once more for that.
saving = partial(plt.rc_context, style.RC | {"figure.constrained_layout.use": False})


def points(figure: Figure) -> list[tuple[int, int, str]]:
    """Pixels of the figure's PNG where data sets are, from the left and from the top, and what each is called, with its
    two numbers."""
    found = []
    for axes, places, names in vars(figure).get("pointed", []):
        paper = sheet(figure)
        pixels = axes.transData.transform(places)
        across, down = pixels[:, 0] - paper.x0 * figure.dpi, paper.y1 * figure.dpi - pixels[:, 1]
        for i in np.flatnonzero(np.isfinite(pixels).all(axis=1)):
            text = f"{names[i]} ({style.number(places[i, 0])}, {style.number(places[i, 1])})"
            found.append((round(across[i]), round(down[i]), text))
    return found


def save(figure: Figure, path: str | Path, table: pd.DataFrame) -> list[Path]:
    """Write a figure as PNG and SVG and its table as CSV, once all three are made, and close the figure."""
    try:
        need(not table.empty, "a table behind the figure", "an empty one", "pass its frame.")
        contents = {"png": png(figure), "svg": drawn_as("svg", figure, metadata={"Date": None})}
    finally:
        plt.close(figure)
    for suffix, content in (contents | {"csv": store.csv(table)}).items():
        write_atomically(Path(f"{path}.{suffix}"), content)
    return [Path(f"{path}.{suffix}") for suffix in (*contents, "csv")]


def laid_out(figure: Figure) -> None:
    """Give everything its place, once."""
    if figure.get_layout_engine() is None:
        return
    with saving():
        figure.draw_without_rendering()  # only now the layout is known
        figure.set_layout_engine(None)
    for axes in figure.axes:  # the solver's last digits vary, and an SVG names what it cuts by all of them
        axes.set_position(np.round(axes.get_position(original=True).bounds, 9))


def sheet(figure: Figure) -> Bbox:
    """The paper of a figure in inches: its own size, and more where a legend or a number sticks out."""
    if "paper" not in vars(figure):
        laid_out(figure)
        with saving():
            drawn, own = figure.get_tightbbox(), figure.bbox_inches
        inside = own.x0 <= drawn.x0 and own.y0 <= drawn.y0 and drawn.x1 <= own.x1 and drawn.y1 <= own.y1
        vars(figure)["paper"] = own if inside else Bbox.union([own, drawn.padded(MARGIN)])
    return vars(figure)["paper"]


def drawn_as(form: str, figure: Figure, **how: Any) -> bytes:
    """A figure on its paper, as bytes of a file."""
    paper = sheet(figure)
    with saving():
        figure.savefig(sink := io.BytesIO(), format=form, bbox_inches=paper, **how)
    return sink.getvalue()


def png(figure: Figure) -> bytes:
    """A figure as PNG with a palette; without dithering areas stay even, and a thin line keeps its colour."""
    from PIL import Image  # matplotlib writes its PNG with it, so it is there

    whole = drawn_as("png", figure, pil_kwargs={"compress_level": 0})
    with Image.open(io.BytesIO(whole)) as image:
        even = {"method": Image.Quantize.MAXCOVERAGE, "dither": Image.Dither.NONE}
        image.convert("RGB").quantize(PALETTE, **even).save(
            sink := io.BytesIO(), "PNG", dpi=image.info["dpi"]
        )
    return sink.getvalue()
