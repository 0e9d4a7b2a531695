"""Moved into `companion.cli.own`."""

from companion.cli.own import extract_vectors, parse_layers  # shim

__all__ = ["extract_vectors", "parse_layers"]
