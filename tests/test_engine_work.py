"""The work contract: how often the blocks and the unembedding really run, and over how many tokens."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from conftest import asked, close, own_model, random_vectors
from plain_model import Watch

from steerkit import traces
from steerkit.formats import question
from steerkit.grid import direct, evaluate, tree


def unpadded(form: str, model, count: int) -> tuple[list, int, int]:
    """One question several times, so that no padding blurs the counts; tokens of its prefix, and of its branches."""
    first = question(asked(form, model, 1)[0])
    return [first] * count, len(first.prefix), sum(len(branch.tokens) for branch in first.branches)


def cells_of(vectors, layers) -> list[tuple[int, int, float]]:
    return list(product(range(len(vectors.names)), layers, (-1.0, 1.0, 1.5)))


class TestTree:
    @pytest.mark.parametrize("lowest", [0, 1, 2, 3])
    def test_blocks_up_to_the_lowest_steered_one_run_once_without_branches_and_the_rest_once_with(
        self, any_model, lowest
    ):
        """Where only one block could be shared, nothing is; letters never call the unembedding."""
        (questions, prefix, branch), vectors = unpadded("letter", any_model, 3), random_vectors(any_model)
        cells = cells_of(vectors, range(lowest, 4))
        with Watch(any_model) as watch:
            tree(any_model, [questions], vectors, cells, 10_000)
        shared = lowest + 1 if lowest > 1 else 0
        once, spread = [(3, prefix + branch)], [(3, prefix + branch * (1 + len(cells)))]
        assert watch.blocks == [once] * shared + [spread] * (4 - shared) and watch.head == []

    def test_statements_unembed_the_tokens_read_and_no_others_a_few_at_a_time(self, any_model, monkeypatch):
        (questions, *_), vectors = unpadded("statement", any_model, 2), random_vectors(any_model)
        cells = cells_of(vectors, [2, 3])
        read = sum(len(branch.reads) for q in questions for branch in q.branches) * (1 + len(cells))
        at_once = tree(any_model, [questions], vectors, cells, 10_000)
        monkeypatch.setattr(traces, "HEAD_ROWS", 16)
        with Watch(any_model) as watch:
            found = tree(any_model, [questions], vectors, cells, 10_000)
        rows = [rows for (rows,) in watch.head]
        assert (sum(rows), max(rows)) == (read, 16)
        close(found, at_once)

    def test_sequences_that_do_not_fit_cost_one_more_pair_of_runs_each(self, model):
        (questions, prefix, branch), vectors = unpadded("letter", model, 2), random_vectors(model)
        cells = cells_of(vectors, [2, 3])  # 12, so 13 conditions
        with Watch(model) as watch:
            tree(model, [questions], vectors, cells, prefix + 5 * branch)
        assert watch.calls == [3, 3, 3, 3]
        assert watch.blocks[3] == [(2, prefix + n * branch) for n in (5, 5, 3)]

    def test_more_cells_make_no_more_runs_and_the_self_check_is_made_once(self, tokenizer):
        fresh, calls = own_model(tokenizer), []
        examples, vectors = asked("letter", fresh, 4), random_vectors(fresh)
        for multipliers in ([1.0], [0.0, 1.0, -1.0, 2.0, 3.0]):
            with Watch(fresh) as watch:
                evaluate(fresh, examples, vectors, multipliers)
            calls.append(watch.calls)
        # The self-check: plain runs of the unsteered model, the first and the last layer, and one tree.
        assert calls == [[3 + 1 + 1] * 4, [1] * 4]


@pytest.mark.parametrize(("batch_tokens", "sizes"), [(120, [2] * 5), (300, [6, 4]), (100_000, [10])])
def test_a_batch_is_as_large_as_its_tokens_allow_and_no_larger(model, batch_tokens, sizes):
    """Questions of one length: 23 tokens shared and 13 conditions of 2, so 49 tokens a sequence."""
    examples = [replace(asked("letter", model, 1)[0], prompt=(5,) * 24, lead=(6,))] * 10
    vectors, multipliers = random_vectors(model), [0.0, 1.0, 2.0, 3.0]
    evaluate(model, examples[:1], vectors, [1.0])  # the self-check
    with Watch(model) as watch:
        evaluate(model, examples, vectors, multipliers, layers=[0, 3], batch_tokens=batch_tokens)
    assert watch.blocks[0] == [(size, 23 + 2 * 13) for size in sizes]


@pytest.mark.parametrize(("form", "branches"), [("letter", 1), ("statement", 2)])
def test_the_direct_engine_runs_once_a_branch_and_cell(model, form, branches):
    ([one], prefix, _), vectors = unpadded(form, model, 1), random_vectors(model)
    cells = cells_of(vectors, [0, 2, 3])
    with Watch(model) as watch:
        direct(model, one, vectors, cells)
    lengths = [(1, prefix + len(branch.tokens)) for branch in one.branches]
    assert len(lengths) == branches
    assert watch.calls == [branches * (1 + len(cells))] * 4
    assert watch.blocks[0] == lengths * (1 + len(cells))


@pytest.mark.parametrize("form", ["letter", "statement"])
def test_progress_adds_up_to_the_tokens_of_prompts_and_branches(model, form):
    examples, vectors, done = asked(form, model, 5), random_vectors(model), []
    evaluate(model, examples, vectors, [-1.0, 0.0, 1.0], layers=[1, 3], progress=done.append, batch_tokens=60)
    wanted, conditions = 0, 1 + 2 * 2 * 2
    for e in examples:
        answers = [e.lead] if form == "letter" else [e.matching[:-1], e.not_matching[:-1]]
        wanted += len(e.prompt) - 1 + conditions * sum(1 + len(answer) for answer in answers)
    assert len(done) > 1
    assert sum(done) == wanted
