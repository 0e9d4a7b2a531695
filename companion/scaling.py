"""Moved into `companion.cost`."""

from companion.cost import (  # shim
    BENCHMARKS,
    PLANS,
    RECORD,
    Protocol,
    counted,
    executed,
    mean_prompt,
    measured_rate,
    record,
)

__all__ = [
    "BENCHMARKS",
    "PLANS",
    "RECORD",
    "Protocol",
    "counted",
    "executed",
    "mean_prompt",
    "measured_rate",
    "record",
]
