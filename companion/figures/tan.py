"""The figures of Tan et al. 2024 (arXiv 2407.12404), one function each: data frame in, figure out.

Every figure ``x`` has ``x_alt``, which writes its alternative text from the same data. ``summary``,
``groups`` and ``shares`` are the tables that figures 1, 3 and 4 draw.
"""

from __future__ import annotations

from companion.figures.tan_curves import figure_2, figure_2_alt
from companion.figures.tan_options import figure_3, figure_3_alt, groups
from companion.figures.tan_parts import figure_4, figure_4_alt, shares
from companion.figures.tan_violins import figure_1, figure_1_alt, summary

__all__ = [
    "figure_1", "figure_1_alt", "figure_2", "figure_2_alt", "figure_3", "figure_3_alt", "figure_4",
    "figure_4_alt", "groups", "shares", "summary",
]  # fmt: skip
