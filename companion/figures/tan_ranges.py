from companion.figures.layers import (  # shim
    WIDTHS as PUBLISHED_WIDTHS,
    _published_ranges as published_ranges,
    _range_dots as range_dots,
    _range_legend as range_legend,
)

__all__ = ["PUBLISHED_WIDTHS", "published_ranges", "range_dots", "range_legend"]
