"""What an evaluation does not trust: itself, its input, and the memory of the machine."""

import random
import warnings
import weakref
from dataclasses import replace

import plain_model
import pytest
import torch
from conftest import asked, close, deaf, own_model, random_vectors, refused
from plain_model import blocks, propensities
from transformers import AttentionInterface

from companion.tiny import ARCHITECTURES
from steerkit import Example, SteerkitError, Vectors, differences, evaluate, gradients, grid, traces
from steerkit.formats import question
from steerkit.layout import length
from steerkit.remote import run

MULTIPLIERS, LAYERS = [-1.5, 0.0, 1.0], [1, 3]
SHORT = Example("e0", "letter", (3, 8, 9), (5,), (4,), (10,), (11,), "A")
# What shares sequences: how it is called, the numbers of plain forwards, and what is said where it cannot.
WORKS = {
    "evaluate": (
        lambda model, given: evaluate(model, given, full(model), MULTIPLIERS, layers=LAYERS).propensity,
        lambda model, given: propensities(model, given, full(model), LAYERS, MULTIPLIERS),
        "using the slow direct engine",
    ),
    "differences": (
        lambda model, given: differences(model, given, LAYERS),
        lambda model, given: plain_model.differences(model, given, LAYERS, plain_model.outputs),
        "reading each answer in a forward of its own",
    ),
    "gradients": (
        lambda model, given: gradients(model, given, LAYERS).values,
        lambda model, given: run(model, traces.gradients_apart, [*map(question, given)], LAYERS, 0)[0],
        "a forward and backward for each answer of its own",
    ),
}


def full(model) -> Vectors:
    return random_vectors(model, ["full"])


def leak(block, inputs, output):
    """What runs through a sequence and not along a prompt: a token is moved by the one before it, whatever the mask."""
    return output + 0.3 * torch.nn.functional.pad(output[:, :-1], (0, 0, 1, 0))


def flat(block, inputs, options):
    if options.get("attention_mask") is not None and options["attention_mask"].dim() == 4:
        raise ValueError("too many values to unpack")


def first_of(model):
    return blocks(model.lm._module)[0]


FAULTS = {
    "no masks": lambda model: setattr(model.config, "_attn_implementation", "deaf"),
    "a leak": lambda model: first_of(model).register_forward_hook(leak),
    "flat masks": lambda model: first_of(model).register_forward_pre_hook(flat, with_kwargs=True),
}
FAULTS = [("llama", fault) for fault in FAULTS.values()]
FAULTS += [(name, None) for name in ("mistral", "gemma2", "gemma3")]  # a forgotten window


@pytest.mark.parametrize(("architecture", "fault"), FAULTS)
@pytest.mark.parametrize("work", WORKS)
def test_what_goes_wrong_in_a_shared_sequence_is_noticed_and_done_slowly(
    tokenizer, monkeypatch, architecture, fault, work
):
    AttentionInterface.register("deaf", deaf)
    model, (quick, slow, said) = own_model(tokenizer, architecture), WORKS[work]
    if fault is None:
        monkeypatch.setattr(traces, "windows", lambda config: [None] * config.num_hidden_layers)
    else:
        fault(model)
    examples = asked("statement", model)
    with pytest.warns(RuntimeWarning, match=f"{said}, because") as warned:
        close(quick(model, examples), slow(model, examples))
    ignores = "attention implementation 'deaf' ignores custom masks; load the model with sdpa or eager"
    assert (ignores in str(warned[0].message)) == (model.config._attn_implementation == "deaf")


@pytest.mark.parametrize(("factor", "plus", "said"), [(1, 0.25, "0.25"), (torch.nan, 0, "inf")])
def test_what_differs_or_is_no_number_is_not_trusted(tokenizer, monkeypatch, factor, plus, said):
    model = own_model(tokenizer)
    monkeypatch.setattr(grid, "tree", lambda *given: real(*given) * factor + plus)
    with pytest.warns(RuntimeWarning, match=f"differs from the direct engine by {said}.*tolerance 0.001"):
        found = evaluate(model, asked("letter", model), random_vectors(model), MULTIPLIERS)
    assert found.engine == "direct" and "differs from the direct engine" in found.reason


