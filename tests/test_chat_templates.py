"""What comes with a checkpoint as its chat template is asked whether it says what it is given to say."""

import gc
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from conftest import refused
from transformers.utils import chat_template_utils

from companion.tiny import tiny_tokenizer
from steerkit import chat
from steerkit.chat import ANSWER, SYSTEM, USER
from steerkit.prompts import TRIED, Prompter, _whole
from steerkit.templates import Template, template_for

OPEN = "{% if add_generation_prompt %}Assistant:{% endif %}"
TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
PARTS = "{% for m in messages %}{{ m.role }}: {% for p in m.content %}{{ p.text }}{% endfor %}\n{% endfor %}"


def turns(content: str, end: str = OPEN) -> str:
    """A template whose messages show `content`."""
    return TURNS.replace("m.content", content) + end


def auto(chat_template, name: str = "auto") -> Template:
    tokenizer = tiny_tokenizer(["a"])
    tokenizer.chat_template = chat_template
    return template_for(name, tokenizer)


LOSES = {
    "a constant": "hello",
    "a number": "{{ 5 }}",
    "nothing": " ",
    "capitals": turns("m.content | upper"),
    "a title": turns("m.content | title"),
    "three letters": turns("m.content[:3]"),
    "a thousand letters": turns("m.content[:1000]"),
    "the first line": turns("m.content.split('\\n')[0]"),
    "one line": turns("m.content | replace('\\n', ' ')"),
    "other spaces": turns("m.content.split() | join(' ')"),
    "HTML": turns("m.content | escape"),
    "JSON": turns("m.content | tojson"),
    "the last message's role": "{{ messages[-1].role }}:",
    "only the system": turns("m.content if m.role == 'system' else ''"),
}


@pytest.mark.parametrize("given", LOSES.values(), ids=LOSES)
def test_a_template_that_does_not_give_back_what_it_is_given_is_refused_with_both_texts(given):
    error = refused(auto, given, said="gives back the system text and what the user says, .*Is THIS your")
    assert error.found[0] in "'\"" and error.done == "Nothing was loaded."


CHANGES = {
    "two spaces": (turns("m.content | replace('  ', ' ')"), "One  or two?"),
    "a tab": (turns("m.content | replace('\t', ' ')"), "One\tor two?"),
    "a capital": (turns("m.content[:1] | upper + m.content[1:]"), "is it so?"),
    "a mark": (turns("m.content.split('[INST]')[0]"), "What does [INST] do?"),
    "length": (turns("m.content[:2000]"), "Really? " * 300 + "Yes?"),
    "shortness": (turns("m.content if m.content | length > 200 else m.content | title"), "is it so?"),
}


def asking(given: str) -> Callable[[str], object]:
    """Puts a question through a prompter with this template."""
    tokenizer = tiny_tokenizer(["Yes No Is", *(question for _, question in CHANGES.values())])
    tokenizer.chat_template = given
    prompter = Prompter(tokenizer, template_for("auto", tokenizer))
    return lambda question: prompter.example("x", "statement", question, ("Yes", "No"), _whole)


@pytest.mark.parametrize(("given", "question"), CHANGES.values(), ids=CHANGES)
def test_a_template_that_changes_a_question_and_not_the_probe_is_refused_at_that_question(given, question):
    refused(asking(given), question, said="the chat template to make")


def test_the_first_questions_are_tried_and_whichever_is_longer_than_all_before():
    given, question = CHANGES["length"]
    ask = asking(given)
    for _ in range(TRIED + 1):
        ask("Is it so?")
    refused(ask, question, said="the chat template to make")


FAILS = {
    "syntax": ("{% for %}", "[Ee]xpected|identifier"),
    "refusal": ("{{ raise_exception('no chat here') }}", "no chat here"),
    "the sandbox": ("{{ ''.__class__.__mro__ }}{{ messages.append(1) }}", "unsafe|not safely"),
    "arithmetic": ("{{ 1 / 0 }}", "division"),
    "no template": ({"tool_use": "x"}, "default"),
}


@pytest.mark.parametrize(("given", "why"), FAILS.values(), ids=FAILS)
def test_a_template_that_fails_is_refused_with_its_reason(given, why):
    assert re.search(why, refused(auto, given).found)


@pytest.mark.parametrize("refusal", ["", "{{ raise_exception('no') }}"])
def test_texts_as_lists_of_parts_are_given_where_a_template_wants_them(refusal):
    first = "{% if messages[0].content is string %}" + refusal + "{% endif %}"
    assert auto(first + PARTS + OPEN).render("S", "U") == "system: Suser: UAssistant:"


