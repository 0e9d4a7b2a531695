"""Packs: what was packed arrives byte for byte, and nothing arrives of a pack that is not what it says."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import command_line

from companion import store
from companion.packs import CONTENTS, pack, unpack
from companion.tan import experiment
from steerkit.errors import SteerkitError
from steerkit.vectors import Vectors

TABLE = {"model": "one", "dataset": "openness"}
OTHER = {"model": "two", "dataset": "openness"}


def make_artifacts() -> None:
    """A table and a vector file of model "one", a table of model "two"."""
    for inputs in (TABLE, OTHER):
        store.table("grid", inputs, lambda: pd.DataFrame({"x": [1.0, 2.0]}))
    values = torch.arange(4.0).reshape(1, 1, 4)
    store.vectors("vectors", TABLE, lambda: Vectors(("full",), (1,), values))


def files(folder: Path) -> dict[str, bytes]:
    """Finished files and half-written ones, but no locks."""
    return {
        path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.endswith(".lock")
    }


def elsewhere(monkeypatch, folder: Path) -> Path:
    """Another machine's folder for artefacts."""
    monkeypatch.setenv("STEERKIT_ARTIFACTS", str(folder))
    return store.artifacts_dir()


def write_tar(path: Path, found: dict[str, bytes], link: str = "") -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in found.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        if link:
            entry = tarfile.TarInfo(link)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/hostname"
            archive.addfile(entry)


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive}


