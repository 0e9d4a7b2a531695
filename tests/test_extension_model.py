"""A model is one entry of models.json: added from outside, it has a label and a colour, and the protocol runs with it."""

from __future__ import annotations

import json

import pytest

from companion import models, page
from companion.outline import outline
from companion.profiles import load_profile
from companion.tan import experiment
from steerkit.templates import TEMPLATES

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
    own, tiny = (
        experiment.grid(load_profile("smoke", model=name, datasets="openness", layer=2), "statement")
        for name in ("mine", "tiny")
    )
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