def completion(tokenizer, name: str, *sizes: int) -> Example:
    """An example with a prompt and two answers of so many tokens."""
    rng = random.Random(name)
    prompt, first, second = (tuple(rng.randrange(3, len(tokenizer)) for _ in range(size)) for size in sizes)
    return Example(name, "statement", prompt, (), first, second, ())


class TestProofs:
    """A proof holds for what it was made on. The model has a window of 9 tokens that nobody knows of."""

    @pytest.fixture
    def windowed(self, tokenizer, monkeypatch):
        monkeypatch.setattr(traces, "windows", lambda config: [None] * config.num_hidden_layers)
        return own_model(tokenizer, "mistral")

    def test_a_proof_says_nothing_about_longer_prompts_but_a_failure_about_shorter(self, tokenizer, windowed):
        vectors = random_vectors(windowed)
        assert evaluate(windowed, [completion(tokenizer, "a", 3, 2, 2)], vectors, [1.0]).engine == "tree"
        for size in (30, 20):
            with pytest.warns(RuntimeWarning, match="direct engine"):
                found = evaluate(windowed, [completion(tokenizer, "a", size, 2, 2)], vectors, [1.0])
            assert found.engine == "direct"

    def test_the_question_that_reaches_farthest_is_tried_not_the_longest(self, tokenizer, windowed):
        reaches = completion(tokenizer, "reaches", 14, 1, 1)  # 15 positions, 15 tokens
        most = completion(tokenizer, "most", 2, 7, 7)  # 8 positions, 15 tokens
        with pytest.warns(RuntimeWarning, match="direct engine"):
            evaluate(windowed, [most, reaches], random_vectors(windowed), [1.0])

    def test_one_format_proves_nothing_about_another(self, tokenizer, monkeypatch):
        """Letters never call the whole unembedding, so that they cannot notice that it is wrong."""
        model, unembed = own_model(tokenizer), traces.unembed
        monkeypatch.setattr(traces, "unembed", lambda site, hidden: 2 * unembed(site, hidden))
        vectors = random_vectors(model)
        assert evaluate(model, asked("letter", model), vectors, [1.0]).engine == "tree"
        with pytest.warns(RuntimeWarning, match="direct engine"):
            evaluate(model, [completion(tokenizer, "short", 3, 2, 2)], vectors, [1.0])


LONG = {"short_factor": [1.0] * 4, "long_factor": [8.0] * 4, "original_max_position_embeddings": 20}


@pytest.fixture
def changed(tokenizer, monkeypatch):
    """`changed(architecture, **settings)`: a tiny model with some settings of its own."""

    def make(architecture: str, **settings):
        kind, usual = ARCHITECTURES[architecture]
        monkeypatch.setitem(ARCHITECTURES, architecture, (kind, usual | settings))
        return own_model(tokenizer, architecture)

    return make


def with_ropes(kind: str, **more):
    return {"rope_parameters": {"rope_type": kind, "factor": 8.0, "rope_theta": 1e4} | more}


