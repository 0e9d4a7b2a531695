"""Notebook parameters, strictly: a typo or a value of the wrong type is an error and not a silent default."""

from __future__ import annotations

import ast
import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steerkit.errors import SteerkitError

TYPES: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool, "list": list}


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's parameters cell: `name: type = default  # help`."""

    name: str
    type: str
    default: Any
    help: str


def parameters_of(notebook: Path) -> dict[str, Parameter]:
    """The parameters a notebook declares.

    papermill has an inspector of its own, but it guesses types by regular expression and drops lines it does not
    understand; the cell is Python, so Python parses it.
    """
    cells = json.loads(notebook.read_text())["cells"]
    source = next(
        "".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])
    )
    lines = source.splitlines()
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign):
            note = lines[node.end_lineno - 1].partition("  # ")[2]
            name = node.target.id
            found[name] = Parameter(name, ast.unparse(node.annotation), ast.literal_eval(node.value), note)
    return found


def resolve(notebook: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Values for all parameters: the given ones, checked and converted from text, and the defaults.

    Raises
    ------
    SteerkitError
        For an unknown parameter or a value of another type.
    """
    known = parameters_of(notebook)
    unknown = sorted(set(given) - set(known))
    if unknown:
        listed = ", ".join(f"{p.name} ({p.type})" for p in known.values())
        raise SteerkitError(
            f"parameters of {notebook.stem}: {listed}",
            f"{', '.join(unknown)}",
            done="Nothing was run.",
            next_step="check the spelling.",
        )
    return {
        name: convert(known[name], given[name]) if name in given else p.default for name, p in known.items()
    }


def convert(parameter: Parameter, value: Any) -> Any:
    """A value in the parameter's type; text is read as that type."""
    wanted = TYPES[parameter.type]
    if isinstance(value, str) and wanted is not str:
        with contextlib.suppress(ValueError, SyntaxError):  # stays text, which the check below reports
            value = ast.literal_eval(value)
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        raise SteerkitError(
            f"{parameter.name} of type {parameter.type} ({parameter.help or 'no description'})",
            f"{value!r}, a {type(value).__name__}",
            done="Nothing was run.",
            next_step=f"give it as in {parameter.name}={parameter.default!r}.",
        )
    return value


def parse_assignments(texts: list[str]) -> dict[str, str]:
    """`["layer=13", ...]` of the command line as a dictionary."""
    for text in texts:
        if "=" not in text:
            raise SteerkitError(
                "parameters as name=value",
                repr(text),
                done="Nothing was run.",
                next_step="write -p name=value.",
            )
    return dict(text.split("=", 1) for text in texts)
