"""Both engines against plain forwards, and what must not change the numbers."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from conftest import random_examples, random_vectors
from plain_model import propensities, score
from torch.testing import assert_close

from companion.tiny import tiny_lm
from steerkit import traces
from steerkit.formats import question
from steerkit.grid import evaluate, tree
from steerkit.model import wrap
from steerkit.vectors import Vectors

WAYS = (
    ("letter", "letter"),
    ("letter", "paper"),
    ("letter", "bench"),
    ("statement", "letter"),
    ("yes-no", "letter"),
)
MULTIPLIERS = [-1.5, 0.0, 1.0]
LAYERS = [1, 3]


def close(found: torch.Tensor, wanted: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert_close(found, wanted, atol=tolerance, rtol=0.0)


def asked(form: str, model, count: int = 3, seed: int = 0) -> list:
    vocabulary = len(model.tokenizer)
    if form != "yes-no":
        return random_examples(form, count, vocabulary, seed)
    return [
        replace(e, format="yes-no", closing=()) for e in random_examples("letter", count, vocabulary, seed)
    ]


@pytest.mark.parametrize(("form", "fidelity"), WAYS)
class TestOracle:
    def test_the_tree_gives_the_propensities_of_plain_forwards(self, any_model, form, fidelity):
        examples, vectors = asked(form, any_model), random_vectors(any_model)
        grid = evaluate(any_model, examples, vectors, MULTIPLIERS, layers=LAYERS, fidelity=fidelity)
        assert grid.engine == "tree"
        close(grid.propensity, propensities(any_model, examples, vectors, LAYERS, MULTIPLIERS, fidelity))

    def test_so_does_the_direct_engine(self, any_model, form, fidelity):
        examples, vectors = asked(form, any_model, 2), random_vectors(any_model, ["full"])
        grid = evaluate(
            any_model, examples, vectors, [0.0, 1.5], layers=LAYERS, fidelity=fidelity, engine="direct"
        )
        assert grid.engine == "direct"
        close(grid.propensity, propensities(any_model, examples, vectors, LAYERS, [0.0, 1.5], fidelity))


@pytest.mark.parametrize("engine", ["tree", "direct"])
@pytest.mark.parametrize("form", ["letter", "statement", "yes-no"])
def test_each_side_has_its_own_score(any_model, form, engine):
    (example,), vectors = asked(form, any_model, 1), random_vectors(any_model, ["full"])
    grid = evaluate(any_model, [example], vectors, [1.5], layers=[2], engine=engine)
    wanted = [score(any_model, example, side, 2, 1.5 * vectors.values[0, 2]) for side in (0, 1)]
    close(grid.scores.flatten(), torch.tensor(wanted, dtype=torch.float64))


def test_the_lowest_blocks_can_be_steered_too(any_model):
    """Block 0 leaves nothing to share below it; blocks 2 and 3 leave two to share."""
    examples, vectors = asked("letter", any_model), random_vectors(any_model, ["full"])
    for layers in ([0, 1], [2, 3], [3]):
        grid = evaluate(any_model, examples, vectors, MULTIPLIERS, layers=layers)
        close(grid.propensity, propensities(any_model, examples, vectors, layers, MULTIPLIERS))


@pytest.mark.parametrize("form", ["letter", "statement"])
def test_an_unembedding_may_have_a_bias(tokenizer, form):
    """Of the tiny architectures none has one; the Llama gets it here."""
    biased = wrap("llama", tiny_lm("llama", tokenizer))
    generator = torch.Generator().manual_seed(0)
    biased.lm._module.lm_head.bias = torch.nn.Parameter(torch.randn(len(tokenizer), generator=generator))
    examples, vectors = asked(form, biased), random_vectors(biased)
    grid = evaluate(biased, examples, vectors, MULTIPLIERS, layers=LAYERS)
    assert grid.engine == "tree"
    close(grid.propensity, propensities(biased, examples, vectors, LAYERS, MULTIPLIERS))


@pytest.mark.parametrize("beyond", range(-1, 4))
def test_a_prompt_as_long_as_the_window_a_token_shorter_or_a_few_longer(any_model, beyond):
    window = 9
    (drawn,), vectors = asked("letter", any_model, 1), random_vectors(any_model, ["full"])
    prompt = tuple(
        range(3, 3 + window + beyond - len(drawn.lead))
    )  # the lead's last token is the last position
    example = replace(drawn, prompt=prompt)
    grid = evaluate(any_model, [example], vectors, MULTIPLIERS, layers=[0, 2])
    assert grid.engine == "tree"
    close(grid.propensity, propensities(any_model, [example], vectors, [0, 2], MULTIPLIERS))


@pytest.fixture(scope="module", params=["letter", "statement"])
def case(request, model):
    """One example set, one grid of it, and the vectors that made it."""
    examples, vectors = asked(request.param, model, 5), random_vectors(model)
    return examples, vectors, evaluate(model, examples, vectors, MULTIPLIERS)


class TestMetamorphic:
    def test_multiplier_zero_is_the_unsteered_model(self, model, case):
        examples, vectors, grid = case
        close(grid.scores[..., 1], grid.scores[:, :, :1, :1, 1].expand(-1, -1, 2, 4), 0.0)
        nothing = Vectors(("none",), vectors.layers, torch.zeros(1, 4, model.width))
        close(evaluate(model, examples, nothing, [1.0]).scores[:, :, 0, 0, 0], grid.scores[:, :, 0, 0, 1])

    def test_steering_changes_every_score_otherwise(self, case):
        scores = case[2].scores
        assert (scores[..., [0, 2]] - scores[..., 1:2]).abs().min() > 1e-4

    def test_twice_the_vector_with_half_the_multiplier_is_the_same(self, model, case):
        examples, vectors, grid = case
        twice = Vectors(vectors.names, vectors.layers, 2 * vectors.values)
        close(evaluate(model, examples, twice, [m / 2 for m in MULTIPLIERS]).scores, grid.scores)

    def test_the_order_of_multipliers_vectors_and_layers_is_that_of_the_grid_and_nothing_else(
        self, model, case
    ):
        examples, vectors, grid = case
        turned = evaluate(
            model, examples, vectors.select(["other", "full"]), MULTIPLIERS[::-1], layers=[3, 1, 0, 2]
        )
        assert (turned.vectors, turned.layers, turned.multipliers) == (
            ("other", "full"),
            (3, 1, 0, 2),
            (1.0, 0.0, -1.5),
        )
        close(turned.scores, grid.scores.flip(2, 4)[:, :, :, [3, 1, 0, 2]])

    def test_the_order_of_the_examples_is_kept(self, model, case):
        examples, vectors, grid = case
        assert evaluate(model, examples[::-1], vectors, MULTIPLIERS).examples == tuple(examples[::-1])
        close(evaluate(model, examples[::-1], vectors, MULTIPLIERS).scores, grid.scores.flip(0))

    @pytest.mark.parametrize("batch_tokens", [1, 60, 100_000])
    def test_the_batch_size_is_irrelevant(self, model, case, batch_tokens):
        examples, vectors, grid = case
        close(evaluate(model, examples, vectors, MULTIPLIERS, batch_tokens=batch_tokens).scores, grid.scores)

    def test_swapping_the_sides_negates_the_propensity(self, model, case):
        examples, vectors, grid = case
        swapped = [replace(e, matching=e.not_matching, not_matching=e.matching) for e in examples]
        close(evaluate(model, swapped, vectors, MULTIPLIERS).propensity, -grid.propensity)


def cells_of(vectors: Vectors, layers: list[int]) -> list[tuple[int, int, float]]:
    return [(v, layer, m) for v in range(len(vectors.names)) for layer in layers for m in (-1.5, 1.0)]


@pytest.mark.parametrize("form", ["letter", "statement"])
class TestPaddingAndSplitting:
    def test_left_padding_is_irrelevant(self, any_model, form):
        """A short question alone, and beside the longest one, which pads it by ten tokens or more."""
        examples, vectors = asked(form, any_model, 12), random_vectors(any_model)
        ordered = sorted((question(e) for e in examples), key=lambda q: len(q.prefix))
        pair = [ordered[0], ordered[-1]]
        assert len(pair[1].prefix) - len(pair[0].prefix) >= 10
        cells = cells_of(vectors, [2, 3])
        together = tree(any_model, [pair], vectors, cells, 10_000)
        for one, padded in zip(pair, together, strict=True):
            close(tree(any_model, [[one]], vectors, cells, 10_000)[0], padded)

    @pytest.mark.parametrize("first", [0, 2])
    def test_splitting_the_conditions_into_several_sequences_is_irrelevant(
        self, any_model, form, first, monkeypatch
    ):
        """Down to one condition a sequence, with blocks to share below the lowest steered one and without."""
        questions = [question(e) for e in asked(form, any_model)]
        vectors = random_vectors(any_model)
        cells = cells_of(vectors, [first, 3])
        whole = tree(any_model, [questions], vectors, cells, 10_000)
        laid_out, real = [], traces.layout
        monkeypatch.setattr(traces, "layout", lambda q, c: laid_out.append(len(c)) or real(q, c))
        for limit in (1, 30):
            laid_out.clear()
            close(tree(any_model, [questions], vectors, cells, limit), whole)
            assert max(laid_out) < 1 + len(cells)


class TestGrid:
    @pytest.mark.parametrize("engine", ["tree", "direct"])
    def test_vectors_with_fewer_multipliers_have_the_same_numbers_in_fewer_cells(self, model, engine):
        examples, vectors = asked("letter", model), random_vectors(model)
        whole = evaluate(model, examples, vectors, MULTIPLIERS, layers=LAYERS, engine=engine)
        part = evaluate(
            model, examples, vectors, MULTIPLIERS, layers=LAYERS, engine=engine, fewer={"other": [1.0]}
        )
        left_out = torch.zeros_like(whole.scores, dtype=torch.bool)
        left_out[:, :, 1, :, 0] = True
        assert torch.equal(part.scores.isnan(), left_out)
        close(part.scores[~left_out], whole.scores[~left_out])
        table = part.table()
        assert sorted(table[table.vector == "other"].multiplier.unique()) == [0.0, 1.0]
        assert sorted(table[table.vector == "full"].multiplier.unique()) == MULTIPLIERS
        assert len(table) == 3 * 2 * (3 + 2)

    @pytest.mark.parametrize("engine", ["tree", "direct"])
    def test_the_unsteered_model_alone_can_be_asked_for(self, model, engine):
        examples, vectors = asked("letter", model), random_vectors(model)
        grid = evaluate(model, examples, vectors, [0.0], engine=engine)
        close(grid.propensity, propensities(model, examples, vectors, vectors.layers, [0.0]))

    def test_the_table_holds_every_number_beside_its_labels(self, model):
        examples, vectors = asked("letter", model), random_vectors(model)
        grid = evaluate(model, examples, vectors, MULTIPLIERS, layers=[3, 1])
        table = grid.table("set").set_index(["example_id", "vector", "layer", "multiplier"])
        assert len(table) == 3 * 2 * 2 * 3
        assert set(table.dataset) == {"set"}
        for (n, example), (v, vector), (i, layer), (k, m) in product(
            *map(enumerate, (examples, vectors.names, [3, 1], MULTIPLIERS))
        ):
            row = table.loc[(example.id, vector, layer, m)]
            assert (row.format, row.positive_letter) == ("letter", example.positive_letter)
            assert [row.matching, row.not_matching] == grid.scores[n, :, v, i, k].tolist()
            assert row.propensity == row.matching - row.not_matching
