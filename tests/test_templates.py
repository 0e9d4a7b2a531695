"""Templates: the exact prompt strings of the released code, and what "auto" reads off a tokenizer."""

import pytest
from conftest import refused
from test_chat_templates import auto

from companion.templates import prompter as asking
from companion.templates import spelled
from companion.tiny import tiny_tokenizer
from steerkit.items import Item
from steerkit.templates import TEMPLATES, template_for

ITEM = Item("d/0001", 'Would you say it?\n"I rest."', " Yes", " No", statement="I rest.")
BODY = 'Would you say it?\n"I rest."\n\nChoices:\n(A):  No\n(B):  Yes'
DEFAULT = "You are a helpful, honest and concise assistant."
PERSONA = ("You love rest.", "You hate rest.")

LLAMA3 = (
    "<|start_header_id|>system<|end_header_id|>\n\n{sys}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n{body}"
    "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n(B)"
)
# What the released code feeds (papers.md A1, "Exact prompt strings"), up to and with the answer.
AS_RELEASED = {
    "llama-2": "<s>[INST] <<SYS>>\n{sys}\n<</SYS>>\n\n{body} [/INST] (B)",
    "qwen": "<|im_start|>system\n{sys}<|im_end|>\n<|im_start|>user\n{body}<|im_end|>\n<|im_start|>assistant (B)",
    "gemma": "<s><start_of_turn>user\n{sys}\n\n{body}<end_of_turn>\n<start_of_turn>model (B)",
    "llama-3.1": "<s>" + LLAMA3,
}
# The real templates keep the newline before the answer, and need no space after it.
TEMPLATE = AS_RELEASED | {
    "qwen": AS_RELEASED["qwen"].replace("assistant (B)", "assistant\n(B)"),
    "gemma": AS_RELEASED["gemma"].replace("model (B)", "model\n(B)"),
}
# Setting -> (system text, what stands before the body).
SETTINGS = {
    "BASE": (DEFAULT, ""),
    "SYS_POS": (PERSONA[0], ""),
    "SYS_NEG": (PERSONA[1], ""),
    "USER_POS": (DEFAULT, PERSONA[0] + "\n\n"),
    "USER_NEG": (DEFAULT, PERSONA[1] + "\n\n"),
}


@pytest.fixture(scope="module")
def words():
    return tiny_tokenizer([BODY, DEFAULT, *PERSONA, *AS_RELEASED.values(), *TEMPLATE.values()])


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("spelling", ["as-released", "template"])
@pytest.mark.parametrize("name", AS_RELEASED)
def test_the_whole_prompt_is_the_papers_string(words, name, spelling, setting):
    """As released, the space before the answer belongs to the answer, not to the prompt."""
    example = asking(words, TEMPLATES[name], spelling, setting, PERSONA).letter(ITEM, "B")
    system, before = SETTINGS[setting]
    wanted = {"as-released": AS_RELEASED, "template": TEMPLATE}[spelling][name]
    assert words.unk_token_id not in example.prompt
    found = words.decode(example.prompt + example.lead + example.matching + example.closing)
    assert found == wanted.replace("{sys}", system).replace("{body}", before + BODY)
    if spelling == "as-released" and name != "llama-3.1":
        assert words.decode(example.prompt) == words.decode(example.prompt).rstrip()
        assert words.decode(example.lead) == " ("


def test_an_unknown_template_is_refused_with_the_names_there_are_and_an_unknown_spelling(words):
    refused(template_for, "chatml", words, said=r"llama-2.*found 'chatml'")
    refused(spelled, TEMPLATES["qwen"], "released", said=r"template, as-released.*found 'released'")


WITH_SYSTEM = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}[end]{% endfor %}"
    "{% if add_generation_prompt %}[assistant]\n{% endif %}"
)
REFUSES = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    + WITH_SYSTEM
)
IGNORES = "{% for m in messages if m['role'] != 'system' %}<{{ m['content'] }}>{% endfor %}{% if add_generation_prompt %}<{% endif %}"


class TestAuto:
    def test_a_chat_template_with_a_system_role_is_taken_as_it_is(self):
        found = auto(WITH_SYSTEM)
        assert found.render("S", "U") == "[system]S[end][user]U[end][assistant]\n"
        assert (found.bos, found.gap(), spelled(found, "as-released").gap()) == (False, "", " ")

    def test_one_that_refuses_it_or_drops_it_silently_gets_it_as_a_paragraph_of_the_users(self):
        found = auto(REFUSES)
        assert found.render("S", "U") == "[user]S\n\nU[end][assistant]\n"
        assert found.bos
        assert auto(IGNORES).render("S", "U") == "<S\n\nU><"

    def test_a_tokenizer_without_chat_template_is_a_base_model_and_a_name_wins_over_what_it_carries(self):
        plain = TEMPLATES["plain"]  # paragraphs without roles
        assert plain.render("Be kind.", "Who?") == "Be kind.\n\nWho?" and plain.gap() == " "
        assert auto(None) is TEMPLATES["base"]
        assert auto(WITH_SYSTEM, "gemma") is TEMPLATES["gemma"]
