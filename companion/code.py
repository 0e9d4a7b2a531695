"""What tells one version of the code that computes numbers from another."""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path


def syntax_hash(paths: Iterable[Path]) -> str:
    """What some modules compute, in 16 hexadecimal digits: a hash of all their definitions and constants.

    Comments, docstrings and imports are not in it, nor is the file in which a definition stands: code that moves keeps
    its hash.
    """
    definitions = []
    for path in paths:
        definitions += _definitions(path.read_text(encoding="utf-8"))
    return hashlib.sha256("\n".join(sorted(definitions)).encode()).hexdigest()[:16]


@cache
def _definitions(source: str) -> list[str]:
    module = ast.parse(source)
    for node in ast.walk(module):
        for name in ("body", "orelse", "finalbody"):
            if isinstance(nodes := getattr(node, name, None), list):
                setattr(node, name, [each for each in nodes if _computes(each)])
    return [*map(ast.dump, module.body)]


def _computes(node: ast.AST) -> bool:
    """Whether it is no docstring, no import, and not there for type checkers only."""
    typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    literal = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return not (typing or literal or isinstance(node, ast.Import | ast.ImportFrom))
