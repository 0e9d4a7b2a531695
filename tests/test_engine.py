"""Both engines: numbers against plain forwards, what must not change them, and how often blocks really run."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from conftest import asked, close, own_model, random_vectors
from plain_model import Watch, propensities, scores

from companion.tiny import ARCHITECTURES
from steerkit import Vectors, evaluate, traces
from steerkit.formats import question
from steerkit.grid import direct, tree
from steerkit.layout import length
from steerkit.trust import small

# What a token sees depends on the family, what is read on the format: every family in two formats, and one in all.
TWO = [(name, form) for name in sorted(ARCHITECTURES) for form in ("letter", "statement")]
WAYS = [(name, form, "letter") for name, form in TWO]
WAYS += [("gemma3", "letter", "paper"), ("gemma3", "letter", "bench"), ("gemma3", "yes-no", "letter")]
STATEMENTS = [(name, "statement") for name in sorted(ARCHITECTURES)] + [("gemma3", "letter")]
MULTIPLIERS, LAYERS = [-1.5, 0.0, 1.0], [1, 3]
ENGINES = pytest.mark.parametrize("engine", ["tree", "direct"])


@pytest.mark.parametrize("layers", [[0, 3], [2, 3]])
@pytest.mark.parametrize(("any_model", "form", "fidelity"), WAYS, indirect=["any_model"])
def test_the_numbers_of_both_engines_are_those_of_plain_forwards(any_model, form, fidelity, layers):
    """Block 0 leaves nothing to share below it, block 2 two blocks. Each side's own score, too; those of `paper` and
    `bench` leave out what both sides have in common."""
    given = any_model, asked(form, any_model, 2), random_vectors(any_model, ["full"])
    wanted = scores(*given, layers, MULTIPLIERS, fidelity)
    for engine in ("tree", "direct"):
        grid = evaluate(*given, MULTIPLIERS, layers=layers, engine=engine, fidelity=fidelity)
        assert grid.engine == engine
        close(grid.propensity, wanted[:, 0] - wanted[:, 1])
        if fidelity == "letter":
            close(grid.scores, wanted)


@pytest.mark.parametrize("form", ["letter", "statement"])
def test_an_unembedding_may_have_a_bias(tokenizer, form):
    """Of the tiny architectures none has one; the Llama gets it here."""
    biased = own_model(tokenizer)
    generator = torch.Generator().manual_seed(0)
    biased.lm._module.lm_head.bias = torch.nn.Parameter(torch.randn(len(tokenizer), generator=generator))
    examples, vectors = asked(form, biased), random_vectors(biased)
    grid = evaluate(biased, examples, vectors, MULTIPLIERS, layers=LAYERS)
    assert grid.engine == "tree"
    close(grid.propensity, propensities(biased, examples, vectors, LAYERS, MULTIPLIERS))


@pytest.mark.parametrize("any_model", ["mistral", "gemma2", "gemma3"], indirect=True)
@pytest.mark.parametrize("beyond", range(-1, 4))
def test_a_prompt_as_long_as_the_window_a_token_shorter_or_a_few_longer(any_model, beyond):
    window, ([drawn], vectors) = 9, (asked("letter", any_model, 1), random_vectors(any_model, ["full"]))
    size = window + beyond - len(drawn.lead)  # the lead's last token is the last position
    example = replace(drawn, prompt=tuple(range(3, 3 + size)))
    grid = evaluate(any_model, [example], vectors, MULTIPLIERS, layers=[0, 2])
    assert grid.engine == "tree"
    close(grid.propensity, propensities(any_model, [example], vectors, [0, 2], MULTIPLIERS))


@pytest.fixture(scope="module", params=["letter", "statement"])
def case(request, model):
    """One example set, one grid of it, and the vectors that made it."""
    examples, vectors = asked(request.param, model, 5), random_vectors(model)
    return examples, vectors, evaluate(model, examples, vectors, MULTIPLIERS)


class TestMetamorphic:
    def test_multiplier_zero_is_the_unsteered_model_and_any_other_changes_every_score(self, model, case):
        examples, vectors, grid = case
        close(grid.scores[..., 1], grid.scores[:, :, :1, :1, 1].expand(-1, -1, 2, 4), 0.0)
        nothing = Vectors(("none",), vectors.layers, torch.zeros(1, 4, model.width))
        close(evaluate(model, examples, nothing, [1.0]).scores[:, :, 0, 0, 0], grid.scores[:, :, 0, 0, 1])
        assert (grid.scores[..., [0, 2]] - grid.scores[..., 1:2]).abs().min() > 1e-4

    def test_every_axis_keeps_its_order_which_changes_no_number(self, model, case):
        examples, vectors, grid = case
        names, layers, multipliers = ("other", "full"), (3, 1, 0, 2), (1.0, 0.0, -1.5)
        turned = evaluate(model, examples[::-1], vectors.select(names), multipliers, layers=layers)
        assert (turned.vectors, turned.layers, turned.multipliers) == (names, layers, multipliers)
        assert turned.examples == tuple(examples[::-1])
        close(turned.scores, grid.scores.flip(0, 2, 4)[:, :, :, layers])

        for size in (1, 60, 100_000):  # and the size of a batch decides nothing
            again = evaluate(model, examples, vectors, MULTIPLIERS, batch_tokens=size)
            close(again.scores, grid.scores)


@pytest.mark.parametrize(("any_model", "form"), STATEMENTS, indirect=["any_model"])
class TestSharingAndSplitting:
    def test_what_else_stands_in_a_row_is_irrelevant(self, any_model, form):
        """Prompts that begin alike, part early, or end within another; alone, in rows that are padded, and in one."""
        drawn, vectors = asked(form, any_model, 6), random_vectors(any_model)
        longest = max((one.prompt for one in drawn), key=len)
        parting = zip(drawn, (0, 3, 8, 8, 20, 99), strict=True)
        alike = [replace(one, prompt=longest[:at] + one.prompt[at:]) for one, at in parting]
        questions = [question(one) for one in (*alike, replace(alike[5], prompt=longest[:9]))]
        cells = [(0, 2, -1.5), (1, 2, 1.0), (0, 3, 1.0)]
        alone = [direct(any_model, one, vectors, cells) for one in questions]
        for most in (1, 100, 10_000):
            for wanted, found in zip(alone, tree(any_model, [questions], vectors, cells, most), strict=True):
                close(found, wanted)

    def test_padding_is_irrelevant(self, any_model, form):
        """A short question alone, and in a row beside the longest one's, which pads it by ten tokens or more."""
        ordered = sorted(map(question, asked(form, any_model, 12)), key=lambda q: len(q.prefix))
        pair, vectors = [ordered[0], ordered[-1]], random_vectors(any_model)
        assert len(pair[1].prefix) - len(pair[0].prefix) >= 10
        cells = list(product(range(2), [2, 3], [-1.5, 1.0]))
        most = length(pair[1], 1 + len(cells))
        together = tree(any_model, [pair], vectors, cells, most)
        for one, padded in zip(pair, together, strict=True):
            close(tree(any_model, [[one]], vectors, cells, 10_000)[0], padded)

    @pytest.mark.parametrize("first", [0, 2])
    def test_splitting_the_conditions_is_irrelevant(self, any_model, form, first, monkeypatch):
        """Down to one condition a sequence, with blocks to share below the lowest steered one and without."""
        questions, vectors = [question(e) for e in asked(form, any_model)], random_vectors(any_model)
        cells = list(product(range(2), [first, 3], [-1.5, 1.0]))
        whole = tree(any_model, [questions], vectors, cells, 10_000)
        laid_out, real = [], traces.layout
        monkeypatch.setattr(traces, "layout", lambda q, r, c: laid_out.append(len(c)) or real(q, r, c))
        for limit in (1, 30):
            laid_out.clear()
            close(tree(any_model, [questions], vectors, cells, limit), whole)
            assert max(laid_out) < 1 + len(cells)


