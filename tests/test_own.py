"""One's own model, data and vectors: what goes together is compared, and nothing is overwritten by mistake."""

import errno
import logging
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import command_line, raising, refused
from safetensors.torch import save_file

from companion import saes, store
from companion.cli import compared, own
from companion.cli.outputs import check_output
from companion.data.datasets import load_dataset
from companion.data.splits import make_split
from companion.places import ROOT
from companion.tiny import tiny_lm, tiny_tokenizer
from steerkit import Vectors, load_vectors
from steerkit.items import Item

ON_TINY = ["--model", "tiny", "--data", "openness"]
STEPS, TO_GRID = ["--multipliers=-1,1"], ["--out", "g.parquet"]
PAIRS = "--sae tiny --method encode-difference --data openness".split()
pytestmark = pytest.mark.usefixtures("own_folders")


@pytest.fixture(scope="module")
def vectors(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("vectors") / "v.safetensors"
    assert command_line("extract", *ON_TINY, "--layers", "2", "--format", "letter", "--out", path)[0] == 0
    return path


def made_by(path: Path, **changed) -> Path:
    """The same vectors with another origin."""
    found = load_vectors(path)
    other = path.with_name(f"{'-'.join(changed)}.safetensors")
    inputs = found.manifest["inputs"] | changed
    replace(found, manifest=found.manifest | {"inputs": inputs}).save(other)
    return other


class TestOrigin:
    def test_vectors_carry_all_that_they_are_compared_by(self, vectors):
        about = load_vectors(vectors).manifest["inputs"]
        assert set("model weights template layer_convention data_sha256 split seed".split()) <= set(about)
        assert about["source"]["dtype"] == "float32" and len(about["template"]["sha256"]) == 64
        dataset = load_dataset("openness")
        train = [dataset.items[i] for i in make_split(dataset).train]
        assert about["trained_on"] == compared.items_hash(train) and len(about["trained_on"]) == len(train)


class TestCompared:
    def test_vectors_of_another_model_of_the_same_width_are_refused_and_forced(self, steerkit, vectors):
        command = ["sweep", "--model", "tiny-gemma3", "--data", "openness", "--vectors", vectors, *STEPS]
        code, out, err = steerkit(*command, "--format", "letter", *TO_GRID)
        assert (code, out) == (1, "") and not Path("g.parquet").exists()
        assert re.match(r"Expected the model that the vectors are of, tiny \(.*found tiny-gemma3 \(", err)
        assert steerkit(*command, "--format", "letter", *TO_GRID, "--force")[0] == 0

    @pytest.mark.parametrize("given", [["--seed", "1"], ["--split", "all"]], ids=" ".join)
    def test_items_that_trained_the_vector_do_not_test_it(self, steerkit, vectors, given):
        dataset = load_dataset("openness")
        train, split = make_split(dataset).train, make_split(dataset, seed=1).test
        test = range(len(dataset.items)) if "all" in given else split
        count = len({*train} & {*test})
        code, _, err = steerkit("sweep", *ON_TINY, "--vectors", vectors, *STEPS, *given, *TO_GRID)
        assert code == 1 and f"found {count} of {len(test)} (" in err and count > 10

    def test_the_same_items_are_known_in_another_file_row_and_order(self, steerkit, vectors):
        lines = (ROOT / "companion/data/bundled/openness.jsonl").read_text().splitlines()
        Path("edited.jsonl").write_text("\n".join(lines[20:] + lines[:20]))
        given = ["sweep", "--model", "tiny", "--data", "edited.jsonl", "--vectors", vectors]
        code, _, err = steerkit(*given, *STEPS, *TO_GRID)
        assert code == 1 and "test items that did not train the vectors" in err

    def test_the_same_split_other_data_and_all_on_both_sides_have_nothing_to_say(self):
        items = load_dataset("openness").items
        tested = {"data_sha256": "a", "split": "all"}
        about = {"inputs": tested | {"trained_on": compared.items_hash(items)}}
        compared.check_items(about, tested, items, False)
        refused(compared.check_items, about, tested | {"split": "clean"}, items, False)
        compared.check_items(about, tested | {"split": "clean"}, load_dataset("narcissism").items, False)

    def test_a_revision_and_a_hash_cannot_be_compared_nor_what_says_nothing_and_are_said(self, caplog):
        compared.check_model(Vectors(("full",), (2,), torch.ones(1, 1, 32)).manifest, {}, False)
        assert "do not say which model" in caplog.text
        about, model = {"model": "m", "weights": "org/m@main"}, {"model": "m", "weights": "0" * 64}
        compared.check_model({"inputs": about}, model, False)
        assert "The vectors are of m (org/m@main), and the model is m (000000000000)." in caplog.text
        refused(compared.check_model, {"inputs": about}, model | {"weights": "org/m@v1"}, False)

    def test_another_precision_or_template_is_said(self, vectors, caplog):
        about = load_vectors(vectors).manifest["inputs"]
        other = about | {"source": {"dtype": "bfloat16"}, "template": {"sha256": "0" * 64}, "format": "x"}
        with caplog.at_level(logging.WARNING):
            compared.check_model({"inputs": other}, about, False)
        assert "another precision: bfloat16" in caplog.text and "another chat template" in caplog.text
        assert "another format: x, and here it is" in caplog.text

    def test_a_folder_called_like_a_registered_model_must_be_the_same(self, steerkit, own_folders):
        folder = own_folders / "mine" / "tiny"
        texts = [f"{i.question} {i.statement}{i.matching}" for i in load_dataset("openness").items]
        tokenizer = tiny_tokenizer([*texts, "Choices:\n(A): \n(B): "])
        tiny_lm("llama", tokenizer, seed=1)._module.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        given = ["--data", "openness", "--format", "letter", "--split", "sweep", "--layers", "2"]
        assert steerkit("extract", "--model", folder, *given, "--out", "own.safetensors")[0] == 0
        assert steerkit("extract", "--model", "tiny", *given, "--out", "tiny.safetensors")[0] == 0
        asked = [*PAIRS, "--features", 4, "--json"]
        found = [steerkit("decompose", "--vector", f"{name}.safetensors", *asked) for name in ("own", "tiny")]
        assert [code for code, *_ in found] == [0, 0] and found[0][1] != found[1][1]
        (folder / "tokenizer_config.json").write_text("{}")
        code, _, err = steerkit("decompose", "--vector", "own.safetensors", *asked)
        assert code == 1 and "the model that the vectors are of" in err

    def test_encode_difference_reads_the_pairs_of_the_vector_and_no_others(self, steerkit, vectors):
        given = ["decompose", "--vector", vectors, "--sae", "tiny", "--method", "encode-difference"]
        code, _, err = steerkit(*given, "--data", "narcissism")
        assert code == 1 and err.startswith("Expected the data of the vectors, openness (")

    @pytest.mark.parametrize("site", ["hook_mlp_out", "hook_attn_out", "hook_resid_mid", "attn.hook_z"])
    def test_an_autoencoder_of_another_site_is_refused(self, steerkit, vectors, site, monkeypatch):
        other = replace(saes.tiny_sae(), hook=f"blocks.2.{site}")
        monkeypatch.setattr(saes, "tiny_sae", lambda: other)
        for given in ([], ["--layer", "2"]):
            code, _, err = steerkit("decompose", "--vector", vectors, "--sae", "tiny", *given)
            assert code == 1 and f"found one of blocks.2.{site}" in err

    def test_an_autoencoder_of_another_model_is_said(self, caplog):
        about, sae = {"inputs": {"model": "tiny"}}, replace(saes.tiny_sae(), model="gemma-2-2b")
        for same in ((about, saes.tiny_sae()), ({"inputs": {"model": "google/gemma-2-2b-it"}}, sae)):
            compared.check_sae(*same)
        assert not caplog.text
        compared.check_sae(about, sae)
        assert "trained on gemma-2-2b, and the vector is of tiny" in caplog.text

    def test_training_answers_that_are_all_one_label_are_refused(self):
        yes = [item for item in load_dataset("openness").items if item.positive_answer == "Yes"]
        compared.check_labels(yes, ())  # statements are asked without labels
        error = refused(compared.check_labels, yes, ("A", "B"), said="both answers")
        assert f"'Yes' in all {len(yes)} rows, such as openness/" in error.found
        assert error.next_step == "add as many No statements."  # it has no options, and statement needs both
        chosen = [Item(f"d/{i:04d}", "q", " (A)", " (B)", stem="q") for i in range(4)]
        assert "exchange the options" in refused(compared.check_labels, chosen, ("A", "B")).next_step

    def test_training_answers_that_are_mostly_one_label_are_said(self, caplog):
        """Of a choice set with nearly all answers (A) the vector would be that of the letter."""
        letters = {True: " (A)", False: " (B)"}
        items = [Item(f"d/{i:04d}", "q", letters[i > 0], letters[i == 0], stem="q") for i in range(12)]
        compared.check_labels(items, ("A", "B"))
        assert "Of 12 training items 11 have the answer 'A': the vector points towards it" in caplog.text
        caplog.clear()
        statements = load_dataset("openness").items
        few = [item for item in statements if item.positive_answer == "No"][:4]
        compared.check_labels([*statements, *few], ("A", "B"))
        assert "add Yes statements, or use --format statement" in caplog.text
        caplog.clear()
        compared.check_labels(items[:3], ("A", "B"))
        compared.check_labels(items, ())
        assert not caplog.text

    ODD = ({"model": 5, "weights": [1]}, {"trained_on": [[1]], "split": 3}, {"template": "x"})

    @pytest.mark.parametrize("inputs", ODD)
    def test_a_manifest_of_another_form_is_no_fault(self, steerkit, vectors, inputs):
        other = made_by(vectors, **inputs)
        sweep = ["sweep", *ON_TINY, "--vectors", other, *STEPS, *TO_GRID]
        for command in (sweep, ["decompose", "--vector", other, *PAIRS]):
            assert "A fault" not in steerkit(*command)[2]


class TestPairs:
    """A vector of one pair looks like any other, so the command says how many there were."""

    @pytest.mark.parametrize("form", ["statement", "letter"])
    @pytest.mark.parametrize("count", [1, 5])
    def test_a_few_training_pairs_are_said_whatever_the_format(self, steerkit, caplog, count, form):
        lines = (ROOT / "companion/data/bundled/openness.jsonl").read_text().splitlines()
        Path("few.jsonl").write_text("\n".join(lines[: 2 * count]))
        given = f"--model tiny --data few.jsonl --split all --layers 1 --format {form} --out v.safetensors"
        code, out, _ = steerkit("extract", *given.split())
        assert code == 0 and f"1 vector from {count} pair{'s' * (count > 1)}, layers 1" in out
        assert ("Training pairs: 1." in caplog.text) == (count == 1)


class TestOutputs:
    def test_a_folder_that_nothing_can_be_written_into_is_refused_before_the_work(
        self, steerkit, vectors, own_folders, monkeypatch
    ):
        def no_room(dir):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(dir))

        check_output(own_folders / "new" / "deep" / "v.csv", ".csv")
        check_output(own_folders / "home" / "v.csv", ".csv")
        assert not (own_folders / "new").exists() and not list((own_folders / "home").iterdir())
        (own_folders / "home" / "nowhere").symlink_to("gone")
        monkeypatch.setattr(own, "load_model", pytest.fail)
        given, folder = [*ON_TINY, "--vectors", vectors], "nowhere/deep"
        commands = [["extract", *ON_TINY, "--force", "--out", f"{folder}/v.safetensors"]]
        commands += [["sweep", *given, *STEPS, "--out", f"{folder}/g.parquet"]]
        commands += [["decompose", "--vector", vectors, "--sae", "tiny", "--out", f"{folder}/d.csv"]]
        commands += [["run", "tan-fig-5", "--out", folder], ["artifacts", "pack", f"{folder}/all.tar"]]
        for command in commands:
            code, out, err = steerkit(*command)
            assert code == 1 and out == "" and err.startswith("Expected a folder that can be written into")
        monkeypatch.setattr("companion.cli.outputs.TemporaryFile", no_room)
        for path in (own_folders / "v.csv", own_folders / "new" / "v.csv"):
            refused(check_output, path, ".csv", said="written into, .*; found Read-only file system")

    @pytest.mark.parametrize("name", ["v.txt", "v", "", ".", "v.safetensors.bak"])
    def test_the_suffix_is_the_format(self, name):
        refused(check_output, Path(name), ".safetensors", said="a file that ends in .safetensors")

    def test_what_is_needed_is_overwritten_only_by_force(self, own_folders):
        table, other = own_folders / "t.parquet", own_folders / "o.parquet"
        check_output(table, ".parquet")
        store.write_table(table, pd.DataFrame({"x": [1]}), {"name": "sweep"})
        check_output(table, ".parquet")  # a second run
        pd.DataFrame({"x": [1]}).to_parquet(other)
        (own_folders / "link.parquet").symlink_to(table)
        save_file({"w": torch.zeros(2)}, own_folders / "model.safetensors")
        (own_folders / "data.csv").write_text("prompt,positive,negative\n")
        artefact = store.artifacts_dir() / "grid-0123456789ab.parquet"
        cases = [(table, [each], "which is read") for each in (table, own_folders / "." / "t.parquet")]
        cases += [
            (own_folders / "link.parquet", [], "a link at"),
            (artefact, [], "outside the folder of art"),
        ]
        kinds = (other, own_folders / "model.safetensors", own_folders / "data.csv")
        for path, inputs, said in [*cases, *((path, [], "another kind of file") for path in kinds)]:
            refused(check_output, path, path.suffix, inputs, said=said)
            check_output(path, path.suffix, inputs, force=True)

    def test_a_folder_or_a_device_is_never_overwritten(self, own_folders):
        (own_folders / "folder.csv").mkdir()
        os.mkfifo(own_folders / "pipe.csv")
        for path in ("folder.csv", "pipe.csv"):
            refused(check_output, own_folders / path, ".csv", force=True, said="a folder or a device")
        for path in ("nul\0.csv", "x" * 5000 + ".csv"):
            refused(check_output, Path(path), ".csv", said="a file to write")

    def test_the_commands_ask_before_they_compute(self, steerkit, vectors, own_folders):
        content = vectors.read_bytes()
        given = [*ON_TINY, "--vectors", vectors, *STEPS]
        for command in (
            ["sweep", *given, "--out", vectors],
            ["decompose", "--vector", vectors, "--sae", "tiny", "--out", vectors],
            ["extract", *ON_TINY, "--out", "v.parquet"],
            ["artifacts", "pack", "all.zip"],
        ):
            code, out, err = steerkit(*command)
            assert code == 1 and out == "" and err.startswith("Expected a file that ends in")
        Path("mine.safetensors").write_bytes(b"mine")
        assert steerkit("extract", *ON_TINY, "--out", "mine.safetensors")[0] == 1
        assert vectors.read_bytes() == content and Path("mine.safetensors").read_bytes() == b"mine"

    def test_grid_and_slopes_come_and_go_together(self, steerkit, vectors, own_folders):
        command = ["sweep", *ON_TINY, "--vectors", vectors, "--format", "letter", *TO_GRID]
        code, out, _ = steerkit(*command, *STEPS)
        assert code == 0 and out.split() == ["g.parquet", "g-slopes.parquet"]
        assert steerkit(*command, "--multipliers=0.5")[:2] == (0, "g.parquet\n")
        assert not Path("g-slopes.parquet").exists()  # of other multipliers
        pd.DataFrame({"x": [1]}).to_parquet("g-slopes.parquet")
        assert "another kind of file" in steerkit(*command, *STEPS)[2]

    @pytest.mark.parametrize("command", ["extract", "sweep"])
    def test_a_negative_seed_is_a_usage_error_with_the_limit(self, steerkit, vectors, command):
        more = ["--vectors", vectors] if command == "sweep" else []
        code, _, err = steerkit(command, *ON_TINY, *more, "--out", "v.parquet", "--seed", "-1")
        assert code == 2 and "greater than or equal to 0" in err


