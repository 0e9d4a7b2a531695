"""Moved into `companion.exhibits`."""

from companion.exhibits import TYPES, Parameter, convert, parameters_of, parse_assignments, resolve  # shim

__all__ = ["TYPES", "Parameter", "convert", "parameters_of", "parse_assignments", "resolve"]
