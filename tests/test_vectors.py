"""Sets of vectors: placebos, joining and picking, files."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from conftest import random_vectors, refused
from safetensors.torch import save_file
from torch.testing import assert_close

from companion.tan.jobs import rescale_to
from steerkit.errors import SteerkitError
from steerkit.vectors import Vectors, concatenate, load_vectors, norm_matched_random


def test_random_vectors_have_the_norms_of_the_first_one_and_other_directions(model):
    vectors = random_vectors(model, seed=1, scale=3.0)
    found = norm_matched_random(vectors, 5, seed=0)
    assert found.names == tuple(f"random-{i:02d}" for i in range(5))
    assert_close(found.values.norm(dim=-1), vectors.values[:1].norm(dim=-1).expand(5, -1))
    for i, j in combinations(range(5), 2):
        assert torch.cosine_similarity(found.values[i], found.values[j], dim=-1).abs().max() < 0.9
    assert torch.equal(found.values, norm_matched_random(vectors, 5, seed=0).values)
    assert not torch.equal(found.values, norm_matched_random(vectors, 5, seed=1).values)


def test_sets_of_vectors_are_joined_and_picked_apart_by_name_and_layer(model):
    first, second = random_vectors(model, ["a", "b"], seed=1), random_vectors(model, ["c"], seed=2)
    joined = concatenate(first, second)
    assert joined.names == ("a", "b", "c")
    picked = joined.select(names=["c", "a"], layers=[3, 1])
    assert (picked.names, picked.layers) == (("c", "a"), (3, 1))
    assert torch.equal(picked.at(1), torch.stack([second.values[0, 1], first.values[0, 1]]))


@pytest.mark.parametrize("join", [rescale_to, concatenate])
@pytest.mark.parametrize("layers", [(2, 3), (2, 1), (1,)])
def test_vectors_of_different_layers_are_not_combined_by_column(join, layers):
    one = Vectors(("a",), (1, 2), torch.ones(1, 2, 3))
    refused(join, one, Vectors(("b",), layers, torch.ones(1, len(layers), 3)), said="the same layers")


def test_what_was_saved_is_read_again(tmp_path, model):
    manifest = {"model": "tiny", "layers": [1], "lösung": None}
    vectors = replace(random_vectors(model, ["full", "SYS_POS"]), manifest=manifest)
    vectors.save(tmp_path / "v.safetensors")
    found = load_vectors(tmp_path / "v.safetensors")
    assert (found.names, found.layers, found.manifest) == (vectors.names, vectors.layers, manifest)
    assert torch.equal(found.values, vectors.values)
    assert [path.name for path in tmp_path.iterdir()] == ["v.safetensors"]


VALUES, ABOUT = {"values": torch.zeros(1, 1, 3)}, {"layers": "[0]", "manifest": "{}"}
READ = r"written by steerkit in .*v\.safetensors; found \w+Error.* Nothing was read"
SPOILT = {
    "missing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "text": lambda path: path.write_text("steering vectors"),
    "empty": lambda path: path.touch(),
    "other tensors": lambda path: save_file({"weights": VALUES["values"]}, path),
    "no metadata": lambda path: save_file(VALUES, path),
    "no JSON": lambda path: save_file(VALUES, path, ABOUT | {"names": "full"}),
    "a number": lambda path: save_file(VALUES, path, ABOUT | {"names": "3"}),
    "two names": lambda path: save_file(VALUES, path, ABOUT | {"names": '["a", "b"]'}),
}


@pytest.mark.parametrize("what", SPOILT)
def test_any_other_file_is_refused_with_its_path(tmp_path, what):
    SPOILT[what](tmp_path / "v.safetensors")
    with pytest.raises(SteerkitError, match="2 vectors, 1 layers" if what == "two names" else READ):
        load_vectors(tmp_path / "v.safetensors")
