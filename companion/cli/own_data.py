"""Moved into `companion.cli.own`."""

from companion.cli.own import parse_layers  # shim

__all__ = ["parse_layers"]
