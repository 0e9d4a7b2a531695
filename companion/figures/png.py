"""Smaller pictures: a plot has few colours, and 256 of them hold it at a third of the size."""

from __future__ import annotations

import io
from pathlib import Path

COLOURS = 256


def shrink(path: Path) -> None:
    """Rewrite a PNG with a palette, its resolution kept, where that makes it smaller.

    No dithering: areas stay even, only rare shades at the edges of lines move to a neighbour. The whole site, with
    every plot on two pages and in the archive, must stay below 40 MB.
    """
    from PIL import Image  # matplotlib writes its PNG with it, so it is there

    with Image.open(path) as image:
        kept = {"dpi": image.info["dpi"]} if "dpi" in image.info else {}
        few = image.convert("RGB").quantize(
            COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
        )
    sink = io.BytesIO()
    few.save(sink, "PNG", optimize=True, **kept)
    if sink.tell() < path.stat().st_size:
        path.write_bytes(sink.getvalue())
