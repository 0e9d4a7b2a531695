"""Both forms of an item differ in nothing but the token that shows the behaviour."""

from __future__ import annotations

from dataclasses import replace

import pytest

from companion.data.ask import item_id, with_others
from companion.data.datasets import load_dataset
from companion.data.forms import OTHER, asked, exchanged
from companion.models import load_model
from steerkit.errors import SteerkitError
from steerkit.formats import FORMATS
from steerkit.items import Item
from steerkit.prompts import Prompter

PERSONA_SET, CHOICE_SET = load_dataset("narcissism"), load_dataset("survival-instinct")


@pytest.fixture(scope="module")
def prompter() -> Prompter:
    model = load_model("tiny")
    return Prompter(model.tokenizer, model.template)


def test_a_persona_item_is_asked_with_both_letters(prompter):
    item = PERSONA_SET.items[0]
    first, second = (asked(prompter, FORMATS["letter"], item, other=other) for other in (False, True))
    assert {first.positive_letter, second.positive_letter} == {"A", "B"}
    assert first.matching == second.not_matching and first.not_matching == second.matching
    assert first.positive_answer == second.positive_answer and second.id == first.id + OTHER
    assert item_id(second.id) == item_id(first.id) == item.id


def test_a_choice_item_gets_its_options_exchanged_and_nothing_else():
    """These sets hold each question in both orders, so one item's other form is its neighbour."""
    for first, second in zip(CHOICE_SET.items[::2], CHOICE_SET.items[1::2], strict=True):
        turned = exchanged(first)
        assert turned.question == second.question and exchanged(turned) == first
        assert (turned.stem, turned.matching_text) == (first.stem, first.matching_text)
        assert turned.matching == first.not_matching


def test_an_option_text_that_contains_the_other_is_exchanged_whole_and_a_third_cannot_be():
    options = (("A", "red"), ("B", "red and blue"))
    item = Item(
        "d/0000", "Which?\n (A) red\n (B) red and blue", " (B)", " (A)", stem="Which?", options=options
    )
    assert exchanged(item).question == "Which?\n (A) red and blue\n (B) red"
    with pytest.raises(SteerkitError, match=r"two options in d/0000.*found 3"):
        exchanged(replace(item, options=(*options, ("C", "c"))))


def test_yes_and_no_change_places_in_the_other_form(prompter):
    for item in (PERSONA_SET.items[0], PERSONA_SET.items[1], CHOICE_SET.items[0], CHOICE_SET.items[1]):
        first, second = (asked(prompter, FORMATS["yes-no"], item, other=other) for other in (False, True))
        assert {first.positive_answer, second.positive_answer} == {"Yes", "No"}
        assert first.matching == second.not_matching and first.prompt != second.prompt


def test_second_forms_that_a_set_has_already_are_not_added_again(prompter):
    form = FORMATS["letter"]
    firsts, others = ([asked(prompter, form, i, other=o) for i in CHOICE_SET.items] for o in (False, True))
    assert with_others(firsts, others) == firsts
    assert with_others(firsts[:1], others[:1]) == [firsts[0], others[0]]