def test_a_home_that_the_shell_left_is_that_of_the_user(steerkit, own_folders, monkeypatch):
    """As it does in quotes, and behind an equals sign."""
    monkeypatch.setenv("HOME", str(own_folders))
    shutil.copy(ROOT / "companion/data/bundled/openness.jsonl", own_folders / "mine.jsonl")
    given = ["--model", "tiny", "--data=~/mine.jsonl", "--layers", "1", "--out", "~/v.safetensors"]
    assert steerkit("extract", *given)[0] == 0 and (own_folders / "v.safetensors").exists()
    (own_folders / "none").mkdir()
    given = ["--model", "~/none", "--data", "openness", "--out", "w.safetensors"]
    assert f"at {own_folders / 'none'}" in steerkit("extract", *given)[2]


@pytest.mark.parametrize("command", ["extract", "sweep"])
def test_ctrl_c_is_a_sentence(steerkit, vectors, monkeypatch, command):
    monkeypatch.setattr(own, "load_model", raising(KeyboardInterrupt()))
    given = ["--vectors", vectors, *STEPS, *TO_GRID] if command == "sweep" else ["--out", "v.safetensors"]
    code, shown, err = steerkit(command, *ON_TINY, *given)
    assert (code, shown) == (130, "") and "found Ctrl-C. Nothing was written; what was under way" in err
    assert err.endswith("Next: give the same command again: it begins anew.\n")
    assert not Path(given[-1]).exists()


