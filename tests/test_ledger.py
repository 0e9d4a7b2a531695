"""The ledger: which token is read, steered and scored, by the definitions and by what the model really gets."""

from __future__ import annotations

import re

import pytest
import torch
from conftest import random_vectors
from plain_model import blocks, hooked

from steerkit import traces
from steerkit.formats import ledger, question
from steerkit.items import Item
from steerkit.prompts import Prompter
from steerkit.templates import Template
from steerkit.traces import site_of

YES = Item("d/0", "you like the river", " Yes", " No", statement="I like the river")
NO = Item("d/1", "you hate the river", " No", " Yes", statement="I hate red music")
BARE = Template("bare", "{user}", space=True)


@pytest.fixture(scope="module")
def examples(tokenizer):
    prompter = Prompter(tokenizer, BARE)
    return {
        "letter": prompter.letter(YES, "A"),
        "statement": prompter.statement(YES, NO),
        "yes-no": prompter.yes_no(YES, "Yes"),
    }


def marked(table, side: str, flag: str) -> list[str]:
    """The tokens of one side that carry a flag."""
    rows = table[table.side == side]
    return rows.token[rows[flag]].tolist()


# Format, fidelity -> flag -> tokens of the matching side after the prompt, and of the other side. The prompt of a
# letter ends in "\\n(B):  No", so that its last token is "No"; a letter comes as " ", "(", "A", ")".
COMPLETIONS = (re.findall(r"\w+|\s", " I like the river"), re.findall(r"\w+|\s", " I hate red music"))
LETTER = {"read": (["A"], ["B"]), "scored": (["A"], ["B"])}
PAPER = {"read": (["A"], ["B"]), "scored": (["A", ")"], ["B", ")"])}
CASES = {
    ("letter", "letter"): LETTER | {"steered": (["No", " ", "("], ["No", " ", "("])},
    ("letter", "paper"): PAPER | {"steered": (["No", " ", "(", "A"], ["No", " ", "(", "B"])},
    ("letter", "bench"): PAPER | {"steered": ([" ", "(", "A"], [" ", "(", "B"])},
    ("yes-no", "letter"): {
        "read": (["Yes"], ["No"]),
        "scored": (["Yes"], ["No"]),
        "steered": (["river", " "], ["river", " "]),
    },
    ("statement", "letter"): {
        "read": COMPLETIONS,
        "scored": COMPLETIONS,
        "steered": tuple([".", *words[:-1]] for words in COMPLETIONS),  # the last word predicts nothing
    },
}


@pytest.mark.parametrize("flag", ["read", "scored", "steered"])
@pytest.mark.parametrize(("form", "fidelity"), CASES)
def test_the_flags_are_those_of_the_definitions(tokenizer, examples, form, fidelity, flag):
    table = ledger(tokenizer, examples[form], fidelity)
    wanted = CASES[form, fidelity][flag]
    assert (marked(table, "matching", flag), marked(table, "not matching", flag)) == wanted


def test_the_token_that_the_paper_reads_is_at_index_minus_two_of_the_string(tokenizer, examples):
    table = ledger(tokenizer, examples["letter"])
    for side in ("matching", "not matching"):
        rows = table[table.side == side].reset_index(drop=True)
        assert rows.index[rows.read].tolist() == [len(rows) - 2]


@pytest.mark.parametrize("form", ["letter", "statement", "yes-no"])
def test_the_rows_are_the_whole_string_of_each_side_in_order(tokenizer, examples, form):
    example, table = examples[form], ledger(tokenizer, examples[form])
    for side, answer in (("matching", example.matching), ("not matching", example.not_matching)):
        rows = table[table.side == side]
        tokens = example.prompt + example.lead + answer + example.closing
        assert rows.token.tolist() == [tokenizer.decode([token]) for token in tokens]
        assert rows.position.tolist() == list(range(len(tokens)))
        sizes = {"prompt": example.prompt, "lead": example.lead, "answer": answer, "closing": example.closing}
        assert rows.part.tolist() == [part for part, ids in sizes.items() for _ in ids]


@pytest.mark.parametrize(("form", "fidelity"), CASES)
def test_the_steered_tokens_are_those_that_really_change(tokenizer, examples, model, form, fidelity):
    """One direct forward, watched by a hook on the block after the steered one: what went in, minus unsteered."""
    example, vectors = examples[form], random_vectors(model, ["full"])
    asked, table = question(example, fidelity), ledger(tokenizer, examples[form], fidelity)
    for side, branch in zip(("matching", "not matching"), asked.branches, strict=False):
        seen = []
        with hooked(
            blocks(model.lm._module)[2], lambda block, inputs, output, seen=seen: seen.append(inputs[0][0])
        ):
            for multiplier in (0.0, 1.0):
                delta = multiplier * vectors.at(1)[0]
                traces.steered_logits(site_of(model), asked.prefix, branch.tokens, 1, delta)
        added = (seen[1] - seen[0]).abs().sum(-1) > 1e-4
        rows = table[table.side == side].head(len(added))
        assert torch.equal(added, torch.tensor(rows.steered.to_numpy()))
        assert not table[table.side == side].steered[len(added) :].any()
