"""Steered text: the fast way against plain forwards and against transformers' own, and what is refused."""

from dataclasses import replace

import miniremote
import pytest
import torch
from conftest import own_model, random_examples, random_vectors, refused
from plain_model import Watch, blocks, logits

from companion.models import load_model
from steerkit import Vectors, generate, traces
from steerkit.generation import deltas_of, ends_of, prompt_tokens
from steerkit.items import Item
from steerkit.prompts import Prompter, letter_body
from steerkit.remote import run
from steerkit.templates import TEMPLATES

SAID = "I love the blue river."
MULTIPLIERS = [-2.0, 0.0, 1.0]
NEW = 12  # beyond the windows of 9 tokens, with a short prompt too


def uncached(model, prompt: list[int], layer: int, delta, count: int, ends: list[int]) -> list[int]:
    """The obvious way: each token by a plain forward of everything before it."""
    new: list[int] = []
    while len(new) < count and not set(new) & set(ends):
        [found] = run(model, traces.steered_logits, prompt[:-1], [prompt[-1], *new], layer, delta)
        new.append(int(found[-1].argmax()))
    return new[:-1] if set(new) & set(ends) else new


def tokens_of(model, prompt, vectors, layer) -> list[list[int]]:
    """What the cached way writes, token by token."""
    deltas = deltas_of(vectors, "full", layer, MULTIPLIERS)
    [found] = traces.continued(traces.site_of(model), prompt, layer, deltas, NEW, [])
    return found.tolist()


def greedy(model, prompt: list[int], count: int = NEW, eos_token_id=None) -> list[int]:
    """What transformers' own `generate` writes, unsteered."""
    given = {"do_sample": False, "max_new_tokens": count, "eos_token_id": eos_token_id}
    return model.lm._module.generate(torch.tensor([prompt]), **given)[0, len(prompt) :].tolist()


class TestTokens:
    @pytest.mark.parametrize(("layer", "size"), [(0, 3), (3, 3), (2, 30)])
    def test_the_cache_gives_the_tokens_of_a_plain_forward_each(self, any_model, layer, size):
        """Short prompts grow beyond the sliding windows, long ones are beyond them from the start; multiplier zero
        is the model's own greedy text."""
        vectors, prompt = random_vectors(any_model, ["full"], scale=4.0), list(range(3, 3 + size))
        found = tokens_of(any_model, prompt, vectors, layer)
        deltas = deltas_of(vectors, "full", layer, MULTIPLIERS)
        assert found == [uncached(any_model, prompt, layer, delta, NEW, []) for delta in deltas]
        assert len({tuple(row) for row in found}) > 1
        assert found[1] == greedy(any_model, prompt)

    def test_every_token_is_the_likeliest_of_the_steered_model_from_the_last_prompt_token_on(self, any_model):
        vectors, prompt = random_vectors(any_model, ["full"], scale=0.5), list(range(3, 9))
        for multiplier, new in zip(MULTIPLIERS, tokens_of(any_model, prompt, vectors, 1), strict=True):
            delta = multiplier * vectors.at(1)[0]
            rows = logits(any_model, prompt + new, len(prompt) - 1, 1, delta)[len(prompt) - 1 : -1]
            chosen = rows[range(NEW), new]
            assert (rows.max(-1).values - chosen).max() < 1e-4

    def test_half_precision_writes_too_and_a_step_reads_the_weights_once_for_all_multipliers(self, tokenizer):
        model = own_model(tokenizer, dtype=torch.bfloat16)
        vectors = random_vectors(model, ["full"])
        with Watch(model) as watch:
            found = tokens_of(model, [5, 6, 7], vectors, 2)
        assert watch.blocks[3] == [(3, 3)] + [(3, 1)] * (NEW - 1) and watch.head == [(3, 1)] * NEW
        assert found[1] == greedy(model, [5, 6, 7])