LONG = "x" * 5000


def test_a_name_that_no_disk_could_have_is_refused_with_the_limit(steerkit, vectors):
    commands = [["extract", "--model", LONG, "--data", "openness", "--out", "v.safetensors"], ["run", LONG]]
    commands += [["extract", *ON_TINY, "--out", f"{LONG}.safetensors"], ["artifacts", "unpack", LONG]]
    commands += [
        ["decompose", "--vector", vectors, "--sae", LONG],
        ["run", "tan-fig-5", "--out", f"a/{LONG}"],
    ]
    for command in commands:
        code, out, err = steerkit(*command)
        assert code == 1 and out == "" and err.startswith("Expected a name of at most 255 bytes; found 50")


def test_a_prompt_of_other_bytes_is_refused_and_a_long_one_is_not(steerkit, vectors):
    command = ["generate", "--model", "tiny", "--vectors", vectors, "--layer", "2", "--max-new-tokens", "1"]
    assert steerkit(*command, "--prompt", "I walk. " * 99, f"--multipliers=0,1.{'0' * 300}")[0] == 0
    code, _, err = steerkit(*command, "--prompt", "\udcff")
    assert code == 1 and err.startswith("Expected a prompt in UTF-8")


def test_a_full_disk_that_names_no_file_is_that_of_the_output(steerkit, monkeypatch):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(own, "load_model", raising(full))
    said = "Expected room for full/v.safetensors or the standard output; found"
    for given in (["--out", "full/v.safetensors"], ["--out=full/v.safetensors"]):
        code, _, err = steerkit("extract", *ON_TINY, *given)
        assert code == 1 and err.startswith(said)
    monkeypatch.setattr("papermill.execute_notebook", raising(full))
    code, _, err = steerkit("run", "tan-tab-2", "--out", "full/o")
    place = Path("full/o/tan-tab-2.ipynb").resolve()
    assert code == 1 and err.startswith(f"Expected to run tan-tab-2.ipynb into {place}; found No space left")
    assert not list(Path("full/o").glob("[!.]*")) and not list(Path("full/o").glob(".running*"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full on this system")
def test_a_full_disk_behind_the_standard_output_is_a_sentence(own_folders):
    command = [sys.executable, "-m", "companion.cli", "list", "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert done.returncode and done.stderr.startswith("Expected room for the standard output; found a full")