class TestGrid:
    @ENGINES
    def test_vectors_with_fewer_multipliers_have_the_same_numbers_in_fewer_cells(self, model, engine):
        given = model, asked("letter", model), random_vectors(model), MULTIPLIERS
        whole = evaluate(*given, layers=LAYERS, engine=engine)
        part = evaluate(*given, layers=LAYERS, engine=engine, fewer={"other": [1.0]})
        left_out = torch.zeros_like(whole.scores, dtype=torch.bool)
        left_out[:, :, 1, :, 0] = True
        assert torch.equal(part.scores.isnan(), left_out)
        close(part.scores[~left_out], whole.scores[~left_out])
        table = part.table()
        assert sorted(table[table.vector == "other"].multiplier.unique()) == [0.0, 1.0]
        assert sorted(table[table.vector == "full"].multiplier.unique()) == MULTIPLIERS
        assert len(table) == 3 * 2 * (3 + 2)
        unsteered = evaluate(*given[:3], [0.0], layers=LAYERS, engine=engine)  # can be asked for alone
        close(unsteered.propensity, propensities(*given[:3], LAYERS, [0.0]))

    def test_the_table_holds_every_number_beside_its_labels(self, model):
        examples, vectors = asked("letter", model), random_vectors(model)
        grid = evaluate(model, examples, vectors, MULTIPLIERS, layers=[3, 1])
        table = grid.table("set").set_index(["example_id", "vector", "layer", "multiplier"])
        assert len(table) == 3 * 2 * 2 * 3 and set(table.dataset) == {"set"}
        axes = map(enumerate, (examples, vectors.names, [3, 1], MULTIPLIERS))
        for (n, example), (v, vector), (i, layer), (k, m) in product(*axes):
            row = table.loc[(example.id, vector, layer, m)]
            assert (row.format, row.positive_letter) == ("letter", example.positive_letter)
            assert [row.matching, row.not_matching] == grid.scores[n, :, v, i, k].tolist()
            assert row.propensity == row.matching - row.not_matching


