"""Packs: what was packed arrives byte for byte, and nothing arrives of a pack that is not what it says."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import command_line, refused

from companion import store
from companion.packs import CONTENTS, pack, unpack
from steerkit import Vectors

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
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix != ".lock"}


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


def promised(found: dict[str, bytes], **changed: bytes) -> dict[str, bytes]:
    """Members, some of them changed or new, whose list of contents promises exactly them."""
    about, found = json.loads(found[CONTENTS]), {n: c for n, c in found.items() if n != CONTENTS} | changed
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}
    return {CONTENTS: json.dumps(about | {"sha256": hashes}).encode(), **found}


def first(found: dict[str, bytes], suffix: str = ".parquet") -> str:
    return next(name for name in found if name.endswith(suffix))


@pytest.fixture
def packed(own_folders) -> Path:
    """A pack of three artefacts."""
    make_artifacts()
    pack(own_folders / "all.tar")
    return own_folders / "all.tar"


@pytest.fixture
def laptop(packed, own_folders, monkeypatch) -> Path:
    """The folder of another machine, to which the pack is sent."""
    return elsewhere(monkeypatch, own_folders / "deep" / "laptop")


class TestRoundTrip:
    def test_everything_arrives_byte_for_byte_and_is_found_under_its_key(self, packed, laptop, own_folders):
        sent = files(own_folders / "artifacts")
        assert sorted(unpack(packed)) == sorted(sent) and files(laptop) == sent and len(sent) == 3
        found = store.table("grid", TABLE, lambda: pytest.fail("computed again"))
        assert list(found["x"]) == [1.0, 2.0] and found.attrs["manifest"]["inputs"] == TABLE
        vector = store.vectors("vectors", TABLE, lambda: pytest.fail("computed again"))
        assert vector.values.tolist() == [[[0.0, 1.0, 2.0, 3.0]]]
        about = json.loads(members(packed)[CONTENTS])
        assert about["code"] == store.code_hash() and about["versions"] == store.versions()
        assert about["sha256"] == {name: hashlib.sha256(sent[name]).hexdigest() for name in sent}

    def test_what_was_computed_here_as_well_is_left_alone(self, packed, laptop):
        """Two machines round differently, and note their own times."""
        store.table("grid", TABLE, lambda: pd.DataFrame({"x": [1.0, 2.00001]}))
        store.vectors("vectors", TABLE, lambda: Vectors(("full",), (1,), torch.arange(4.0).reshape(1, 1, 4)))
        mine = files(laptop)
        assert len(unpack(packed)) == 1 and files(laptop).items() >= mine.items() and len(mine) == 2
        assert unpack(packed) == []

    @pytest.mark.parametrize("what", ["other numbers", "no table", "other vectors"])
    def test_what_is_there_with_other_numbers_is_an_error(self, packed, laptop, what):
        if what == "other numbers":
            store.table("grid", TABLE, lambda: pd.DataFrame({"x": [1.0, 3.0]}))
        elif what == "other vectors":
            store.vectors("vectors", TABLE, lambda: Vectors(("full",), (1,), torch.ones(1, 1, 4)))
        else:
            (laptop / first(members(packed))).write_bytes(b"mine")
        before = files(laptop)
        refused(unpack, packed, said="to be those that are here; found others. Nothing was unpacked")
        assert files(laptop) == before

    def test_one_model_is_packed_when_named_and_never_a_lock_or_a_half_or_foreign_file(self, packed):
        folder, one = packed.parent / "artifacts", packed.with_name("one.tar")
        for name in ("notes.txt", ".grid-1.parquet.77.tmp", "damaged.parquet", "damaged.safetensors"):
            (folder / name).write_text("x")
        store.write_table(folder / "odd.parquet", pd.DataFrame({"x": [1.0]}), {"inputs": None})  # nobody's
        names = pack(one, "one")
        assert {Path(name).stem for name in names} == {f"{n}-{store.key(TABLE)}" for n in ("grid", "vectors")}
        assert set(members(one)) == {CONTENTS, *names} and list(folder.glob(".*.lock"))
        secret = packed.with_name("secret.parquet")
        secret.write_bytes(next(folder.glob("grid-*.parquet")).read_bytes())
        (folder / "link.parquet").symlink_to(secret)
        names = pack(packed.with_name("p.tar"))
        assert all(name.endswith((".parquet", ".safetensors")) and not name.startswith(".") for name in names)
        assert "link.parquet" not in names


def test_a_folder_in_the_place_of_an_artefact_is_not_written_over(packed, laptop):
    (laptop / first(members(packed))).mkdir()
    refused(unpack, packed, said="found a folder. Nothing was unpacked")


def repacked(change):
    """A damage: the pack with members that `change` makes of its own."""
    return lambda path: write_tar(path, change(members(path)))


def altered(found: dict[str, bytes]) -> dict[str, bytes]:
    content = found[first(found)]
    return found | {first(found): content[:100] + bytes([content[100] ^ 1]) + content[101:]}


def without(wanted):
    """The members, but one whose name is `wanted`."""
    return lambda found: {n: found[n] for n in found if n != next(filter(wanted, found))}


def with_file(name: str, content: bytes = b"x"):
    """Members that promise, with the right hash, a file of this name."""
    return lambda found: promised(found, **{name: content})


def renamed(found: dict[str, bytes]) -> dict[str, bytes]:
    """One table under the name of another, with the right hash."""
    one, other = [name for name in found if name.endswith(".parquet")]
    return promised(found, **{one: found[other]})


def of_other_inputs(found: dict[str, bytes]) -> dict[str, bytes]:
    """A table whose manifest has the key of its name, and inputs that are not those of the key."""
    about, table = store.inside(found[first(found)], ".parquet")
    content = store.table_bytes(table, about | {"inputs": {"model": "other"}})
    return promised(found, **{first(found): content})


def zipped(path: Path) -> None:
    """The same archive, compressed: megabytes that become gigabytes."""
    path.write_bytes(gzip.compress(path.read_bytes()))


def swollen(path: Path) -> None:
    """A member that claims to be larger than the file."""
    entry = tarfile.TarInfo("big.parquet")
    entry.size = 2**40
    path.write_bytes(entry.tobuf() + path.read_bytes())


def sparse(path: Path) -> None:
    """A hole of a terabyte in a member, as GNU tar writes it."""
    entry = tarfile.TarInfo("hole.parquet")
    head = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    head[156:157] = tarfile.GNUTYPE_SPARSE
    head[483:495] = b"\x80" + (2**40).to_bytes(11, "big")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    path.write_bytes(bytes(head) + path.read_bytes())


def with_link(path: Path) -> None:
    """A file is promised, and is to be a link to another."""
    found = with_file("link.parquet", b"")(members(path))
    del found["link.parquet"]
    write_tar(path, found, "link.parquet")


LISTS = {  # instead of the list of contents
    "no JSON": b"{",
    "no text": b"\xff\xfe",
    "of another form": b'["grid"]',
    "whose hashes are no list": b'{"code": "x", "versions": {}, "sha256": "abc"}',
    "whose names are no text": b'{"code": "x", "versions": {}, "sha256": [[1, "x"]]}',
}
DAMAGE = {
    "an altered member": repacked(altered),
    "a missing member": repacked(without(lambda name: name != CONTENTS)),
    "a path upwards": repacked(with_file("../evil.parquet")),
    "a folder": repacked(with_file("folder/evil.parquet")),
    "an absolute path": repacked(with_file("/tmp/steerkit-evil.parquet")),
    "another kind of file": repacked(with_file("evil.py")),
    "a link": with_link,
    "no list of contents": repacked(without(lambda name: name == CONTENTS)),
    **{f"a list {k}": repacked(lambda found, v=v: found | {CONTENTS: v}) for k, v in LISTS.items()},
    "a table that is none": repacked(with_file("grid-0123456789ab.parquet")),
    "a table of another name": repacked(renamed),
    "a table of other inputs": repacked(of_other_inputs),
    "a name that no disk takes": repacked(with_file("x" * 5000 + ".parquet")),
    "a compressed archive": zipped,
    "a member larger than the file": swollen,
    "a cut archive": lambda path: path.write_bytes(path.read_bytes()[:1500]),
    "no archive": lambda path: path.write_bytes(b"not a tar file at all" * 99),
    "no file": lambda path: path.unlink(),
    "a folder in its place": lambda path: (path.unlink(), path.mkdir()),
}


class TestRefused:
    @pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
    def test_nothing_of_a_damaged_pack_is_unpacked(self, packed, laptop, damage):
        damage(packed)
        error = refused(unpack, packed, said=r"^Expected a pack of `steerkit artifacts pack` at")
        assert error.done == "Nothing was unpacked." and "\n" not in str(error)
        assert files(laptop) == {} and [path.name for path in laptop.parent.iterdir()] == ["laptop"]
        assert not Path("/tmp/steerkit-evil.parquet").exists()

    OTHERS = ({"code": "0123456789abcdef"}, {"versions": {**store.versions(), "torch": "1.0"}})

    @pytest.mark.parametrize("what", OTHERS, ids=["code", "library"])
    def test_a_pack_of_another_version_is_refused_and_says_what_differs(self, packed, laptop, what):
        found, named = members(packed), "code 0123456789abcdef" if "code" in what else "torch 1.0"
        write_tar(packed, found | {CONTENTS: json.dumps(json.loads(found[CONTENTS]) | what).encode()})
        error = refused(unpack, packed, said="a pack made by this version of the code")
        assert error.found.startswith(f"{named} instead of") and ", " not in error.found
        assert "check out the commit" in error.next_step and files(laptop) == {}

    def test_no_artefacts_make_no_pack_and_neither_does_a_target_that_cannot_be_written(self, own_folders):
        make_artifacts()
        refused(pack, own_folders / "all.tar", "three", said=r"finished artefacts of three in .*; found none")
        assert not (own_folders / "all.tar").exists()
        (own_folders / "file").write_text("")
        refused(pack, own_folders / "file" / "all.tar", said="to write")


def test_a_hole_in_a_member_is_not_filled(packed, laptop):
    sparse(packed)
    unpack(packed)
    assert not (laptop / "hole.parquet").exists() and len(files(laptop)) == 3


def test_pack_here_unpack_there_on_the_command_line(own_folders, monkeypatch, capsys):
    path = own_folders / "all.tar"
    assert command_line("artifacts", "pack", path) == (1, "") and not path.exists()
    assert capsys.readouterr().err.startswith("Expected finished artefacts in")
    make_artifacts()
    assert command_line("artifacts", "pack", path) == (0, f"{path}: 3 artefacts\n")
    assert command_line("artifacts", "pack", path, "--model", "two") == (0, f"{path}: 1 artefacts\n")
    elsewhere(monkeypatch, own_folders / "laptop")
    assert command_line("artifacts", "unpack", path) == (0, f"1 new artefacts from {path}\n")
    assert command_line("artifacts", "unpack", path) == (0, f"0 new artefacts from {path}\n")
