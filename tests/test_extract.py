"""Extraction against plain forwards of each whole string, and what is done with the differences."""

from dataclasses import replace

import pytest
import torch
from conftest import asked, close, deaf, own_model, refused
from plain_model import Watch, activations, strings
from torch.testing import assert_close
from transformers import AttentionInterface

from companion.tiny import ARCHITECTURES
from steerkit import extraction, traces
from steerkit.extraction import answers, differences, extract, mean_difference, resampled, shuffled

LAYERS = [0, 1, 2, 3]
FORMS = ["letter", "statement"]
WARNS = {"expected_warning": RuntimeWarning, "match": "a forward of its own"}


def by_hand(model, example, layers) -> torch.Tensor:
    """[l, d]: at the letter, index -2 of the string; over a completion, the mean of its tokens."""
    sides = []
    for tokens, answer in zip(strings(example), (example.matching, example.not_matching), strict=True):
        found = activations(model, tokens, layers)
        sides.append(found[:, -2] if example.format == "letter" else found[:, -len(answer) :].mean(1))
    return sides[0] - sides[1]


@pytest.mark.parametrize("form", FORMS)
def test_a_difference_is_that_of_two_plain_forwards_at_every_layer_in_batches_of_any_size(any_model, form):
    """And with them, with any padding."""
    examples = asked(form, any_model, 4)
    wanted = torch.stack([by_hand(any_model, e, LAYERS) for e in examples])
    for batch_tokens in (None, 1, 60):
        close(differences(any_model, examples, LAYERS, batch_tokens=batch_tokens), wanted)
    assert wanted.norm(dim=-1).min() > 1e-2


def test_rows_follow_the_examples_and_columns_the_layers_and_swapped_sides_turn_them_around(model):
    examples = asked("statement", model, 4)
    whole = differences(model, examples, LAYERS)
    close(differences(model, examples[::-1], [3, 0]), whole.flip(0)[:, [3, 0]])
    swapped = [replace(e, matching=e.not_matching, not_matching=e.matching) for e in examples]
    close(differences(model, swapped, LAYERS), -whole)


@pytest.mark.parametrize("form", FORMS)
def test_tokens_of_answers_are_those_of_plain_forwards_and_their_means_make_the_difference(any_model, form):
    examples = asked(form, any_model, 4)
    found = answers(any_model, examples, 2)
    for example, sides in zip(examples, found, strict=True):
        of = zip(strings(example), (example.matching, example.not_matching), sides, strict=True)
        for tokens, answer, side in of:
            start = len(example.prompt) + len(example.lead)
            close(side, activations(any_model, tokens, [2])[0, start : start + len(answer)])
    means = torch.stack([one.mean(0) - other.mean(0) for one, other in found])
    close(means, differences(any_model, examples, [2])[:, 0])


def test_the_vector_is_the_mean_of_the_differences_and_called_full(model):
    examples = asked("letter", model, 4)
    found, wanted = extract(model, examples, [3, 1], manifest={"a": 1}), differences(model, examples, [3, 1])
    assert (found.names, found.layers, found.manifest) == (("full",), (3, 1), {"a": 1})
    assert_close(found.values[0], wanted.mean(0))


def test_one_forward_reads_all_layers_of_a_batch_and_stops_after_the_last_one(model):
    """Both answers hang off one prompt, which is run once; blocks above the highest layer are not run."""
    examples, done = asked("letter", model, 4), []
    differences(model, examples, [2])  # the self-check
    with Watch(model) as watch:
        differences(model, examples, [0, 2], progress=done.append)
    lengths = [len(e.prompt) + len(e.lead) + 2 for e in examples]
    assert watch.blocks == [[(1, sum(lengths))]] * 3 + [[]] and watch.head == []
    assert [extraction.contrast_length(e) for e in examples] == lengths
    assert sum(done) == sum(lengths)