def unpadded(form: str, model, count: int) -> tuple[list, int, int]:
    """Questions that differ in the last token of a prefix; its length, and the tokens of the branches."""
    first = question(asked(form, model, 1)[0])
    alike = [replace(first, prefix=(*first.prefix[:-1], 3 + n)) for n in range(count)]
    return alike, len(first.prefix), sum(len(branch.tokens) for branch in first.branches)


def cells_of(vectors, layers) -> list[tuple[int, int, float]]:
    return list(product(range(len(vectors.names)), layers, (-1.0, 1.0, 1.5)))


class TestWork:
    @pytest.mark.parametrize("lowest", [0, 1, 2, 3])
    @pytest.mark.parametrize("stages", [2, 3, 6])
    def test_a_condition_runs_in_no_block_below_its_own(self, model, lowest, stages, monkeypatch):
        """But for those that are put together; what the three prompts begin with once. Letters do without unembedding."""
        (questions, prefix, branch), vectors = unpadded("letter", model, 3), random_vectors(model)
        cells = cells_of(vectors, range(lowest, 4))
        monkeypatch.setattr(traces, "STAGES", stages)
        with Watch(model) as watch:
            tree(model, [questions], vectors, cells, 10_000)
        begins = {2: {lowest}, 3: {lowest, lowest + (5 - lowest) // 2}, 6: set(range(lowest, 4))}[stages]
        ends = [*sorted(begins & {2, 3}), 4]
        upto = [next(end for end in ends if end >= block) for block in range(4)]
        counts = [1 + sum(layer < end for _, layer, _ in cells) for end in upto]
        assert watch.blocks == [[(1, prefix - 1 + 3 * (1 + branch * n))] for n in counts]
        assert watch.head == []

    def test_how_many_stages_there_are_changes_no_number(self, any_model, monkeypatch):
        questions = [question(one) for one in asked("statement", any_model, 3)]
        vectors = random_vectors(any_model)
        cells, found = [*cells_of(vectors, [3, 1, 2]), (1, 0, 0.5)], []
        for stages in (2, 3, 6):
            monkeypatch.setattr(traces, "STAGES", stages)
            for most in (60, 10_000):
                found.append(tree(any_model, [questions], vectors, cells, most))
                close(found[-1], found[0])

    def test_statements_unembed_the_tokens_read_and_no_others_a_few_at_a_time(self, model, monkeypatch):
        (questions, *_), vectors = unpadded("statement", model, 2), random_vectors(model)
        cells = cells_of(vectors, [2, 3])
        read = sum(len(branch.reads) for q in questions for branch in q.branches) * (1 + len(cells))
        at_once = tree(model, [questions], vectors, cells, 10_000)
        monkeypatch.setattr(traces, "HEAD_ROWS", 16)
        with Watch(model) as watch:
            found = tree(model, [questions], vectors, cells, 10_000)
        rows = [rows for (rows,) in watch.head]
        assert (sum(rows), max(rows)) == (read, 16)
        close(found, at_once)

    def test_sequences_that_do_not_fit_cost_one_more_pair_of_runs_each(self, model):
        (questions, prefix, branch), vectors = unpadded("letter", model, 1), random_vectors(model)
        cells = cells_of(vectors, [2, 3])  # 12, so 13 conditions
        with Watch(model) as watch:
            tree(model, [questions], vectors, cells, prefix + 5 * branch)
        assert watch.calls == [3, 3, 3, 3]
        # The unsteered one, and those of block 2: three, three and none.
        assert watch.blocks[3] == [(1, prefix + n * branch) for n in (4, 4, 1)]

    def test_more_cells_make_no_more_runs_and_the_self_check_is_made_once(self, tokenizer):
        fresh, calls = own_model(tokenizer), []
        examples, vectors = asked("letter", fresh, 4), random_vectors(fresh)
        for multipliers in ([1.0], [0.0, 1.0, -1.0, 2.0, 3.0]):
            with Watch(fresh) as watch:
                evaluate(fresh, examples, vectors, multipliers)
            calls.append(watch.calls)
        # The self-check: plain runs of the unsteered model, the first and the last layer, and one tree.
        assert calls == [[3 + 1 + 1] * 4, [1] * 4]


@pytest.mark.parametrize(("effect", "share"), [(2.0, 1.0), (0.02, 0.2), (1e-5, 0.05)])
def test_where_steering_does_little_the_engines_must_be_closer(effect, share):
    scores = torch.tensor([[20.0, 20.0 + effect], [19.0, 19.0]], dtype=torch.float64)
    assert small(scores) == pytest.approx(share)


@pytest.mark.parametrize(
    ("batch_tokens", "count", "shapes"),
    [
        (120, 10, [(1, 98)] * 5),
        (190, 10, [(1, 147)] * 3 + [(1, 49)]),
        (1100, 25, [(1, 735), (1, 490)]),
        (5000, 25, [(2, 735)]),
    ],
)
def test_a_forward_has_as_many_whole_rows_as_its_tokens_allow(model, batch_tokens, count, shapes):
    """Questions that share nothing: 23 tokens before the branches and 13 conditions of 2, so 49 tokens each."""
    first = asked("letter", model, 1)[0]
    examples = [replace(first, prompt=(3 + n, *[5] * 23), lead=(6,)) for n in range(count)]
    vectors, multipliers = random_vectors(model), [0.0, 1.0, 2.0, 3.0]
    evaluate(model, examples[:1], vectors, [1.0])  # the self-check
    with Watch(model) as watch:
        evaluate(model, examples, vectors, multipliers, layers=[0, 1], batch_tokens=batch_tokens)
    assert watch.blocks[0] == shapes


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
