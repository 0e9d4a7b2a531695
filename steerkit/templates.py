"""Chat templates for one system and one user message, as plain strings; "auto" is the one a tokenizer carries.

`TEMPLATES[name] = Template(name, ...)` adds one of your own.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from steerkit.chat import carried
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
    trim: bool = False  # whether the user's text loses the white space around it
    date: str = ""  # the day that a template with today's date was told, always the same

    @property
    def has_system(self) -> bool:
        """Whether a system prompt has a place."""
        return "{system}" in self.text

    def render(self, system: str, user: str) -> str:
        """The prompt as text, without the beginning-of-sequence token."""
        given = {"{system}": system, "{user}": user.strip() if self.trim else user}
        text = re.sub(r"\{(system|user)\}", lambda place: given[place[0]], self.text)  # texts may have braces
        return text.strip() if self.strip else text

    def user_at(self, system: str) -> int:
        """Where in the rendered prompt the user's message begins."""
        head = self.text.partition("{user}")[0].replace("{system}", system)
        return len(head.lstrip() if self.strip else head)

    def gap(self) -> str:
        """What stands between prompt and answer."""
        return " " if self.space else ""

    def about(self) -> dict[str, str]:
        """What decides its prompts, for keys and manifests: the name, a hash of everything else, a fixed date."""
        rest = repr((self.text, self.bos, self.space, self.strip, self.cue, self.trim))
        found = {"name": self.name, "sha256": hashlib.sha256(rest.encode()).hexdigest()}
        return found | ({"date": self.date} if self.date else {})


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
        own = getattr(tokenizer, "chat_template", None)
        return Template("auto", **carried(tokenizer)) if own else TEMPLATES["base"]
    known = f"a chat template ({', '.join(TEMPLATES)} or auto)"
    need(name in TEMPLATES, known, repr(name), "choose one of these.")
    return TEMPLATES[name]
