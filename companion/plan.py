"""Moved into `companion.cost`."""

from companion.cost import GROUPS, STAGES, plan  # shim

__all__ = ["GROUPS", "STAGES", "plan"]
