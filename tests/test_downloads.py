"""The archive and its metadata, made of a smoke run and opened as a stranger would."""

import hashlib
import io
import json
import re
import zipfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
import pytest
import torch
from _ext import crate, takeaway

from companion import results
from companion.exhibits import EXHIBITS
from companion.models import model_of
from steerkit import load_vectors, traces
from steerkit.generation import deltas_of
from steerkit.remote import run


@pytest.fixture(scope="module")
def found(executed_notebooks):
    return [each for one in EXHIBITS.values() for each in results.results_of(one, executed_notebooks)]


@pytest.fixture
def archive(smoke, found) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(takeaway.archive(found, takeaway.vectors_of(found))))


class TestArchive:
    def test_it_holds_all_files_of_all_notebooks(self, archive, found, executed_notebooks):
        names = set(archive.namelist())
        for suffix, folder in (("csv", "results"), ("svg", "results"), ("ipynb", "notebooks")):
            paths = list(executed_notebooks.glob(f"*.{suffix}"))
            assert paths
            for path in paths:
                assert archive.read(f"{folder}/smoke/{path.name}") == path.read_bytes()
        stems = [f"{one.exhibit.id}-{part['part']}" for one in found for part in one.parts]
        assert {f"results/smoke/{stem}.json" for stem in stems} <= names
        assert not [name for name in names if name.startswith(("/", "..")) or ".lock" in name]
        kept = takeaway.vectors_of(found)  # the same results give the same bytes
        assert takeaway.archive(found, kept) == takeaway.archive(found, kept)

    def test_the_vectors_are_those_of_the_grids_and_load(self, archive, smoke, found, tmp_path, monkeypatch):
        names = [name for name in archive.namelist() if name.endswith(".safetensors")]
        made = product(("letter", "statement"), smoke.settings.datasets)
        assert set(names) >= {f"vectors/tiny/{form}/{dataset}.safetensors" for form, dataset in made}
        assert len(set(names)) == len(names)
        archive.extractall(tmp_path)
        rows = takeaway.table(takeaway.vectors_of(found))
        for row in rows.itertuples(index=False):
            loaded = load_vectors(tmp_path / "vectors" / row.file)
            assert loaded.manifest["inputs"]["dataset"] == row[3] and loaded.layers == (row.layer,)
            assert float(row.norm) == pytest.approx(float(loaded.at(row.layer)[0].norm()), rel=0.01)
            assert loaded.names == ("full",)
        # The examples of the model card run, and the plain hook writes what the package writes.
        monkeypatch.chdir(tmp_path / "vectors")
        text = (tmp_path / takeaway.CARD).read_text()
        loading, hooking = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        lm, prompt = model_of(smoke.settings.model, ""), torch.arange(3, 20)[None]
        there: dict = {"model": lm.lm._module}
        exec(loading, there)
        found = deltas_of(there["vectors"], "full", there["vectors"].layers[0], [1.5])
        how = [prompt[0].tolist(), there["vectors"].layers[0], found, 8, []]
        [expected] = run(lm, traces.continued, *how)[0].tolist()
        exec(hooking, there)
        try:
            written = lm.lm._module.generate(prompt, max_new_tokens=8, min_new_tokens=8, do_sample=False)
        finally:
            there["hook"].remove()
        assert written[0, prompt.shape[1] :].tolist() == expected
        for piece in ("**How.**", "**Limits.**", "**Licence.**", "CC0"):
            assert piece in text

    def test_without_the_store_the_page_says_that_there_are_no_vectors(self, own_folders, found):
        text = takeaway.write(found[:1], own_folders / "generated")
        assert "holds none of the vectors" in text
        names = zipfile.ZipFile(own_folders / "generated/downloads" / takeaway.ARCHIVE).namelist()
        assert not [name for name in names if name.startswith("vectors/")]


