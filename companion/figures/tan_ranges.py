from companion.figures.layers import (  # shim
    WIDTHS as PUBLISHED_WIDTHS,
)
from companion.figures.layers import (
    _published_ranges as published_ranges,
)
from companion.figures.layers import (
    _range_dots as range_dots,
)
from companion.figures.layers import (
    _range_legend as range_legend,
)

__all__ = ["PUBLISHED_WIDTHS", "published_ranges", "range_dots", "range_legend"]
