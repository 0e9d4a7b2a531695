"""Formulas as MathML, which browsers draw themselves: no script of two megabytes, and nothing jumps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """The renderer `mathml`, which `_config.yml` chooses."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def inline(writer: Any, node: Element) -> None:
    """A formula in a line of text."""
    _write(writer, node, "span", "inline")


def block(writer: Any, node: Element) -> None:
    """A formula by itself."""
    _write(writer, node, "div", "block")


def _write(writer: Any, node: Element, tag: str, display: str) -> None:
    from docutils.nodes import SkipNode
    from latex2mathml.converter import convert

    number = f'<span class="eqno">({node["number"]})</span>' if node.get("number") else ""
    formula = convert(node.astext(), display=display)
    writer.body.append(f"{writer.starttag(node, tag, '', CLASS='math')}{number}{formula}</{tag}>")
    raise SkipNode