def test_of_another_profile_only_manifests_are_offered_one_by_one(found):
    own = found[0]
    other = replace(own, address="/notebooks/other")
    offered = {path.suffix for path in own.files if takeaway.in_site(path, own)}
    assert offered == {".csv", ".json", ".ipynb"}
    assert {path.suffix for path in other.files if takeaway.in_site(path, other)} == {".json"}
    assert ".csv" in {path.suffix for path in other.files}  # which the archive holds
    graph = json.loads(takeaway.metadata([other], takeaway.in_site))["@graph"]
    [action] = [entity for entity in graph if entity["@type"] == "CreateAction"]
    made = action["result"] if isinstance(action["result"], list) else [action["result"]]
    assert {each["@id"].rpartition(".")[2] for each in made} == {"json"}


def test_every_file_the_page_offers_is_there(smoke, found, executed_notebooks, tmp_path):
    text = takeaway.write(found, tmp_path / "generated")
    offered = re.findall(r"\{download\}`[^<`]* <([^>]*)>`", text)
    assert len(offered) > 100
    for address in offered:
        path = address.replace("/notebooks", str(executed_notebooks), 1)
        path = path.replace("/generated", str(tmp_path / "generated"), 1)
        assert Path(path).exists(), address
    content = (tmp_path / "generated/downloads" / takeaway.ARCHIVE).read_bytes()
    assert hashlib.sha256(content).hexdigest() in text


def referenced(value: object) -> set[str]:
    """Every @id that anything inside points to."""
    if isinstance(value, dict):
        own = {value["@id"]} if set(value) == {"@id"} else set()
        return own.union(*map(referenced, value.values()))
    return set().union(*map(referenced, value)) if isinstance(value, list) else set()


class TestCrate:
    """The rules of RO-Crate 1.1: a flat graph with a descriptor, a root, and no reference that leads nowhere."""

    @pytest.fixture
    def graph(self, archive) -> dict[str, dict]:
        metadata = json.loads(archive.read(crate.NAME))
        assert set(metadata) == {"@context", "@graph"}
        assert metadata["@context"] == "https://w3id.org/ro/crate/1.1/context"
        entities = metadata["@graph"]
        assert len({entity["@id"] for entity in entities}) == len(entities)
        return {entity["@id"]: entity for entity in entities}

    def test_descriptor_and_root_have_what_they_must_have(self, graph):
        descriptor, root = graph["ro-crate-metadata.json"], graph["./"]
        assert descriptor["@type"] == "CreativeWork" and descriptor["about"] == {"@id": "./"}
        assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
        assert root["@type"] == "Dataset" and len(root["description"]) > 20 and len(root["name"]) > 10
        assert pd.Timestamp(root["datePublished"]).tzinfo and root["license"]["@id"].startswith("https://")
        assert {paper["@id"].rpartition("/")[2] for paper in root["citation"]} == {"2407.12404", "2411.08790"}
        assert all(entity.get("@type") for entity in graph.values())
        for target in referenced(list(graph.values())) - set(graph):
            assert urlsplit(target).scheme in ("http", "https"), target

    def test_every_file_is_in_the_archive_with_that_hash_and_size(self, graph, archive):
        files = [entity for entity in graph.values() if entity["@type"] == "File"]
        assert {entity["@id"] for entity in files} == {part["@id"] for part in graph["./"]["hasPart"]}
        held = [name for name in archive.namelist() if name.startswith(("results/", "notebooks/"))]
        assert len(files) == len(held)
        for entity in files:
            content = archive.read(entity["@id"])
            assert entity["sha256"] == hashlib.sha256(content).hexdigest()
            assert int(entity["contentSize"]) == len(content)

    def test_every_notebook_run_is_an_action_from_inputs_to_files(self, graph, found):
        actions = [entity for entity in graph.values() if entity["@type"] == "CreateAction"]
        assert {action["@id"] for action in actions} == {f"#run-{one.exhibit.id}-smoke" for one in found}
        for action in actions:
            assert pd.Timestamp(action["startTime"]) <= pd.Timestamp(action["endTime"])
            made, by = ([graph[x["@id"]]["@type"] for x in action[role]] for role in ("result", "instrument"))
            assert set(made) == {"File"} and by == ["SoftwareSourceCode", "SoftwareApplication"]
        first = graph["#run-tan-fig-1-smoke"]["object"]
        names = [graph[each["@id"]]["name"] for each in first]
        assert {"tiny", "openness", "profile"} <= set(names)
