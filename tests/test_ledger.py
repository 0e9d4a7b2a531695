"""The ledger: which token is read, steered and scored, by the definitions and by what the model really gets."""

import re

import numpy as np
import pytest
from conftest import WORDS, random_vectors
from plain_model import blocks, hooked

from companion.tiny import tiny_lm, tiny_tokenizer
from steerkit import traces, wrap
from steerkit.formats import ledger, question
from steerkit.items import Item
from steerkit.prompts import STATEMENT_REQUEST, Prompter
from steerkit.templates import Template
from steerkit.traces import site_of

YES = Item("d/0", "you like the river", " Yes", " No", statement="I like the river")
NO = Item("d/1", "you hate the river", " No", " Yes", statement="I hate red music")
BARE = Template("bare", "{user}", space=True)


@pytest.fixture(scope="module")
def tokenizer():
    """Of one that loses the words of a question there is no ledger."""
    return tiny_tokenizer([" ".join(WORDS), "Choices:\n(A): \n(B): ", STATEMENT_REQUEST])


@pytest.fixture(scope="module")
def model(tokenizer):
    """One of this vocabulary: the session's knows fewer words."""
    return wrap("llama", tiny_lm("llama", tokenizer))


@pytest.fixture(scope="module")
def examples(tokenizer):
    prompter = Prompter(tokenizer, BARE)
    examples = {"letter": prompter.letter(YES, "A"), "statement": prompter.statement(YES, NO)}
    return examples | {"yes-no": prompter.yes_no(YES, "Yes")}


def sides(table) -> list:
    return [table[table.side == side] for side in ("matching", "not matching")]


# Format, fidelity -> flag -> tokens of the matching side after the prompt, and of the other side. The prompt of a
# letter ends in "\\n(B):  No", so that its last token is "No"; a letter comes as " ", "(", "A", ")".
COMPLETIONS = (re.findall(r"\w+|\s", " I like the river"), re.findall(r"\w+|\s", " I hate red music"))
LETTER = {"read": (["A"], ["B"]), "scored": (["A"], ["B"])}
PAPER = {"read": (["A"], ["B"]), "scored": (["A", ")"], ["B", ")"])}
WORD = {"read": (["Yes"], ["No"]), "scored": (["Yes"], ["No"])}
SHIFTED = tuple([".", *words[:-1]] for words in COMPLETIONS)
CASES = {
    ("letter", "letter"): LETTER | {"steered": (["No", " ", "("], ["No", " ", "("])},
    ("letter", "paper"): PAPER | {"steered": (["No", " ", "(", "A"], ["No", " ", "(", "B"])},
    ("letter", "bench"): PAPER | {"steered": ([" ", "(", "A"], [" ", "(", "B"])},
    ("yes-no", "letter"): WORD | {"steered": (["river", " "], ["river", " "])},
    # The last word of a completion predicts nothing.
    ("statement", "letter"): {"read": COMPLETIONS, "scored": COMPLETIONS, "steered": SHIFTED},
}


@pytest.mark.parametrize(("form", "fidelity"), CASES)
def test_the_flags_are_those_of_the_definitions(tokenizer, examples, form, fidelity):
    """The paper reads the token at index minus two of the string."""
    both = sides(ledger(tokenizer, examples[form], fidelity))
    for flag, wanted in CASES[form, fidelity].items():
        assert tuple(rows.token[rows[flag]].tolist() for rows in both) == wanted
    if form == "letter":
        assert [list(np.flatnonzero(rows.read)) for rows in both] == [[len(rows) - 2] for rows in both]


@pytest.mark.parametrize("form", ["letter", "statement", "yes-no"])
def test_the_rows_are_the_whole_string_of_each_side_in_order(tokenizer, examples, form):
    example, both = examples[form], sides(ledger(tokenizer, examples[form]))
    for rows, answer in zip(both, (example.matching, example.not_matching), strict=True):
        parts = {"prompt": example.prompt, "lead": example.lead, "answer": answer, "closing": example.closing}
        tokens = [(part, tokenizer.decode([token])) for part, ids in parts.items() for token in ids]
        assert list(zip(rows.part, rows.token, strict=True)) == tokens
        assert rows.position.tolist() == list(range(len(tokens)))


@pytest.mark.parametrize(("form", "fidelity"), CASES)
def test_the_steered_tokens_are_those_that_really_change(tokenizer, examples, model, form, fidelity):
    """One direct forward, watched by a hook on the block after the steered one: what went in, minus unsteered."""
    asked, [vector] = question(examples[form], fidelity), random_vectors(model, ["full"]).at(1)
    both, site = sides(ledger(tokenizer, examples[form], fidelity)), site_of(model)
    for rows, branch in zip(both, asked.branches, strict=False):
        seen = []
        with hooked(blocks(model.lm._module)[2], lambda m, inputs, o, seen=seen: seen.append(inputs[0][0])):
            for multiplier in (0.0, 1.0):
                traces.steered_logits(site, asked.prefix, branch.tokens, 1, multiplier * vector)
        added = (seen[1] - seen[0]).abs().sum(-1) > 1e-4
        assert rows.steered.tolist() == added.tolist() + [False] * (len(rows) - len(added))
