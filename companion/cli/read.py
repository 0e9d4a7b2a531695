"""Moved into `companion.cli.program`."""

from companion.cli.program import audit, doctor, formats, list_exhibits, verify  # shim

__all__ = ["audit", "doctor", "formats", "list_exhibits", "verify"]
