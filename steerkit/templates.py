"""Chat templates of the papers' models and of the book's, as plain strings in two spellings.

`as-released` is what Tan et al.'s code sent: it strips the rendered prompt and answers after a space, so that Qwen
and Gemma lose the newline before the answer. `template` is what the model was trained on. Where the two agree
(Llama 2) there is one string.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from steerkit.errors import need, one_of

Spelling = Literal["template", "as-released"]
SPELLINGS: tuple[str, ...] = ("template", "as-released")

DEFAULT_SYSTEM = "You are a helpful, honest and concise assistant."


@dataclass(frozen=True)
class Template:
    """A chat template for one system and one user message."""

    name: str
    text: str  # with {system} and {user}; what follows the user message ends where the model starts to speak
    bos: bool = True
    space: bool = False  # between prompt and answer, even in the true template (Llama 2)
    kept_newlines: bool = False  # the released code put the final newlines back by hand (Llama 3.1)
    cue: str = ""  # ends a question where nothing else tells a model that an answer follows

    @property
    def has_system(self) -> bool:
        """Whether a system prompt has a place."""
        return "{system}" in self.text

    def render(self, system: str, user: str, spelling: Spelling = "template") -> str:
        """The prompt as text, without the beginning-of-sequence token."""
        text = self.text.replace("{system}", system).replace("{user}", user)
        return text.strip() if self._stripped(spelling) else text

    def gap(self, spelling: Spelling = "template") -> str:
        """What stands between prompt and answer."""
        return " " if self.space or self._stripped(spelling) else ""

    def _stripped(self, spelling: Spelling) -> bool:
        one_of("a spelling", spelling, SPELLINGS)
        return spelling == "as-released" and not self.kept_newlines


_CHATML = (
    "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"
)

TEMPLATES: dict[str, Template] = {
    template.name: template
    for template in (
        Template("llama-2", "[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{user} [/INST]", space=True),
        Template("qwen", _CHATML, bos=False),
        Template("smollm", _CHATML, bos=False),
        Template("gemma", "<start_of_turn>user\n{system}\n\n{user}<end_of_turn>\n<start_of_turn>model\n"),
        Template(
            "llama-3.1",
            "<|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\n{user}<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            kept_newlines=True,
        ),
        # A base model has no roles and no system prompt: it continues the text after a space, and a question ends
        # with "Answer:", because nothing else says that an answer follows.
        Template("base", "{user}", space=True, cue="\n\nAnswer:"),
        # The system sentence as a paragraph before the text: for the tiny random models.
        Template("plain", "{system}\n\n{user}", space=True),
    )
}


def template_for(name: str, tokenizer: Any) -> Template:
    """The template called `name`, or for "auto" the one the tokenizer carries ("base" when it carries none)."""
    if name == "auto":
        return _from_tokenizer(tokenizer) if getattr(tokenizer, "chat_template", None) else TEMPLATES["base"]
    need(
        name in TEMPLATES,
        f"a chat template ({', '.join(TEMPLATES)} or auto)",
        repr(name),
        "choose one of these.",
    )
    return TEMPLATES[name]


def _from_tokenizer(tokenizer: Any) -> Template:
    """The tokenizer's own template; one that refuses a system message gets it as a paragraph before the user's text."""
    from jinja2.exceptions import TemplateError

    def render(*messages: dict[str, str]) -> str:
        return tokenizer.apply_chat_template([*messages], tokenize=False, add_generation_prompt=True)

    system, user = {"role": "system", "content": "{system}"}, {"role": "user", "content": "{user}"}
    joined = {"role": "user", "content": "{system}\n\n{user}"}
    try:
        text = render(system, user)
    except TemplateError:  # the template's own way of saying "no system role"
        text = render(joined)
    if "{system}" not in text:
        text = render(joined)
    bos = tokenizer.bos_token
    carried = bool(bos) and text.startswith(bos)
    return Template("auto", text.removeprefix(bos) if carried else text, bos=carried)