class TestPositions:
    """Where the length of a sequence decides how a position is encoded, or whether there is one at all."""

    @pytest.mark.parametrize(
        ("sizes", "engine"), [((12, 17), "tree"), ((12, 30), "direct"), ((25, 30), "direct")]
    )
    def test_prompts_on_both_sides_of_a_limit_are_read_one_by_one(self, tokenizer, changed, sizes, engine):
        """Shorter ones would get the frequencies of the longest, in an answer that is wrong by more than it is large."""
        model = changed("llama", max_position_embeddings=80, **with_ropes("longrope", **LONG))
        examples = [completion(tokenizer, f"e{size}", size, 2, 2) for size in sizes]
        vectors, layers = random_vectors(model, ["full"]), [1, 3]
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = evaluate(model, examples, vectors, MULTIPLIERS, layers=layers)
            read = differences(model, examples, layers)
        assert found.engine == engine
        limits = ["more than 20 tokens" in str(warning.message) for warning in said]
        assert limits == [True] * 2 * (engine == "direct")
        close(found.propensity, propensities(model, examples, vectors, layers, MULTIPLIERS))
        if engine == "tree":
            close(read, torch.cat([differences(model, [example], layers) for example in examples]))

    def test_frequencies_of_the_longest_sequence_so_far_are_not_relied_upon(self, tokenizer, changed):
        model = changed("llama", max_position_embeddings=20, **with_ropes("dynamic"))
        short, long = (completion(tokenizer, f"e{size}", size, 2, 2) for size in (16, 19))
        assert evaluate(model, [short], random_vectors(model), [1.0]).engine == "tree"
        said = "at most 20 tokens, the positions of llama; found 21 tokens in item e19"
        refused(evaluate, model, [long], random_vectors(model), [1.0], said=said)

    @pytest.mark.parametrize("work", ["evaluate", "differences", "gradients"])
    def test_a_prompt_longer_than_the_table_of_positions_is_named(self, tokenizer, changed, work):
        model = changed("gpt2", n_positions=24)
        examples = [completion(tokenizer, f"e{size}", size, 2, 2) for size in (22, 23)]
        call = {
            "evaluate": lambda given: evaluate(model, given, random_vectors(model), [1.0]),
            "differences": lambda given: differences(model, given, [1]),
            "gradients": lambda given: gradients(model, given, [1]),
        }[work]
        call(examples[:1])
        refused(call, examples, said="at most 24 tokens, the positions of gpt2; found 25 tokens in item e23")

    def test_where_positions_are_computed_a_warning_names_the_item_that_is_too_long(self, tokenizer, changed):
        model = changed("llama", max_position_embeddings=24)
        examples = [completion(tokenizer, f"e{size}", size, 2, 2) for size in (22, 23)]
        said = "llama was made for texts of at most 24 tokens; found 25 tokens in item e23"
        with pytest.warns(RuntimeWarning, match=said):
            assert evaluate(model, examples, random_vectors(model), [1.0]).engine == "tree"

    def test_a_token_beyond_the_vocabulary_is_named_before_anything_runs(self, tokenizer, model):
        odd = replace(completion(tokenizer, "odd", 3, 2, 2), matching=(len(tokenizer),))
        known = f"tokens below {len(tokenizer)}, as llama has them; found token {len(tokenizer)} in item odd"
        refused(evaluate, model, [odd], random_vectors(model), [1.0], said=known)


class TestBadInput:
    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"layers": [0, -1]}, "layer from 0 to 3 of llama; found layer -1"),
            ({"layers": [0, 4]}, "layer from 0 to 3 of llama; found layer 4"),
            ({"layers": []}, "different layers"),
            ({"layers": [1, 1]}, "different layers"),
            ({"multipliers": [0.0, -0.0]}, "different multipliers"),
            ({"multipliers": []}, "different multipliers"),
            ({"fewer": {"fool": [1.0]}}, r"\(full, other\); found fool"),
            ({"examples": []}, "at least one example"),
            ({"engine": "fast"}, r"tree, direct.*found 'fast'"),
            ({"fidelity": "exact"}, r"letter, paper, bench.*found 'exact'"),
        ],
    )
    def test_what_makes_no_grid_is_refused_in_words(self, model, given, said):
        examples = asked("letter", model)
        good = {"examples": examples, "vectors": random_vectors(model), "multipliers": MULTIPLIERS}
        refused(evaluate, model, said=said, **good | given)

    @pytest.mark.parametrize("engine", ["tree", "direct"])
    def test_one_broken_example_among_good_ones_is_refused(self, tokenizer, engine):
        """The self-check, on the longest prompt, does not meet the token whose logit is no number."""
        model, long = own_model(tokenizer), replace(SHORT, id="e1", prompt=(3, 8, 9, 12, 13))
        examples = [replace(long, matching=(6,), not_matching=(7,)), SHORT]
        model.lm._module.lm_head.weight.data[SHORT.matching[0]] = torch.nan
        given = model, examples, random_vectors(model, ["full"]), [-2.0, 0.0, 1.0]
        refused(evaluate, *given, engine=engine, said="NaN or infinity for example e0")


