"""Moved."""

from steerkit.formats import ledger  # noqa: F401 - shim
