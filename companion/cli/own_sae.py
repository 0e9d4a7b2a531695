"""Moved into `companion.cli.own`."""

from companion.cli.own import decompose_vector  # shim

__all__ = ["decompose_vector"]