real = grid.tree


def fail_if(condition, error: Exception):
    def batch(model, batches, vectors, cells, max_tokens):
        if condition(batches[0], cells, max_tokens):
            raise error
        return real(model, batches, vectors, cells, max_tokens)

    return batch


CUDA = torch.OutOfMemoryError("CUDA out of memory.")
CPU = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
OTHER = RuntimeError("mat1 and mat2 shapes cannot be multiplied")


class TestMemory:
    """It runs out: smaller pieces, the same numbers, and nothing of the failed attempt left behind."""

    @pytest.mark.parametrize("error", [CUDA, CPU])
    @pytest.mark.parametrize("too_much", [lambda q, c, t: len(q) > 1, lambda q, c, t: t > 100 and len(c) > 2])
    def test_smaller_batches_and_sequences_give_the_same_numbers(self, model, monkeypatch, error, too_much):
        examples, vectors, failed = asked("letter", model, 5), random_vectors(model), []
        wanted = evaluate(model, examples, vectors, MULTIPLIERS)
        monkeypatch.setattr(grid, "tree", fail_if(lambda *a: too_much(*a) and not failed.append(a), error))
        found = evaluate(model, examples, vectors, MULTIPLIERS)
        assert failed and found.engine == "tree"
        close(found.scores, wanted.scores)

    @pytest.mark.parametrize(
        ("proven", "when", "error", "said"),
        [
            (True, lambda q, cells, t: len(cells) > 2, CUDA, "memory for one prompt"),
            (False, lambda *given: True, CUDA, "memory for one prompt"),  # in the self-check already
            (True, lambda q, cells, t: len(q) > 1, OTHER, "mat1 and mat2"),
        ],
    )
    def test_too_much_for_one_prompt_is_told(self, tokenizer, monkeypatch, proven, when, error, said):
        """And another error is none of memory."""
        fresh = own_model(tokenizer)
        if proven:
            evaluate(fresh, asked("letter", fresh), random_vectors(fresh), MULTIPLIERS)
        monkeypatch.setattr(grid, "tree", fail_if(when, error))
        with pytest.raises(SteerkitError if error is CUDA else RuntimeError, match=said):
            evaluate(fresh, asked("letter", fresh), random_vectors(fresh), MULTIPLIERS)

    def test_it_runs_out_within_a_forward_whose_tensors_are_gone_when_the_smaller_one_runs(self, model):
        """As it does in life: inside a block, inside an nnsight trace."""
        examples, vectors, failed, alive = asked("letter", model, 4), random_vectors(model), [], []
        wanted = evaluate(model, examples, vectors, MULTIPLIERS)
        limit = max(length(question(one), 1 + 4 * 2 * 2) for one in examples)

        def too_big(block, inputs):
            alive.append(sum(tensor() is not None for tensor in failed))
            if inputs[0].shape[1] > limit:
                failed.append(weakref.ref(inputs[0]))
                raise torch.OutOfMemoryError

        with blocks(model.lm._module)[1].register_forward_pre_hook(too_big):
            found = evaluate(model, examples, vectors, MULTIPLIERS)
        assert len(failed) == 3  # four, two and two
        assert max(alive) == 0
        close(found.scores, wanted.scores)
