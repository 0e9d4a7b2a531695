"""Texts of a figure that lie on each other: ticks outside their axis and empty ones are none."""

from collections.abc import Iterator
from itertools import combinations

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

LEAST = 2.0  # pixels that two boxes may share from top to bottom: letters do not fill their boxes
APART = 3.0  # pixels between the words of one line


def shown(artist: Artist) -> Iterator[Text]:
    """The texts that one sees of an artist."""
    if not artist.get_visible():
        return
    if isinstance(artist, Text):
        yield from [artist] if artist.get_text().strip() else []
    elif isinstance(artist, Axis):
        low, high = sorted(artist.get_view_interval())
        room = 1e-6 * (high - low)
        for tick in artist.get_major_ticks():
            if low - room <= tick.get_loc() <= high + room:
                yield from (*shown(tick.label1), *shown(tick.label2))
        yield from (*shown(artist.label), *shown(artist.offsetText))
    elif not (isinstance(artist, Axes) and not artist.axison and not artist.texts):
        for child in artist.get_children():
            yield from shown(child)


def collisions(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes overlap, on a figure that is laid out and drawn."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in dict.fromkeys(shown(figure))]
    found = []
    for (one, a), (other, b) in combinations(boxes, 2):
        wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        if wide > -APART and high > LEAST:
            found.append((one, other))
    return found


def cut(figure: Figure) -> list[str]:
    """Labels of axes, titles among them, that are wider than the figure, after :func:`collisions`."""
    words = [word for axes in figure.axes for word in (axes.title, axes.xaxis.label)]
    boxes = ((word.get_text(), word.get_window_extent()) for word in words if word.get_text())
    return [text for text, box in boxes if box.x0 < -1 or box.x1 > figure.bbox.x1 + 1]
