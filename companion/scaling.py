"""Moved into `companion.cost`."""

from companion.cost import PLANS, RECORD, counted, executed, measured_rate, one_prompt, record  # shim

__all__ = ["PLANS", "RECORD", "counted", "executed", "measured_rate", "one_prompt", "record"]
