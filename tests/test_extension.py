"""What a user adds from outside, in a few lines, runs like what is built in: an answer format, and a model.

A model is one entry of models.json: it has a label and a colour, and the protocol runs with it.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

import steerkit as sk
from companion import models, page
from companion.models import model_of
from companion.outline import outline
from companion.profiles import load_profile
from companion.tan import experiment
from companion.tan.jobs import Job, examples
from steerkit.extraction import mean_difference
from steerkit.formats import FORMATS, Format, ask
from steerkit.items import Item
from steerkit.prompts import Example, Prompter, split_words
from steerkit.propensity import one_token
from steerkit.templates import TEMPLATES
from steerkit.vectors import norm_matched_random


def number(prompter: Prompter, item: Item, shown: str) -> Example:
    """Two numbered options, of which `shown` is the one that matches."""
    texts = [item.matching_text or item.matching, item.not_matching_text or item.not_matching]
    first, second = texts if shown == "1" else reversed(texts)
    body = f"{item.stem or item.question}\n1: {first.strip()}\n2: {second.strip()}{prompter.template.cue}"
    answers = [shown, "2" if shown == "1" else "1"]
    return prompter.example(item.id, "number", body, answers, split_words, positive_answer=shown)


NUMBER = Format("number", number, one_token, "logits", "#E69F00", ("1", "2"))


class TestAnswerFormat:
    @pytest.fixture(autouse=True)
    def added(self, monkeypatch):
        monkeypatch.setitem(FORMATS, "number", NUMBER)

    def test_plain_texts_are_asked_in_it_and_evaluated(self):
        model = model_of("tiny")
        examples = ask(model, [("we talk", "I love music", "I hate music")] * 2, "number")
        assert [example.positive_answer for example in examples] == ["1", "2"]
        assert examples[0].matching == examples[1].not_matching != examples[0].not_matching
        vectors = norm_matched_random(mean_difference(sk.differences(model, examples, [1]), [1]), 1, seed=0)
        grid = sk.evaluate(model, examples, vectors, [-1.0, 0.0, 1.0])
        slopes = sk.slopes(grid.table())
        assert len(slopes) == 2 and np.isfinite(slopes["steerability"]).all()
        assert set(grid.table()["format"]) == {"number"}

    def test_the_protocol_runs_in_it_with_a_profile_that_does_not_know_it(self, own_folders):
        settings = replace(load_profile("smoke"), datasets=("narcissism",), counterbalanced=True)
        grid = experiment.grid(settings, "number")
        assert set(grid["format"]) == {"number"} and np.isfinite(grid["propensity"]).all()
        full = sk.slopes(grid[grid["vector"] == "full"])
        assert set(full["positive_answer"]) == {"1", "2"} and full["steerability"].abs().min() > 0

    @pytest.mark.parametrize("name", ["narcissism", "survival-instinct"])
    def test_both_forms_of_an_item_differ_in_the_label_that_matches(self, own_folders, name):
        settings = replace(load_profile("smoke"), datasets=(name,), counterbalanced=True)
        _, test = examples(Job(settings, "grid", name, "number"), model_of("tiny"))
        found = {example.id: (example.matching, example.not_matching) for example in test}
        assert len(found) == len(test)
        firsts = [example for example in test if not example.id.endswith("~other")]
        for first in firsts:  # a set that lists both orders has the other one already
            assert found.get(f"{first.id}~other", found[first.id][::-1]) == found[first.id][::-1]
        assert {first.positive_answer for first in firsts} == {"1", "2"}
        assert len(test) > len(firsts) or name != "narcissism"


TINY = {"name": "tiny-qwen2", "label": "tiny random Qwen", "colour": "#56B4E9", "tiny": "qwen2"}
ENTRY = TINY | {"template": "plain", "layer": 1, "licence": "CC0", "dtype": "float32"}


@pytest.fixture
def entry(tmp_path, own_folders, monkeypatch):
    """Adds an entry to a models.json of one's own, and that file to the models."""

    def add(**entry: object) -> None:
        (tmp_path / "models.json").write_text(json.dumps([entry]))
        for name, spec in models.read_models(tmp_path / "models.json").items():
            monkeypatch.setitem(models.MODELS, name, spec)

    return add


def test_another_architecture_is_one_entry(entry):
    entry(**ENTRY)
    settings = load_profile("smoke", model="tiny-qwen2", datasets="narcissism")
    grid = experiment.grid(settings, "letter")
    [manifest] = grid.attrs["manifests"]
    assert manifest["inputs"]["model"] == "tiny-qwen2" and manifest["inputs"]["layer"] == ENTRY["layer"]
    assert manifest["source"]["architecture"] == "qwen2" and set(grid["multiplier"]) == {-1.5, 0.0, 1.5}
    assert page.label_of(settings) == "tiny random Qwen"
    assert outline("tiny-qwen2").n_layers == 4


def test_a_folder_is_one_entry(entry, tmp_path):
    lm, folder = models.load_model("tiny").lm, tmp_path / "checkpoint"
    lm._module.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    entry(name="mine", label="my model", folder=str(folder), template="plain", dtype="float32")
    runs = (load_profile("smoke", model=name, datasets="openness", layer=2) for name in ("mine", "tiny"))
    own, tiny = (experiment.grid(settings, "statement") for settings in runs)
    assert models.label("mine") == "my model" and models.label("org/other") == "org/other"
    assert own["propensity"].tolist() == pytest.approx(tiny["propensity"].tolist(), abs=1e-5)


def test_every_entry_of_the_book_says_what_a_reader_needs():
    colours = [spec.colour for spec in models.MODELS.values() if spec.colour]
    assert len(set(colours)) == len(colours) >= 6
    for name, spec in models.MODELS.items():
        assert spec.name == name and spec.licence and spec.dtype
        assert bool(spec.tiny) != bool(spec.hub_id)  # one way to be obtained
        assert spec.tiny or spec.revision or spec.wheel  # what is fetched is pinned
        assert spec.template in TEMPLATES and spec.attention in ("sdpa", "eager")
        if spec.wheel:
            hashes = [spec.wheel.sha256, *(part.sha256 for part in spec.wheel.parts)]
            assert all(len(sha256) == 64 for sha256 in hashes)
