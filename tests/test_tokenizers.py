"""The papers' prompts, cut by the tokenizers of their models: BOS, the model's own template, the token that is read.

`tools/tokenizers.sh` fetches the vocabularies. With STEERKIT_DATA the items are the papers' own, else the bundled ones.
"""

import os
from functools import cache
from itertools import product

import pytest

from companion.data.datasets import load_dataset, names, personas
from companion.data.forms import exchanged
from companion.models import MODELS
from companion.outline import VOCABULARIES, opened, vocabulary
from companion.templates import SETTINGS, prompter
from steerkit.extraction import _contrast
from steerkit.formats import question
from steerkit.prompts import STATEMENT_REQUEST, Prompter, letter_body, yes_no_body
from steerkit.templates import template_for

# How many beginnings of sequence a prompt has: what the models were trained on.
BEGINNINGS = {"llama2-7b": 1, "qwen1.5-14b": 0, "gemma-2-2b": 1, "llama3.1-70b": 1}
BEGINNINGS |= {"gemma3-270m": 1, "qwen2.5-coder-1.5b": 0}
NAMED = {name: MODELS[name].template for name in BEGINNINGS} | {"gemma3-270m": "gemma"}
CASES = [*NAMED.items(), *((name, "auto") for name in VOCABULARIES)]
SPELLINGS = ("template", "as-released")
SOURCE = "papers" if os.environ.get("STEERKIT_DATA") else "bundled"
SETS = [name for name in names("tan") if name in names(SOURCE)]
IN_EVERY_SETTING = ("openness", "myopic-reward")  # a setting is the beginning of a prompt, a set its end
MERGE = ("qwen1.5-14b", "qwen2.5-coder-1.5b", "llama3.1-70b")  # whose vocabularies have a token "(A"


@cache
def tokenizer_of(name: str):
    place = vocabulary(name)
    if place is None:
        pytest.skip(f"the tokenizer of {name} is not here: sh tools/tokenizers.sh fetches it")
    return opened(place)


@cache
def items_of(dataset: str):
    """One item of each label, and one with white space around its question where there is any."""
    items = load_dataset(dataset, source=SOURCE).items
    return (*items[:2], *[item for item in items if item.question != item.question.strip()][:1])


def prompters(name: str, template: str, spelling: str, dataset: str) -> list[Prompter]:
    """One in BASE, or in every prompt setting that has a place."""
    tokenizer, persona = tokenizer_of(name), personas(dataset, SOURCE)
    found = template_for(template, tokenizer)
    settings = SETTINGS if dataset in IN_EVERY_SETTING else SETTINGS[:1]
    placed = [setting for setting in settings if found.has_system or not setting.startswith("SYS")]
    return [prompter(tokenizer, found, spelling, setting, persona) for setting in placed]


def lettered(asking: Prompter, dataset: str):
    """Examples with their user message, in both orders of the letters."""
    for item, letter in product(items_of(dataset), "AB"):
        turned = exchanged(item) if item.kind == "choice" and item.positive_letter != letter else item
        body = letter_body(turned, letter) + asking.template.cue
        yield asking.letter(turned, letter), body.strip() if asking.strip else body


def string(asking: Prompter, body: str, answer: str) -> str:
    """What the paper's code hands to the tokenizer, which adds a beginning of sequence where the model has one."""
    prompt = asking.template.render(asking.system, asking.before + body)
    return prompt + asking.template.gap() + answer