def promised(about: dict, found: dict[str, bytes]) -> dict[str, bytes]:
    """Members whose list of contents promises exactly them."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}
    return {CONTENTS: json.dumps(about | {"sha256": hashes}).encode(), **found}


@pytest.fixture
def packed(own_folders) -> Path:
    """A pack of three artefacts."""
    make_artifacts()
    pack(own_folders / "all.tar")
    return own_folders / "all.tar"


class TestRoundTrip:
    def test_everything_arrives_byte_for_byte_and_is_found_under_its_key(
        self, packed, own_folders, monkeypatch
    ):
        sent = files(own_folders / "artifacts")
        there = elsewhere(monkeypatch, own_folders / "laptop")
        assert sorted(unpack(packed)) == sorted(sent) and files(there) == sent and len(sent) == 3
        found = store.table("grid", TABLE, lambda: pytest.fail("computed again"))
        assert list(found["x"]) == [1.0, 2.0] and found.attrs["manifest"]["inputs"] == TABLE
        vector = store.vectors("vectors", TABLE, lambda: pytest.fail("computed again"))
        assert vector.values.tolist() == [[[0.0, 1.0, 2.0, 3.0]]]

    def test_a_finished_run_needs_no_model_where_it_arrives(self, smoke, own_folders, monkeypatch):
        count = len(pack(own_folders / "smoke.tar", "tiny"))
        elsewhere(monkeypatch, own_folders / "laptop")
        assert len(unpack(own_folders / "smoke.tar")) == count
        monkeypatch.setattr(experiment, "compute", lambda *_: pytest.fail("computed"))
        for form in ("statement", "letter"):
            for stage in ("sweep", "grid", "shift"):
                assert experiment.pending(smoke.settings, form, stage) == []
            assert set(experiment.grid(smoke.settings, form)["dataset"]) == set(smoke.settings.datasets)

    def test_what_is_there_already_is_left_alone(self, packed, own_folders, monkeypatch):
        there = elsewhere(monkeypatch, own_folders / "laptop")
        name = next(name for name in members(packed) if name.endswith(".parquet"))
        (there / name).write_bytes(b"mine")
        assert name not in unpack(packed) and (there / name).read_bytes() == b"mine"
        assert unpack(packed) == []

    def test_only_the_artefacts_of_one_model_are_packed_when_it_is_named(self, packed, own_folders):
        names = pack(own_folders / "one.tar", "one")
        expected = {f"{name}-{store.key(TABLE)}" for name in ("grid", "vectors")}
        assert {Path(name).stem for name in names} == expected
        assert set(members(own_folders / "one.tar")) == {CONTENTS, *names}

    def test_locks_half_written_damaged_and_foreign_files_stay_behind(self, packed, own_folders):
        folder = own_folders / "artifacts"
        for name in ("notes.txt", ".grid-1.parquet.77.tmp", "damaged.parquet", "damaged.safetensors"):
            (folder / name).write_text("x")
        assert list(folder.glob(".*.lock")) and len(pack(own_folders / "one.tar", "one")) == 2
        names = pack(own_folders / "p.tar")
        assert all(name.endswith((".parquet", ".safetensors")) and not name.startswith(".") for name in names)

    def test_the_list_of_contents_says_which_code_made_them(self, packed):
        about = json.loads(members(packed)[CONTENTS])
        assert about["code"] == store.code_hash() and about["versions"] == store.versions()
        assert about["sha256"] == {
            name: hashlib.sha256(content).hexdigest()
            for name, content in members(packed).items()
            if name != CONTENTS
        }


def altered(path: Path) -> None:
    found = members(path)
    name = next(name for name in found if name.endswith(".parquet"))
    found[name] = found[name][:100] + bytes([found[name][100] ^ 1]) + found[name][101:]
    write_tar(path, found)


def left_out(path: Path) -> None:
    found = members(path)
    found.pop(next(name for name in found if name != CONTENTS))
    write_tar(path, found)


def misplaced(name: str):
    """A pack that promises, with the right hash, a file of this name."""

    def change(path: Path) -> None:
        found = members(path)
        about = json.loads(found.pop(CONTENTS))
        write_tar(path, promised(about, {**found, name: b"x"}))

    return change


def linked(path: Path) -> None:
    """The file is promised, and is a link to another."""
    found = members(path)
    about = json.loads(found.pop(CONTENTS))
    content = promised(about, {**found, "link.parquet": b""})
    content.pop("link.parquet")
    write_tar(path, content, "link.parquet")


def without_list(path: Path) -> None:
    write_tar(path, {name: content for name, content in members(path).items() if name != CONTENTS})


def with_list(text: bytes):
    return lambda path: write_tar(path, members(path) | {CONTENTS: text})


DAMAGE = {
    "an altered member": altered,
    "a missing member": left_out,
    "a path upwards": misplaced("../evil.parquet"),
    "a folder": misplaced("folder/evil.parquet"),
    "an absolute path": misplaced("/tmp/steerkit-evil.parquet"),
    "another kind of file": misplaced("evil.py"),
    "a link": linked,
    "no list of contents": without_list,
    "a list that is no JSON": with_list(b"{"),
    "a list that is no text": with_list(b"\xff\xfe"),
    "a list of another form": with_list(b'["grid"]'),
    "a list without hashes": with_list(b'{"code": "x", "versions": {}}'),
    "a list whose hashes are no list": with_list(b'{"code": "x", "versions": {}, "sha256": "abc"}'),
    "a cut archive": lambda path: path.write_bytes(path.read_bytes()[:1500]),
    "no archive": lambda path: path.write_bytes(b"not a tar file at all" * 99),
    "an empty file": lambda path: path.write_bytes(b""),
    "no file": lambda path: path.unlink(),
    "a folder in its place": lambda path: (path.unlink(), path.mkdir()),
}


class TestRefused:
    @pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
    def test_nothing_of_a_damaged_pack_is_unpacked(self, packed, own_folders, monkeypatch, damage):
        damage(packed)
        there = elsewhere(monkeypatch, own_folders / "deep" / "laptop")
        with pytest.raises(SteerkitError, match=r"^Expected a pack of `steerkit artifacts pack` at") as error:
            unpack(packed)
        assert error.value.done == "Nothing was unpacked." and "\n" not in str(error.value)
        assert files(there) == {} and [path.name for path in there.parent.iterdir()] == ["laptop"]
        assert not Path("/tmp/steerkit-evil.parquet").exists()

    @pytest.mark.parametrize(
        ("what", "named"),
        [
            ({"code": "0123456789abcdef"}, "code 0123456789abcdef instead of"),
            ({"versions": {"torch": "1.0"}}, "torch 1.0 instead of"),
        ],
        ids=["code", "library"],
    )
    def test_a_pack_of_another_version_is_refused_and_says_what_differs(
        self, packed, own_folders, monkeypatch, what, named
    ):
        found = members(packed)
        about = json.loads(found[CONTENTS])
        versions = about["versions"] | what.get("versions", {})
        write_tar(packed, found | {CONTENTS: json.dumps(about | what | {"versions": versions}).encode()})
        there = elsewhere(monkeypatch, own_folders / "laptop")
        with pytest.raises(SteerkitError, match="a pack made by this version of the code") as error:
            unpack(packed)
        assert error.value.found.startswith(named) and ", " not in error.value.found
        assert "check out the commit" in error.value.next_step and files(there) == {}

    def test_no_artefacts_make_no_pack(self, own_folders):
        with pytest.raises(SteerkitError, match=r"finished artefacts in .*; found none"):
            pack(own_folders / "all.tar")
        make_artifacts()
        with pytest.raises(SteerkitError, match=r"finished artefacts of three in .*; found none"):
            pack(own_folders / "all.tar", "three")
        assert not (own_folders / "all.tar").exists()

    def test_a_target_that_cannot_be_written_is_refused(self, packed, own_folders):
        (own_folders / "file").write_text("")
        with pytest.raises(SteerkitError, match="to write"):
            pack(own_folders / "file" / "all.tar")


class TestCommandLine:
    def test_pack_here_unpack_there(self, own_folders, monkeypatch):
        make_artifacts()
        path = own_folders / "all.tar"
        assert command_line("artifacts", "pack", path) == (0, f"{path}: 3 artefacts\n")
        assert command_line("artifacts", "pack", path, "--model", "two") == (0, f"{path}: 1 artefacts\n")
        elsewhere(monkeypatch, own_folders / "laptop")
        assert command_line("artifacts", "unpack", path) == (0, f"1 new artefacts from {path}\n")
        assert command_line("artifacts", "unpack", path) == (0, f"0 new artefacts from {path}\n")

    @pytest.mark.parametrize(
        ("verb", "expected"),
        [("pack", "Expected finished artefacts"), ("unpack", "Expected a pack of `steerkit artifacts pack`")],
    )
    def test_an_error_is_one_paragraph_and_no_file(self, own_folders, capsys, verb, expected):
        code, out = command_line("artifacts", verb, own_folders / "all.tar")
        err = capsys.readouterr().err
        assert code == 1 and out == "" and err.startswith(expected) and err.count("\n") == 1
        assert not (own_folders / "all.tar").exists()
