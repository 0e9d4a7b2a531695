# ruff: noqa
# fmt: off
from companion.figures.style import (  # shim
    checked as checked,
    full_vectors as full_vectors,
    gap as gap,
    in_distribution as in_distribution,
    lines as lines,
    number as number,
    one_format as one_format,
    rank_correlation as rank_correlation,
    refusal as refusal,
    sets as sets,
    signed as signed,
    span as span,
    tick as tick,
)