def merged(name: str, asking: Prompter, spelling: str) -> bool:
    """Whether the whole string has a token "(A" that this spelling does not take."""
    behind_newline = asking.template.render("", "").endswith("\n")
    return name in MERGE and spelling == "template" and behind_newline


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(("name", "template"), CASES)
class TestEveryPrompt:
    def test_letters_are_the_papers_tokens_read_at_index_minus_two(self, name, template, spelling):
        tokenizer = tokenizer_of(name)
        for dataset in SETS:
            for asking in prompters(name, template, spelling, dataset):
                for example, body in lettered(asking, dataset):
                    letters = (example.positive_letter, "AB".replace(example.positive_letter, ""))
                    for letter, answer in zip(letters, (example.matching, example.not_matching), strict=True):
                        whole = tokenizer(string(asking, body, f"({letter})")).input_ids
                        found = [*example.prompt, *example.lead, *answer, *example.closing]
                        assert tokenizer.decode(example.closing) == ")" and len(answer) == 1
                        if merged(name, asking, spelling):
                            assert found[:-3] == whole[:-2] and tokenizer.decode(whole[-2]) == f"({letter}"
                            assert [tokenizer.decode(token) for token in found[-3:]] == ["(", letter, ")"]
                        else:
                            assert found == whole and answer[0] == whole[-2]
                            assert tokenizer.decode(answer).strip(" (") == letter

    def test_it_begins_with_as_many_beginnings_of_sequence_as_the_model_knows(self, name, template, spelling):
        tokenizer, item = tokenizer_of(name), items_of("openness")[0]
        for asking in prompters(name, template, spelling, "openness"):
            letter, word = asking.letter(item, "A"), asking.yes_no(item, "Yes")
            for example in (letter, word, statement(asking, "openness")):
                start = list(example.prompt)
                assert start.count(tokenizer.bos_token_id) == BEGINNINGS[name]
                assert (start[0] == tokenizer.bos_token_id) == (BEGINNINGS[name] == 1)

    def test_statements_and_words_are_tokens_of_the_whole_string(self, name, template, spelling):
        tokenizer = tokenizer_of(name)
        for dataset in SETS:
            item = items_of(dataset)[0]
            texts = [text_of(each, side) for side, each in enumerate(pair(dataset))]
            for asking in prompters(name, template, spelling, dataset):
                example, cue = statement(asking, dataset), asking.template.cue
                request = STATEMENT_REQUEST if item.kind == "persona" else item.stem + cue
                for text, answer in zip(texts, (example.matching, example.not_matching), strict=True):
                    whole = tokenizer(string(asking, request, text)).input_ids
                    assert [*example.prompt, *example.lead, *answer] == whole
                for word in ("Yes", "No"):
                    example = asking.yes_no(item, word)
                    whole = tokenizer(string(asking, yes_no_body(item, word) + cue, word)).input_ids
                    assert [*example.prompt, *example.lead, *example.matching] == whole
                    assert tokenizer.decode(example.matching).strip() == example.positive_answer == word


def pair(dataset: str) -> tuple:
    """The two sides of a statement: two items of a persona set, twice one that lists both options."""
    first, second, *_ = items_of(dataset)
    if first.kind == "choice":
        return first, first
    return (first, second) if first.positive_answer == "Yes" else (second, first)


def text_of(item, side: int) -> str:
    return item.statement or (item.not_matching_text if side else item.matching_text)


def statement(asking: Prompter, dataset: str):
    return asking.statement(*pair(dataset))


@pytest.mark.parametrize(("name", "template"), [case for case in CASES if case[0] != "llama2-7b"])
def test_template_and_auto_are_what_the_model_s_own_chat_template_makes(name, template):
    """Of the same two messages; Gemma 2 refuses a system message, so that it is a paragraph of the user's."""
    tokenizer = tokenizer_of(name)
    for dataset in SETS:
        for asking in prompters(name, template, "template", dataset):
            for example, body in lettered(asking, dataset):
                user = {"role": "user", "content": asking.before + body}
                told = [{"role": "system", "content": asking.system}, user]
                if name.startswith("gemma"):
                    told = [{"role": "user", "content": f"{asking.system}\n\n{asking.before}{body}"}]
                # A template that can think is asked not to, where it is the tokenizer's own.
                how = {"enable_thinking": False} if template == "auto" else {}
                how |= {"add_generation_prompt": True, "return_dict": False}
                assert list(example.prompt) == tokenizer.apply_chat_template(told, **how)


@pytest.mark.parametrize("name", ["llama3.1-70b", "qwen1.5-14b"])
def test_a_letter_that_comes_with_its_bracket_is_read_steered_and_scored_as_the_papers_code_does(name):
    """Read at index -2, steered from the last token of the prompt on, scored with the bracket behind it."""
    tokenizer = tokenizer_of(name)
    asking = Prompter(tokenizer, template_for(NAMED[name], tokenizer), merged=True)
    example = asking.letter(items_of("openness")[0], "B")
    answers = [example.matching, example.not_matching]
    cut = [tokenizer.decode(token) for token in (*example.lead, *example.matching, *example.closing)]
    assert example.lead == () and cut == ["(B", ")"]
    reading = _contrast(example)
    assert reading.prefix == example.prompt and [each.tokens for each in reading.branches] == answers
    scored = question(example, "paper")
    assert scored.prefix == example.prompt[:-1] and scored.scale == "logit"
    steered = [(example.prompt[-1], *answer) for answer in answers]
    assert [branch.tokens for branch in scored.branches] == steered
    read = [(read.position, read.token) for read in scored.branches[0].reads]
    assert read == [(0, *example.matching), (1, *example.closing)]
