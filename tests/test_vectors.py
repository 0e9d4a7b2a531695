"""Sets of vectors: placebos, joining and picking, files."""

from dataclasses import replace
from itertools import combinations

import gguf
import pytest
import torch
from conftest import random_vectors, refused
from safetensors.torch import save_file
from torch.testing import assert_close

from steerkit import Vectors, load_vectors
from steerkit.vectors import check_multipliers, concatenate, norm_matched_random, scaled


def test_random_vectors_have_the_norms_of_the_first_one_and_other_directions(model):
    vectors = random_vectors(model, seed=1, scale=3.0)
    found = norm_matched_random(vectors, 5, seed=0)
    assert found.names == tuple(f"random-{i:02d}" for i in range(5))
    assert_close(found.values.norm(dim=-1), vectors.values[:1].norm(dim=-1).expand(5, -1))
    for i, j in combinations(range(5), 2):
        assert torch.cosine_similarity(found.values[i], found.values[j], dim=-1).abs().max() < 0.9
    assert torch.equal(found.values, norm_matched_random(vectors, 5, seed=0).values)
    assert not torch.equal(found.values, norm_matched_random(vectors, 5, seed=1).values)


def test_scaling_gives_the_norm_of_the_reference_at_each_layer_and_keeps_the_direction(model):
    vectors, reference = random_vectors(model, seed=1), random_vectors(model, ["x", "y"], 2, scale=5.0)
    found = scaled(vectors, reference)
    assert_close(found.values.norm(dim=-1), reference.values[:1].norm(dim=-1).expand(2, -1))
    assert_close(torch.cosine_similarity(found.values, vectors.values, dim=-1), torch.ones(2, 4))
    assert found.names == vectors.names


def test_sets_of_vectors_are_joined_and_picked_apart_by_name_and_layer(model):
    first, second = random_vectors(model, ["a", "b"], seed=1), random_vectors(model, ["c"], seed=2)
    joined = concatenate(first, second)
    assert joined.names == ("a", "b", "c")
    picked = joined.select(names=["c", "a"], layers=[3, 1])
    assert (picked.names, picked.layers) == (("c", "a"), (3, 1))
    assert torch.equal(picked.at(1), torch.stack([second.values[0, 1], first.values[0, 1]]))


@pytest.mark.parametrize("join", [scaled, concatenate])
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


VALUES, TWICE = torch.zeros(1, 1, 3), torch.zeros(2, 1, 3)
READ = r"written by steerkit in .*v\.safetensors; found \w+Error.* Nothing was read"
ABOUT = {"names": '["a"]', "layers": "[0]", "manifest": "{}"}
SPOILT = {
    "missing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "text": lambda path: path.write_text("steering vectors"),
    "empty": lambda path: path.touch(),
    "other tensors": lambda path: save_file({"weights": VALUES}, path),
    "no metadata": lambda path: save_file({"values": VALUES}, path),
    "whole numbers": lambda path: save_file({"values": VALUES.long()}, path, ABOUT),
    "a name twice": lambda path: save_file({"values": TWICE}, path, ABOUT | {"names": '["a", "a"]'}),
}
SAYS = [("names", text) for text in ("full", "3", "[]", '[["a"]]', '["a", "b"]')]
SAYS += [("layers", text) for text in ("[1.5]", '["1"]', "[]")]
SAYS += [("manifest", text) for text in ("[]", '{"inputs": []}', "[" * 99999)]


def test_a_control_vector_of_llama_cpp_has_a_direction_for_each_block(tmp_path, model):
    """In the names that its loader asks for; it counts blocks from 0 and steers none before block 1."""
    vectors = random_vectors(model, ["full", "other"])
    one = vectors.select(["full"], [layer for layer in vectors.layers if layer])
    one.save(tmp_path / "vector.gguf")
    read = gguf.GGUFReader(tmp_path / "vector.gguf")
    about = {name: each.contents() for name, each in read.fields.items() if not name.startswith("GGUF")}
    assert about["general.architecture"] == "controlvector"
    assert about["controlvector.layer_count"] == len(one.layers)
    found = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in read.tensors}
    assert set(found) == {f"direction.{layer}" for layer in one.layers}
    for layer in one.layers:
        assert torch.equal(found[f"direction.{layer}"], one.at(layer)[0])
    refused(vectors.save, tmp_path / "two.gguf", said="one vector for a control vector")
    refused(vectors.select(["full"], [0]).save, tmp_path / "first.gguf", said="layers from 1 on")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vector.gguf"]


def test_names_that_are_not_there_and_files_of_other_kinds_are_refused_in_words(tmp_path, model):
    vectors = random_vectors(model, ["full", "other"])
    refused(vectors.select, ["ful"], said=r"a vector of these \(full, other\); found 'ful'")
    refused(vectors.save, tmp_path / "v.pt", said=r"ends in \(.safetensors, .gguf\); found '.pt'")
    refused(load_vectors, tmp_path / "v.gguf", said="a control vector of llama.cpp, which is written only")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_multipliers_that_are_no_numbers_are_called_so(model, number):
    said = r"finite multipliers; found 0, (nan|inf)"
    refused(check_multipliers, random_vectors(model), [0.0, number], torch.float32, said=said)


@pytest.mark.parametrize("what", SPOILT)
def test_any_other_file_is_refused_with_its_path(tmp_path, what):
    SPOILT[what](tmp_path / "v.safetensors")
    refused(load_vectors, tmp_path / "v.safetensors", said=READ)


@pytest.mark.parametrize(("name", "text"), SAYS, ids=lambda part: part[:20])
def test_a_file_that_says_something_else_of_itself_is_refused(tmp_path, name, text):
    save_file({"values": VALUES}, tmp_path / "v.safetensors", ABOUT | {name: text})
    said = r"\[2 vectors, 1 layers, d\]; found \[1, 1, 3\]" if text == '["a", "b"]' else READ
    refused(load_vectors, tmp_path / "v.safetensors", said=said)


@pytest.mark.parametrize("norm", [1e-30, 1e30])
def test_a_vector_whose_square_no_precision_holds_is_refused_with_the_limit(norm):
    values = torch.tensor([[[norm, 0.0]]])
    said = r"norm from 1e-18 to 1e\+18, or zero; found 1e.30 for 'a' at layer 3"
    refused(Vectors, ("a",), (3,), values, said=said)
    for fine in (0.0, 1e-12, 1e12):
        Vectors(("a",), (3,), torch.tensor([[[fine, 0.0]]]))


HALVES = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_multipliers_that_overflow_or_are_roundings_apart_are_refused_with_the_limit(dtype):
    vectors = Vectors(("a",), (0,), torch.tensor([[[3.0, 4.0]]]))
    check_multipliers(vectors, (-1.5, -1, -0.5, 0, 0.5, 1, 1.5), dtype)
    check_multipliers(vectors, [0.1 * step for step in range(-15, 16)], dtype)
    check_multipliers(vectors, [0], dtype)
    large = 2e4 if dtype == torch.float16 else 1e19
    said = "move activations by at most .* found .* with multiplier"
    refused(check_multipliers, vectors, (1, -large), dtype, said=said)
    refused(check_multipliers, vectors, (-1, 1, 1.0000001), dtype, said="apart in .*found 1 and 1.0000001")
