"""Artefacts: one key a content, whole files or none, one computation however many ask."""

import errno
import importlib.metadata
import io
import os
import random
from dataclasses import replace

import pandas as pd
import pytest
import torch
from conftest import raising, refused

from companion import store
from companion.code import syntax_hash
from companion.exhibits import EXHIBITS
from companion.reproduce import run_notebook
from steerkit import SteerkitError, Vectors, files

pytestmark = pytest.mark.usefixtures("own_folders")
INPUTS = {"model": "tiny", "multipliers": (-1.5, 1.5), "limits": (4, None), "data_sha256": "ab", "seed": 0}


def frame_of(rows: int = 50) -> pd.DataFrame:
    return pd.DataFrame({"dataset": "d", "layer": range(rows), "propensity": [0.1 * i for i in range(rows)]})


def refuse() -> pd.DataFrame:
    pytest.fail("computed although the artefact is there")


def visible(folder) -> list[str]:
    """Names in a folder, lock files left out."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


class TestKeys:
    @pytest.mark.parametrize("name", INPUTS)
    def test_any_other_or_missing_input_gives_another_key_and_another_order_does_not(self, name):
        others = [store.key(INPUTS | {name: value}) for value in ("x", 7, None, (0,))]
        without = store.key({k: v for k, v in INPUTS.items() if k != name})
        assert len({store.key(INPUTS), without, *others}) == 6
        assert store.key(INPUTS) == store.key(dict(reversed(INPUTS.items())))

    def test_other_versions_and_any_change_of_numeric_code_give_another_key(self, tmp_path, monkeypatch):
        keys = [store.key(INPUTS)]
        for part in ("code_hash", "versions"):
            with monkeypatch.context() as patch:
                patch.setattr(store, part, lambda: {"torch": "0"})
                keys.append(store.key(INPUTS))
        assert len(set(keys)) == 3
        assert all(list(store.ROOT.glob(pattern)) for pattern in store.NUMERIC_CODE)
        monkeypatch.setattr(store, "ROOT", tmp_path)
        hashes = set()
        for text in ("one", "two"):
            for name in (pattern.replace("*", "some") for pattern in store.NUMERIC_CODE):
                (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
                (tmp_path / name).write_text(f"def f():\n    return {name!r}, {text!r}\n")
                hashes.add(store.code_hash.__wrapped__())
        assert len(hashes) == 2 * len(store.NUMERIC_CODE)


ONE = '"""Doc."""\nimport math\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n\nSCALE = 2\n\n\n'
TWO = 'def area(r):\n    """Of a circle."""\n    return math.pi * r**2  # exact\n\n\n'
THREE = 'class Ring:\n    """Two circles."""\n\n    width: int = 1\n\n    def area(self, r):\n        import numpy\n        return 0\n'


class TestSyntax:
    """What changes no number leaves the key alone; anything that may change one does not."""

    def of(self, folder, *texts: str) -> str:
        for number, text in enumerate(texts):
            (folder / f"{number}.py").write_text(text)
        return syntax_hash(folder / f"{number}.py" for number in range(len(texts)))

    def test_words_places_and_layout_do_not_change_it(self, tmp_path):
        for texts in [
            (ONE.replace("Doc.", "Other words."), TWO + THREE),
            (ONE + TWO.replace("  # exact", "") + THREE.replace("Two", "Some"),),
            (ONE + TWO.replace('    """Of a circle."""\n', "") + THREE,),
            (TWO, THREE, ONE),
            ("from math import pi\n" + ONE, "import torch\n" + TWO + THREE),
            (ONE.replace("import torch", "import torch, numpy") + TWO + THREE,),
            (ONE + TWO.replace("math.pi * r**2", "(math.pi) * (r ** 2)") + THREE,),
        ]:
            assert self.of(tmp_path, *texts) == self.of(tmp_path, ONE + TWO + THREE), texts

    def test_a_constant_a_body_or_a_statement_changes_it(self, tmp_path):
        changes = {"SCALE = 2": "SCALE = 3", "r**2": "r**3", "def area(r)": "def area(r=1)"}
        changes |= {
            "width: int = 1": "width: int = 2",
            "SCALE = 2\n": "SCALE = 2\nif SCALE:\n    SCALE = 4\n",
        }
        whole = ONE + TWO + THREE
        for old, new in changes.items():
            assert old in whole and self.of(tmp_path, whole.replace(old, new)) != self.of(tmp_path, whole)


class TestTables:
    def test_a_table_is_computed_once_and_comes_back_equal_with_its_manifest(self):
        with pytest.raises(ZeroDivisionError):
            store.table("grid", INPUTS, lambda: 1 / 0)
        assert visible(store.artifacts_dir()) == []  # and it is tried again

        def compute() -> pd.DataFrame:
            frame = frame_of()
            frame.attrs = {"engine": "tree", "reason": "self-check"}
            return frame

        first = store.table("grid", INPUTS, compute)
        second = store.table("grid", INPUTS, refuse)
        pd.testing.assert_frame_equal(first, second)
        pd.testing.assert_frame_equal(second, frame_of(), check_dtype=False)
        about = second.attrs["manifest"]
        assert about["key"] == store.key(INPUTS) and about["engine"] == "tree"
        lists = {"multipliers": [-1.5, 1.5], "limits": [4, None]}  # JSON has no tuples
        assert about["inputs"] == INPUTS | lists
        assert about["versions"]["torch"] == importlib.metadata.version("torch").partition("+")[0]
        # pandas copies `attrs` deeply in most methods: with forty manifests that took longer than the arithmetic
        assert second[second["layer"] > 1].attrs["manifest"] is about

    def test_a_damaged_table_is_computed_again(self):
        path, foreign = store.path_of("grid", INPUTS, "parquet"), io.BytesIO()
        store.table("grid", INPUTS, frame_of)
        frame_of(3).to_parquet(foreign)  # without a manifest
        for damaged in (path.read_bytes()[:-9], b"", b"no table", foreign.getvalue()):
            path.write_bytes(damaged)
            found = store.table("grid", INPUTS, frame_of)
            assert len(found) == 50 and found["propensity"].equals(frame_of()["propensity"])
            assert store.table("grid", INPUTS, refuse).equals(found)

    def test_a_table_under_the_name_of_another_is_computed_again(self):
        others = INPUTS | {"seed": 1}
        store.table("grid", others, lambda: frame_of(3))
        store.path_of("grid", others, "parquet").rename(store.path_of("grid", INPUTS, "parquet"))
        assert len(store.table("grid", INPUTS, frame_of)) == 50
        store.vectors("v", others, lambda: Vectors(("a",), (0,), torch.ones(1, 1, 2)))
        store.path_of("v", others, "safetensors").rename(store.path_of("v", INPUTS, "safetensors"))
        found = store.vectors("v", INPUTS, lambda: Vectors(("b",), (0,), torch.ones(1, 1, 2)))
        assert found.names == ("b",)

    def test_flipped_bits_in_the_pages_never_pass_for_a_table(self):
        path = store.path_of("grid", INPUTS, "parquet")
        whole = store.table("grid", INPUTS, frame_of)
        content, rng = path.read_bytes(), random.Random(0)
        footer = int.from_bytes(content[-8:-4], "little")  # then come its length and PAR1
        for at in range(4, len(content) - 8 - footer, 5):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :])
            found = store.read_table(path)
            assert found is None or found.equals(whole), f"byte {at}"


def test_vectors_are_computed_once_and_again_when_damaged():
    made = Vectors(("full",), (0, 2), torch.randn(1, 2, 4))
    assert store.vectors("vectors", INPUTS, lambda: made).manifest["key"] == store.key(INPUTS)
    assert torch.equal(store.vectors("vectors", INPUTS, refuse).values, made.values)
    store.path_of("vectors", INPUTS, "safetensors").write_bytes(b"\0" * 20)
    again = store.vectors("vectors", INPUTS, lambda: replace(made, values=made.values + 1))
    assert torch.equal(again.values, made.values + 1)


class TestWriting:
    FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    STEPS = (("replace", FULL), ("fsync", FULL), ("fsync", KeyboardInterrupt()))

    @pytest.mark.parametrize(("step", "failure"), STEPS)
    def test_a_full_disk_or_a_stop_leaves_what_was_there(self, tmp_path, monkeypatch, step, failure):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "file").write_bytes(b"old")
        monkeypatch.setattr(os, step, raising(failure))
        full = (SteerkitError, "No space left on device")
        kind, said = full if failure is self.FULL else (KeyboardInterrupt, None)
        with pytest.raises(kind, match=said):
            store.write_atomically(tmp_path / "out" / "file", b"new")
        monkeypatch.undo()
        assert visible(tmp_path / "out") == ["file"] and (tmp_path / "out" / "file").read_bytes() == b"old"

    def test_a_folder_may_begin_with_that_of_the_user(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("STEERKIT_ARTIFACTS", "~/mine")
        monkeypatch.setenv("STEERKIT_CACHE", "~/cache")
        assert files.artifacts_dir() == tmp_path / "mine" and files.cache_dir("x") == tmp_path / "cache" / "x"

    @pytest.mark.parametrize("variable", ["STEERKIT_ARTIFACTS", "STEERKIT_CACHE"])
    def test_an_unwritable_folder_is_reported_with_its_variable(self, tmp_path, monkeypatch, variable):
        (tmp_path / "file").write_text("")
        monkeypatch.delenv("STEERKIT_ARTIFACTS")
        monkeypatch.setenv(variable, str(tmp_path / "file"))
        refused(store.table, "grid", INPUTS, refuse, said=variable)
        with pytest.raises(SteerkitError, match="can be written"), files.locked(tmp_path / "file" / "entry"):
            pass
        monkeypatch.setenv("PATH", str(tmp_path))
        assert store.commit.__wrapped__() == ""  # without git

    def test_a_folder_that_is_there_and_read_only_is_called_what_it_is(self, tmp_path, monkeypatch):
        """Its lock is the first file that somebody wants to write."""
        read_only = PermissionError(errno.EROFS, os.strerror(errno.EROFS))
        monkeypatch.setattr("filelock.FileLock.acquire", raising(read_only))
        error = refused(store.table, "grid", INPUTS, refuse, said="a folder for artefacts .*Read-only")
        assert "STEERKIT_ARTIFACTS" in error.next_step and "STEERKIT_CACHE" not in str(error)
        error = refused(run_notebook, EXHIBITS["tan-tab-2"], {}, tmp_path / "out" / "a.ipynb")
        assert f"executed notebooks that can be written at {tmp_path / 'out'}" in error.expected
        assert "STEERKIT" not in str(error)


class TestTogether:
    def test_files_that_belong_together_are_all_there_or_as_they_were(self, tmp_path, monkeypatch):
        one, two, old = (tmp_path / name for name in ("one", "two", "old"))
        one.write_bytes(b"before")
        old.write_bytes(b"stays")
        synced = []

        def full(number):
            synced.append(number)
            if len(synced) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            refused(files.write_together, {one: b"1", two: b"2"}, [old], said="write .*two; found No space")
        there = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert there == {"one": b"before", "old": b"stays"}
        files.write_together({one: b"1", two: b"2"}, [old])
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"one": b"1", "two": b"2"}

    def test_a_scratch_file_follows_no_link_that_somebody_planted(self, tmp_path, monkeypatch):
        victim = tmp_path / "victim"
        victim.write_bytes(b"precious")
        monkeypatch.setattr(files.secrets, "token_hex", lambda count: "foreseen")
        (tmp_path / ".file.foreseen.tmp").symlink_to(victim)
        refused(files.write_atomically, tmp_path / "file", b"new", said="File exists")
        assert victim.read_bytes() == b"precious" and not (tmp_path / "file").exists()

    def test_a_written_file_can_be_read_by_whom_the_umask_lets(self, tmp_path):
        before = os.umask(0o027)
        try:
            files.write_atomically(tmp_path / "file", b"new")
        finally:
            os.umask(before)
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640

    def test_what_killed_runs_left_is_cleared_and_what_another_one_writes_is_not(self, tmp_path):
        old, new, other = (tmp_path / name for name in (".a[v2].1.tmp", ".a[v2].2.tmp", ".ab.1.tmp"))
        for path in (old, new, other):
            path.write_bytes(b"half")
        for path in (old, other):
            os.utime(path, (0, 0))
        files.write_atomically(tmp_path / "a[v2]", b"new")
        assert {path.name for path in tmp_path.iterdir()} == {"a[v2]", new.name, other.name}
