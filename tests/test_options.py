"""The format `options`: the prompt of `letter`, answered by the text of an option."""

import pytest

from companion.data.ask import examples_of
from companion.data.datasets import load_dataset
from companion.data.forms import OTHER
from companion.models import model_of
from companion.templates import prompter
from steerkit.formats import FORMATS, question


@pytest.fixture(scope="module")
def model():
    """One that knows the words."""
    return model_of("tiny")


@pytest.fixture(scope="module", params=["openness", "corrigible-neutral-HHH"])
def both(request, model):
    """The dataset, and its first items in both orders, as `letter` and as `options`."""
    data, asks = load_dataset(request.param), prompter(model.tokenizer, model.template)
    how = {"seed": 0, "counterbalanced": True}
    return data, *(examples_of(asks, data, range(4), form, **how) for form in ("letter", "options"))


def test_it_differs_from_letter_in_the_answer_alone(both, model):
    data, lettered, worded = both
    assert [one.prompt for one in worded] == [one.prompt for one in lettered]
    assert [one.positive_letter for one in worded] == [one.positive_letter for one in lettered]
    for item, one in zip(data.items[:4], worded[:4], strict=True):
        yes = item.matching_text or item.matching.strip()
        no = item.not_matching_text or item.not_matching.strip()
        for text, tokens in ((yes, one.matching), (no, one.not_matching)):
            assert list(tokens) == model.tokenizer(f" {text}", add_special_tokens=False).input_ids


def test_both_orders_are_asked_and_each_side_is_scored_a_token(both):
    _, _, worded = both
    firsts, others = ([one for one in worded if one.id.endswith(OTHER) == turned] for turned in (False, True))
    assert FORMATS["options"].biased and {one.positive_letter for one in worded} == {"A", "B"}
    for first in firsts:
        asked = question(first)
        assert asked.scale == "logprob" and len(asked.branches) == 2
        assert [sum(r.weight for r in branch.reads) for branch in asked.branches] == pytest.approx([1.0, 1.0])
    for first, other in zip(firsts, others, strict=False):
        assert {first.positive_letter, other.positive_letter} == {"A", "B"}
        assert (first.matching, first.not_matching) == (other.matching, other.not_matching)
        assert first.prompt != other.prompt