class TestText:
    def test_it_is_that_of_each_multiplier_in_order(self, any_model):
        vectors = random_vectors(any_model, ["full"], scale=0.5)
        found = generate(any_model, SAID, vectors, layer=2, multipliers=[1, 0, -2], max_new_tokens=NEW)
        assert [multiplier for multiplier, _ in found] == [1.0, 0.0, -2.0]
        prompt, ends = prompt_tokens(any_model, SAID), ends_of(any_model)
        for multiplier, text in found:
            [delta] = deltas_of(vectors, "full", 2, [multiplier])
            new = uncached(any_model, prompt, 2, delta, NEW, ends)
            assert text == any_model.tokenizer.decode(new, skip_special_tokens=True)

    def test_a_row_ends_where_the_model_ends_it_and_the_others_go_on(self, tokenizer):
        model = own_model(tokenizer)
        vectors, prompt = random_vectors(model, ["full"]), prompt_tokens(model, SAID)
        rows = tokens_of(model, prompt, vectors, 2)
        end = next(token for token in rows[1] if token not in rows[0] + rows[2])
        model.lm._module.generation_config.eos_token_id = [end, 10_000]
        texts = dict(generate(model, SAID, vectors, layer=2, multipliers=MULTIPLIERS, max_new_tokens=NEW))
        assert texts[0.0] == tokenizer.decode(rows[1][: rows[1].index(end)])
        assert texts[1.0] == tokenizer.decode(rows[2])
        assert rows[1].index(end) + 1 == len(greedy(model, prompt, eos_token_id=end))

    def test_the_prompt_is_that_of_the_answer_formats_and_the_system_prompt_may_be_another(self, model):
        item = Item("i", SAID, " Yes", " No", statement="I walk")
        asked = Prompter(model.tokenizer, model.template).letter(item, "A")
        said = prompt_tokens(model, letter_body(item, "A"))
        assert said == prompt_tokens(model, asked) == list(asked.prompt)
        assert prompt_tokens(model, SAID, "the river") != prompt_tokens(model, SAID)

    def test_an_example_is_continued_after_its_prompt(self, model):
        [example], vectors = random_examples("letter", 1, len(model.tokenizer)), random_vectors(model)
        found = generate(model, example, vectors, layer=1, multipliers=[0], name="other", max_new_tokens=5)
        new = greedy(model, list(example.prompt), 5, eos_token_id=ends_of(model))
        assert found == [(0.0, model.tokenizer.decode(new, skip_special_tokens=True))]

    def test_a_server_writes_the_same(self, monkeypatch, tmp_path):
        monkeypatch.setenv("STEERKIT_ARTIFACTS", str(tmp_path))
        server, given = miniremote.shared(), {"layer": 1, "multipliers": MULTIPLIERS, "max_new_tokens": NEW}
        here, there = load_model("tiny-gemma3"), load_model("tiny-gemma3", remote=server.url)
        vectors, before = random_vectors(here, scale=0.5), len(server.seen())
        assert generate(there, SAID, vectors, **given) == generate(here, SAID, vectors, **given)
        assert len(server.seen()) == before + 1


def test_when_memory_runs_out_fewer_rows_at_a_time_give_the_same_text(model):
    vectors, failed = random_vectors(model), []
    given = {"layer": 2, "multipliers": MULTIPLIERS, "max_new_tokens": 6}
    wanted = generate(model, SAID, vectors, **given)

    def too_big(block, inputs):
        if len(inputs[0]) > 1:
            failed.append(len(inputs[0]))
            raise torch.OutOfMemoryError

    with blocks(model.lm._module)[2].register_forward_pre_hook(too_big):
        assert generate(model, SAID, vectors, **given) == wanted
    assert failed == [3, 2]


BARE = replace(TEMPLATES["base"], bos=False)
NARROW = Vectors(("full",), (0, 1), torch.ones(1, 2, 16))
FEW = Vectors(("full",), (0, 2), torch.ones(1, 2, 32))
LONG = r"at most 2048 tokens, the positions of llama; found \d+ and 5000 new"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"layer": -1}, "a layer from 0 to 3 of llama; found layer -1"),
        ({"multipliers": [1, 0, 1.0]}, "different multipliers, at least one"),
        ({"name": "fool"}, r"names of vectors \(full, other\); found fool"),
        ({"max_new_tokens": 0}, "at least one new token; found 0"),
        ({"max_new_tokens": 5000}, LONG),
        ({"multipliers": [3e38]}, r"multipliers that move activations by at most .* with multiplier 3e\+38"),
        ({"vectors": NARROW}, r"width 32.*found width 16"),
        ({"vectors": FEW}, r"layer these vectors have \(0, 2\); found layer 1"),
        ({"template": TEMPLATES["base"], "system": "the river"}, "which has no place for one"),
        ({"template": BARE, "prompt": ""}, "a prompt of at least one token"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(model, given, said):
    good = {"prompt": SAID, "vectors": random_vectors(model, scale=10.0), "layer": 1, "multipliers": [1.0]}
    asked = good | given
    refused(generate, replace(model, template=asked.pop("template", model.template)), said=said, **asked)


def test_a_model_that_gives_no_numbers_is_no_text(model):
    """Otherwise the likeliest of NaN is a token like any other."""

    def broken(block, inputs, output):
        return output * torch.nan

    given, said = (model, SAID, random_vectors(model)), "finite logits; found NaN or infinity"
    with model.lm._module.get_output_embeddings().register_forward_hook(broken):
        refused(generate, *given, layer=1, multipliers=[1.0], said=said)