class TestSelfCheck:
    """Where two answers cannot share a sequence, each gets a forward of its own."""

    def test_single_tokens_are_then_the_same(self, tokenizer):
        AttentionInterface.register("numb", deaf)
        model = own_model(tokenizer)
        examples = asked("statement", model, 4)
        wanted = differences(model, examples, [3])[:, 0]
        model.lm._module.config._attn_implementation = "numb"
        with pytest.warns(**WARNS):
            last = answers(model, examples, 3)
        close(torch.stack([one.mean(0) - other.mean(0) for one, other in last]), wanted)

    def test_a_way_that_gives_no_numbers_proves_nothing(self, tokenizer, monkeypatch):
        monkeypatch.setattr(traces, "contrasts", lambda *given: [torch.full((1, 1, 32), torch.nan)])
        model = own_model(tokenizer)
        with pytest.warns(**WARNS):
            differences(model, asked("letter", model), [2])

    def test_weights_that_give_no_numbers_are_no_fault_of_the_attention(self, tokenizer):
        model = own_model(tokenizer)
        with torch.no_grad():
            model.layers[1]._module.mlp.down_proj.weight[0, 0] = torch.nan
        error = refused(lambda: differences(model, asked("statement", model), [2]))
        assert error.expected.startswith("finite activations for item")

    def test_a_proof_at_a_low_layer_says_nothing_about_higher_ones(self, tokenizer, monkeypatch):
        """Block 0 sees everything; the blocks above have a window that nobody knows of."""
        name, settings = ARCHITECTURES["gemma3"]
        kinds = ["full_attention", *["sliding_attention"] * 3]
        monkeypatch.setitem(ARCHITECTURES, "late", (name, settings | {"layer_types": kinds}))
        monkeypatch.setattr(traces, "windows", lambda config: [None] * config.num_hidden_layers)
        late = own_model(tokenizer, "late")
        examples = asked("letter", late, 4)
        differences(late, examples, [0])
        with pytest.warns(**WARNS):
            differences(late, examples, [3])


@pytest.mark.parametrize(
    ("count", "layers", "said"),
    [(4, [7], "layer"), (4, [-1], "layer"), (4, [], "layer"), (4, [0, 0], "layer"), (0, [1], "one example")],
)
def test_layers_that_cannot_be_read_and_no_examples_are_refused(model, count, layers, said):
    refused(differences, model, asked("letter", model, count), layers, said=said)


class TestVectorsFromDifferences:
    found = torch.randn(7, 2, 5, generator=torch.Generator().manual_seed(0))

    def test_resampled_vectors_are_means_of_as_many_rows_drawn_with_replacement(self):
        """Rows that are powers of eight: the digits of seven times the mean are how often each row was drawn."""
        rows = (8.0 ** torch.arange(7)).reshape(7, 1, 1)
        vectors = resampled(rows.double(), [0], count=20, seed=3)
        assert vectors.names == tuple(f"resample-{i:02d}" for i in range(20))
        totals = (7 * vectors.values[:, 0, 0]).round().long().tolist()
        draws = [[total // 8**row % 8 for row in range(7)] for total in totals]
        assert {sum(drawn) for drawn in draws} == {7}
        assert max(map(max, draws)) > 1
        assert len({tuple(drawn) for drawn in draws}) > 15

    def test_all_layers_of_a_resampled_vector_come_from_the_same_rows_which_the_seed_decides(self):
        twice = self.found[:, :1].expand(-1, 2, -1)
        first, again, other = (resampled(twice, [0, 1], 3, seed).values for seed in (1, 1, 2))
        assert torch.equal(first[:, 0], first[:, 1])
        assert torch.equal(first, again) and not torch.equal(first, other)

    def test_shuffled_vectors_are_means_with_signs_by_group_and_the_norm_of_the_vector_at_each_layer(self):
        """Rows along axes of their own: what is left of each in a placebo is its sign, alike in a group."""
        rows, groups = torch.eye(6)[:, None].expand(-1, 2, -1) * 3.0, [0, 0, 1, 1, 2, 3]
        found, full = shuffled(rows, [4, 7], 40, 5, groups=groups), mean_difference(rows, [4, 7])
        assert found.names[:2] == ("shuffled-00", "shuffled-01") and found.layers == (4, 7)
        assert_close(found.values.abs(), full.values.expand(40, -1, -1))
        signs = found.values.sign()
        assert torch.equal(signs[..., 0], signs[..., 1]) and torch.equal(signs[:, 0], signs[:, 1])
        assert 60 < (signs[:, 0, 1:] > 0).sum() < 140  # of 200, a coin each
        assert torch.equal(found.values, shuffled(rows, [4, 7], 40, 5, groups=groups).values)

    def test_groups_are_drawn_whole_so_that_what_cancels_within_a_pair_cancels_in_every_resample(self):
        pairs = torch.randn(6, 1, 3, generator=torch.Generator().manual_seed(0))
        letter = torch.tensor([100.0, 0.0, 0.0])
        rows = torch.cat([pairs + letter, pairs - letter])  # the two items of a pair have opposite letters
        whole = resampled(rows, [0], 30, 0, groups=[*range(6), *range(6)]).values
        single = resampled(rows, [0], 30, 0).values
        assert whole[..., 0].abs().max() < 5 < single[..., 0].abs().max()
        assert resampled(rows, [0], 0, 0).values.shape == (0, 1, 3)
