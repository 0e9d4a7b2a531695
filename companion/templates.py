"""The papers' ways of asking: chat templates in two spellings, and five prompt settings.

Importing this adds the templates of their models and of the book's to `steerkit.templates.TEMPLATES`. `as-released` is
what Tan et al.'s code sent: it strips the rendered prompt and answers after a space, so that Qwen and Gemma lose the
newline before the answer. `template` is what the model was trained on. Where the two agree (Llama 2) there is one
string.

The released code tokenises prompt and answer as one string, and reads the token before the closing bracket. Behind the
newlines that Llama 3.1 keeps this is "(B", one token, and so it is with `as-released` here. With `template` bracket and
letter are two tokens behind every prompt and for every tokenizer (`steerkit.prompts.Prompter`). The released code also
strips every question, as the chat templates of Gemma and Llama 3 do: one in fifteen of the AI-risk items has some.
"""

from dataclasses import replace
from typing import Any, Literal, get_args

from steerkit.errors import need, one_of
from steerkit.prompts import Prompter
from steerkit.templates import DEFAULT_SYSTEM, TEMPLATES, Template

Spelling = Literal["template", "as-released"]
Setting = Literal["BASE", "SYS_POS", "SYS_NEG", "USER_POS", "USER_NEG"]
SETTINGS: tuple[str, ...] = get_args(Setting)
KEPT_NEWLINES = "llama-3.1"  # the released code put the final newlines back by hand
STRIPPING = ("gemma", "llama-3.1")  # whose chat templates take away the white space around a message

_LLAMA_2 = "[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{user} [/INST]"
_LLAMA_3 = (
    "<|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n{user}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
_CHATML = (
    "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"
)
_GEMMA = "<start_of_turn>user\n{system}\n\n{user}<end_of_turn>\n<start_of_turn>model\n"
TEMPLATES |= {
    "llama-2": Template("llama-2", _LLAMA_2, space=True),
    "qwen": Template("qwen", _CHATML, bos=False),
    "smollm": Template("smollm", _CHATML, bos=False),
    "gemma": Template("gemma", _GEMMA),
    "llama-3.1": Template("llama-3.1", _LLAMA_3),
    **{name: TEMPLATES.pop(name) for name in ("base", "plain")},  # the library's own are listed last
}


def spelled(template: Template, spelling: Spelling) -> Template:
    """A template in one of the two spellings."""
    one_of("a spelling", spelling, get_args(Spelling))
    if spelling == "template" or template.name == KEPT_NEWLINES:
        return template
    return replace(template, space=True, strip=True)


def apply_setting(setting: Setting, body: str, persona: tuple[str, str] | None) -> tuple[str, str]:
    """System and user text of one item under a prompt setting (Tan et al. 2024, Table 1).

    SYS_* replaces the system prompt by the persona sentence, USER_* puts it before the question; `body` is the user
    message of BASE, `persona` the (positive, negative) sentence, None where the data set has none.
    """
    one_of("a prompt setting", setting, SETTINGS)
    if setting == "BASE":
        return DEFAULT_SYSTEM, body
    expected = f"a positive and a negative persona sentence for setting {setting}"
    mend = "use BASE, or pass persona=(positive, negative)."
    need(persona is not None, expected, "a data set without them", mend)
    place, sign = setting.split("_")
    sentence = persona[0 if sign == "POS" else 1]
    return (sentence, body) if place == "SYS" else (DEFAULT_SYSTEM, f"{sentence}\n\n{body}")


def prompter(
    tokenizer: Any,
    template: Template,
    spelling: Spelling = "template",
    setting: Setting = "BASE",
    persona: tuple[str, str] | None = None,
) -> Prompter:
    """Who asks in one spelling and one prompt setting."""
    system, before = apply_setting(setting, "", persona)
    expected = f"a chat template with a system prompt for setting {setting}"
    found = f"the template {template.name!r} of a base model, which has no place for one"
    placed = template.has_system or not setting.startswith("SYS")
    need(placed, expected, found, "use BASE, USER_POS or USER_NEG with this model.")
    released = spelling == "as-released"
    stripped = released or _strips(template, tokenizer)
    return Prompter(tokenizer, spelled(template, spelling), system, before, released, stripped)


def _strips(template: Template, tokenizer: Any) -> bool:
    """Whether the model's own chat template strips a message."""
    if template.name != "auto":
        return template.name in STRIPPING
    told = [{"role": "user", "content": " a "}]
    return " a " not in tokenizer.apply_chat_template(told, tokenize=False)