NO_TURN = {
    "ChatML": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
    "an end after every message": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}</s>",
    "a channel that is still to come": turns("m.content", "").replace(
        "{{ m.role }}: ", "{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}: "
    )
    + "{% if add_generation_prompt %}assistant{% endif %}",
}


@pytest.mark.parametrize("given", NO_TURN.values(), ids=NO_TURN)
def test_a_prompt_that_no_answer_follows_is_refused(given):
    refused(auto, given, said="opens the assistant's turn; found a prompt that ends with")


def test_an_answer_that_follows_the_users_text_directly_needs_no_generation_prompt():
    inst = "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}{% if m.role == 'assistant' %} {{ m.content }}{% endif %}{% endif %}{% endfor %}"
    assert auto(inst).render("S", "U") == "[INST] S\n\nU [/INST]"


CLOSED = "<think>\n\n</think>\n\n"
IF_NOT = "{% if FLAG is defined and FLAG is false %} " + CLOSED + "{% endif %}"
HYBRID = TURNS + "{% if add_generation_prompt %}Assistant:" + IF_NOT + "{% endif %}"


@pytest.mark.parametrize("flag", ["enable_thinking", "thinking"])
def test_a_template_that_can_do_without_a_thought_does(flag):
    assert auto(HYBRID.replace("FLAG", flag)).render("S", "U").endswith("Assistant: " + CLOSED)


MARKS = "<think> [THINK] <|begin_of_thought|> ◁think▷ <seed:think> <|START_THINKING|>".split()


@pytest.mark.parametrize("mark", ["<think>\n", *MARKS])
def test_a_template_that_opens_a_thought_is_refused(mark):
    opens = TURNS + "{% if add_generation_prompt %}Assistant: " + mark + "{{ '' }}{% endif %}"
    assert mark.strip() in refused(auto, opens, said="answers at once; found .* an open thought").found


def test_the_date_is_the_same_on_every_day_and_named(monkeypatch):
    given = "Today is {{ strftime_now('%d %b %Y') }}.\n" + TURNS + OPEN

    class Tomorrow(chat.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 3, 2)

    today = auto(given)
    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    assert auto(given) == today and today.render("S", "U").startswith("Today is 26 Jul 2024.\n")
    assert today.about()["date"] == "2024-07-26" and "date" not in auto(TURNS + OPEN).about()


ENDLESS = {
    "time": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "memory": "{% set a = 'x' * 10000000000 %}" + TURNS + OPEN,
    "doubling": "{% set n = namespace(a='xx') %}{% for i in range(99) %}{% set n.a = n.a ~ n.a %}{% endfor %}",
    "length": TURNS + "{{ 'x' * 300000 }}" + OPEN,
    "its own length": "{# " + "x" * 300000 + " #}" + TURNS + OPEN,
    "depth": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
}


@pytest.mark.parametrize("given", ENDLESS.values(), ids=ENDLESS)
def test_a_template_without_end_is_ended(given, monkeypatch):
    monkeypatch.setattr(chat, "SECONDS", 1.0)
    gc.collect()  # a finalizer of what other tests left would meet the end of the stack, or of the time
    started = time.monotonic()
    refused(auto, given, said="a chat template that ends within 1 s, 1024 MiB and 200,000 characters")
    assert time.monotonic() - started < 20


def test_texts_with_braces_and_white_space_come_out_as_the_template_would_have_it():
    for given in (TURNS + OPEN, turns("m.content | trim")):
        tokenizer = tiny_tokenizer(["a"])
        tokenizer.chat_template = given
        found = template_for("auto", tokenizer)
        odd = [("S", " U\n"), ("a {user} b", "a {system} {user}"), (SYSTEM, USER), ("{{ S }}", "%s\\1")]
        for system, user in odd:
            asked = [{"role": "system", "content": system}, {"role": "user", "content": user}]
            wanted = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
            assert found.render(system, user) == wanted
    assert ANSWER not in json.dumps(found.about())


def test_what_decides_a_prompt_is_in_what_a_manifest_says_of_the_template():
    one = Template("mine", "{user}")
    others = [Template("mine", "{user} "), replace(one, space=True), replace(one, cue="?")]
    assert len({each.about()["sha256"] for each in (one, *others)}) == 4
    assert one.about() == Template("mine", "{user}").about()
