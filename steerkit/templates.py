"""Chat templates for one system and one user message, as plain strings; "auto" is the one a tokenizer carries.

`TEMPLATES[name] = Template(name, ...)` adds one of your own.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from steerkit.errors import need

DEFAULT_SYSTEM = "You are a helpful, honest and concise assistant."


@dataclass(frozen=True)
class Template:
    """A chat template for one system and one user message."""

    name: str
    text: str  # with {system} and {user}; what follows the user message ends where the model starts to speak
    bos: bool = True
    space: bool = False  # between prompt and answer
    strip: bool = False  # whether the rendered prompt loses the white space around it
    cue: str = ""  # ends a question where nothing else tells a model that an answer follows

    @property
    def has_system(self) -> bool:
        """Whether a system prompt has a place."""
        return "{system}" in self.text

    def render(self, system: str, user: str) -> str:
        """The prompt as text, without the beginning-of-sequence token."""
        text = self.text.replace("{system}", system).replace("{user}", user)
        return text.strip() if self.strip else text

    def gap(self) -> str:
        """What stands between prompt and answer."""
        return " " if self.space else ""


TEMPLATES: dict[str, Template] = {
    # A base model has no roles and no system prompt: it continues the text after a space, and a question ends with
    # "Answer:", because nothing else says that an answer follows.
    "base": Template("base", "{user}", space=True, cue="\n\nAnswer:"),
    # The system sentence as a paragraph before the text: for the tiny random models.
    "plain": Template("plain", "{system}\n\n{user}", space=True),
}


def template_for(name: str, tokenizer: Any) -> Template:
    """The template called `name`, or for "auto" the one the tokenizer carries ("base" when it carries none)."""
    if name == "auto":
        return _from_tokenizer(tokenizer) if getattr(tokenizer, "chat_template", None) else TEMPLATES["base"]
    known = f"a chat template ({', '.join(TEMPLATES)} or auto)"
    need(name in TEMPLATES, known, repr(name), "choose one of these.")
    return TEMPLATES[name]


def _from_tokenizer(tokenizer: Any) -> Template:
    """The tokenizer's own template; one that refuses a system message gets it as a paragraph before the user's text."""
    from jinja2.exceptions import TemplateError

    def render(*messages: dict[str, str]) -> str:
        return tokenizer.apply_chat_template([*messages], tokenize=False, add_generation_prompt=True)

    system, user, text = {"role": "system", "content": "{system}"}, {"role": "user", "content": "{user}"}, ""
    with suppress(TemplateError):  # the template's own way of saying "no system role"
        text = render(system, user)
    if "{system}" not in text:
        text = render({"role": "user", "content": "{system}\n\n{user}"})
    bos = tokenizer.bos_token
    carried = bool(bos) and text.startswith(bos)
    return Template("auto", text.removeprefix(bos) if carried else text, bos=carried)
