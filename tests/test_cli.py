"""The command line: answers at once, writes what it promises, and says in one paragraph what is wrong."""

import json
import re
import shutil
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest
from conftest import command_line, raising, refused
from papermill import PapermillExecutionError

from companion import claims, claims_mayne, exhibits, store, verdicts
from companion.cli import options
from companion.cli.outputs import check_notebook
from companion.data.datasets import load_dataset
from companion.data.splits import make_split
from companion.exhibits import EXHIBITS
from companion.mayne.solvers import METHODS
from companion.places import ROOT
from companion.profiles import load_profile, override
from companion.tan import experiment
from steerkit import load_vectors
from steerkit.files import file_hash
from steerkit.propensity import FIDELITIES
from steerkit.trust import ENGINES

BUNDLED = ROOT / "companion" / "data" / "bundled"
ON_TINY = ["--model", "tiny", "--data", "narcissism"]
LABELS = {"example_id", "format", "positive_letter", "positive_answer", "vector", "layer"}


@pytest.fixture
def home(steerkit) -> Path:
    """The folder the user works in."""
    return Path.cwd()


@pytest.fixture(scope="module")
def vectors(tmp_path_factory) -> Path:
    """Vectors of the tiny model for blocks 1 and 2, from the command line."""
    path = tmp_path_factory.mktemp("vectors") / "narcissism.safetensors"
    given = (*ON_TINY, "--layers", "1,2", "--out", path)
    assert command_line("extract", *given) == (0, f"{path}: 1 vector from 24 pairs, layers 1, 2, width 32\n")
    return path


class TestStart:
    def test_help_imports_what_draws_it_and_what_needs_no_model_neither_torch_nor_matplotlib(self):
        code = """
            import sys, companion.cli
            small = {"companion", "steerkit", "typer", "annotated_doc", "shellingham", "rich", "yaml", "platformdirs"}
            for given in (["--help"], ["extract", "--help"], ["list", "--json"], ["run", "nothing"]):
                sys.argv[1:] = given
                try: companion.cli.main()
                except SystemExit: pass
                own = {each for each in {name.partition(".")[0] for name in sys.modules} if each[0] != "_"}
                if given == ["--help"]: print(own - small - {"cython_runtime", *sys.stdlib_module_names})
            print({"torch", "matplotlib", "transformers", "nnsight"} & own)
        """
        command = [sys.executable, "-c", textwrap.dedent(code)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        lines = [line for line in done.stdout.splitlines() if line.endswith(("set()", "'}"))]
        assert lines == 2 * ["set()"]

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (["extract", "--modle", "tiny"], "--modle"),
            (["extract", *ON_TINY, "--out", "v.safetensors", "--split", "half"], "'as-released'"),
            (["sweep", *ON_TINY, "--engine", "fast"], "'direct'"),
            (["record", "smoke", "--stage", "walk"], "'shift'"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_what_the_help_does_not_list_is_a_usage_error(self, steerkit, home, arguments, named):
        code, out, err = steerkit(*arguments)
        assert code == 2 and out == "" and named in err and not list(home.iterdir())

    def test_closed_lists_are_those_of_the_library(self):
        assert get_args(options.METHODS) == tuple(METHODS)
        assert get_args(options.FIDELITIES) == tuple(FIDELITIES)
        assert get_args(options.ENGINES) == ENGINES and get_args(options.SPLITS)[-1] == "all"
        assert all(make_split(load_dataset("openness"), name).test for name in get_args(options.SPLITS)[:-1])


class TestReading:
    def test_verify_judges_every_claim_in_both_formats(self, smoke, steerkit):
        code, out, _ = steerkit("verify", "--profile", "smoke", "--json")
        rows, tan = pd.DataFrame(json.loads(out)), [one.id for one in claims.every()]
        assert code == 0 and set(rows["verdict"]) <= set(verdicts.VERDICTS)
        for form in ("statement", "letter"):  # of two models, one row where a claim is about both
            own = rows[(rows["answer_format"] == form) & rows["id"].isin(tan)]
            assert set(own["id"]) == set(tan) and own.groupby("id").size().le(2).all()
        mayne = rows[~rows["id"].isin(tan)]
        assert list(mayne["id"]) == [one.id for one in claims_mayne.CLAIMS]
        assert (rows[rows["verdict"] == "agrees"]["false_agree"] <= verdicts.MOST).all()
        judged = rows[rows["verdict"] != verdicts.UNTESTABLE]
        numbers = judged[["effect", "low", "high", "none", "least", "false_agree", "detectable"]]
        assert numbers.notna().all(axis=None)
        assert set(rows["exhibit"]) <= set(EXHIBITS)
        assert (rows[["statement", "published", "ours", "rule"]].map(len) > 10).all(axis=None)

    @pytest.mark.parametrize("cache", ["usable", "a file"])
    def test_doctor_reports_where_nothing_is_reached_or_written(self, steerkit, monkeypatch, tmp_path, cache):
        monkeypatch.setattr(socket, "create_connection", raising(OSError()))
        if cache == "a file":
            (tmp_path / "cache").write_text("")
        code, out, _ = steerkit("doctor", "--json")
        rows = {row["what"]: row for row in json.loads(out)}
        assert code == 0 and rows["pandas"]["found"] == pd.__version__
        assert rows["PyPI (default model)"]["found"] == "not reached directly"
        assert ("GiB free" in rows["cache"]["found"]) == (cache == "usable")
        assert rows["models in the cache"]["next"]

    def test_the_ledger_shows_every_token_and_what_is_done_with_it(self, steerkit):
        code, out, _ = steerkit("ledger", *ON_TINY, "--item", 3, "--format", "letter")
        lines = out.splitlines()
        assert code == 0
        assert lines[0].split() == ["side", "position", "token", "part", "read", "steered", "scored"]
        for side in ("matching", "not matching"):
            read = [line for line in lines if line.strip().startswith(side) and line.split()[-3] == "True"]
            assert len(read) == 1 and read[0].split()[-5] in "AB" and read[0].split()[-1] == "True"


class TestWriting:
    def test_extract_writes_vectors_and_sweep_grid_and_slopes_beside_it(self, steerkit, vectors, home):
        found = load_vectors(vectors)
        assert found.names == ("full",) and found.layers == (1, 2) and found.width == 32
        inputs = found.manifest["inputs"]
        assert (inputs["model"], inputs["dataset"], inputs["format"]) == ("tiny", "narcissism", "statement")
        assert found.manifest["examples"] == 24 and len(inputs["data_sha256"]) == 64
        command = ["sweep", *ON_TINY, "--vectors", vectors, "--out", "deep/grid.parquet"]
        code, out, _ = steerkit(*command, "--multipliers=-1,0,1")
        assert code == 0 and out.split() == ["deep/grid.parquet", "deep/grid-slopes.parquet"]
        grid, slopes = (pd.read_parquet(home / f"deep/{name}.parquet") for name in ("grid", "grid-slopes"))
        assert set(grid.columns) >= LABELS | {"multiplier", "propensity"} and len(grid) == 30 * 2 * 3
        assert set(slopes.columns) >= LABELS | {"steerability", "residual"} and len(slopes) == 30 * 2
        about = store.read_table(home / "deep" / "grid.parquet").attrs["manifest"]
        assert about["engine"] == "tree" and about["inputs"]["vectors"]["name"] == "extract"
        given = ("--multipliers=1.5", "--layers", 2, "--format", "letter", "--engine", "direct")
        code, out, _ = steerkit(*command, *given)  # one multiplier has no slope
        assert code == 0 and out.split() == ["deep/grid.parquet"]
        about = store.read_table(home / "deep" / "grid.parquet").attrs["manifest"]
        assert about["engine"] == "direct"

    def test_a_notebook_that_somebody_changed_is_not_written_over(self, tmp_path):
        exhibit, target = EXHIBITS["tan-fig-5"], tmp_path / "tan-fig-5.ipynb"
        check_notebook(tmp_path, exhibit, force=False)
        target.write_text("mine")
        refused(check_notebook, tmp_path, exhibit, force=False, said="no run left.* or add --force")
        check_notebook(tmp_path, exhibit, force=True)
        (tmp_path / "tan-fig-5.run.json").write_text(json.dumps({"sha256": file_hash(target)}))
        check_notebook(tmp_path, exhibit, force=False)
        target.write_text("mine, with a remark")
        refused(check_notebook, tmp_path, exhibit, force=False, said="or that was changed since")

    def test_a_notebook_runs_with_a_file_of_the_user_given_by_a_relative_path(self, steerkit, home):
        shutil.copy(BUNDLED / "openness.jsonl", home / "mine.jsonl")
        settings = override(load_profile("smoke"), datasets="mine.jsonl", layer=1)
        experiment.grid(settings, "statement")  # so that the kernel needs no model
        given = [x for p in ("datasets=mine.jsonl", "layer=1", "answer_format=statement") for x in ("-p", p)]
        code, out, err = steerkit("run", "tan-fig-2", "--profile", "smoke", *given)
        assert (code, err) == (0, "")
        files = {f"-statement.{suffix}" for suffix in ("png", "svg", "csv", "json")}
        files |= {"-statement-narrow.png", ".ipynb", ".run.json"}
        assert {Path(line).name for line in out.splitlines()} == {f"tan-fig-2{end}" for end in files}
        assert set(pd.read_csv(home / "out/tan-fig-2/tan-fig-2-statement.csv")["dataset"]) == {"mine.jsonl"}

    def test_decompose_writes_the_directions_and_says_what_they_explain(self, steerkit, vectors, home):
        command = ["decompose", "--vector", vectors, "--sae", "tiny", "--features", 5]
        code, out, _ = steerkit(*command, "--out", "deep/d.csv")
        assert code == 0 and re.fullmatch(r"signed-pursuit: 5 features explain 0\.\d{4} of the .+\.\n", out)
        table = pd.read_csv(home / "deep" / "d.csv")
        assert list(table["rank"]) == [1, 2, 3, 4, 5] and table["coefficient"].ne(0).all()
        rows = json.loads(steerkit(*command, "--json")[1])
        assert [row["feature"] for row in rows] == list(table["feature"])

    def test_generate_answers_once_for_each_multiplier(self, steerkit, vectors):
        pytest.importorskip("steerkit.generation")
        command = ["generate", "--model", "tiny", "--vectors", vectors, "--prompt", "Do you like art?"]
        given = ["--layer", 2, "--multipliers=-2,0,2", "--max-new-tokens", 5]
        rows = json.loads(steerkit(*command, *given, "--json")[1])
        assert [row["multiplier"] for row in rows] == [-2, 0, 2] and isinstance(rows[0]["text"], str)
        code, out, _ = steerkit(*command, *given)
        assert code == 0 and "multiplier" in out and "text" in out
        code, _, err = steerkit(*command, "--layer", 3)
        assert code == 1 and "a layer these vectors have" in err


EXTRACT = ["extract", *ON_TINY, "--out", "v.safetensors"]
RUN = ["run", "tan-fig-2", "--profile", "smoke", "-p"]
SWEEP = ["sweep", *ON_TINY, "--vectors", "VECTORS", "--out", "g.parquet"]


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["run", "tan-fig-1", "-p", "layr=3"], "parameters of tan-fig-1"),
            (["run", "tan-fig-1", "-p", "model=\ud800"], "model in UTF-8"),
            (["run", "tan-fig-1", "--profile", "desk"], "a profile"),
            (["run", "tan-fig-1", "-p", "layer=1", "-p", "layer=2"], "each parameter once"),
            ([*RUN, "datasets=openness,nothere.jsonl"], "a data file at nothere.jsonl"),
            ([*RUN, "datasets=openness,opennes"], "a data set of source 'bundled'"),
            ([*RUN, "datasets=openness,file.csv"], "items in file.csv"),
            ([*RUN, "datasets=openness,a/openness.jsonl"], "data sets of different names"),
            ([*RUN, "answer_format=letter,prose"], "an answer format"),
            ([*RUN, "model=tinny"], "a registered model"),
            ([*RUN, "layer=80", "-p", "model=llama3.1-70b"], "a layer from 0 to 79 of llama3.1-70b, or -1"),
            ([*RUN, "layer=4", "-p", "model=own"], "a layer from 0 to 3 of own, or -1"),
            ([*RUN, "layer=-2"], "a layer of at least 0, or -1"),
            ([*RUN, "train=0"], "train of at least 1"),
            (["run", "tan-fig-5", "-p", "profiles=smoke,desk"], "a profile"),
            (["run", "mayne-fig-2", "-p", "dataset=nothing"], "a data set of source 'bundled'"),
            (["run", "tan-fig-5", "--out", str(exhibits.NOTEBOOKS)], "a folder for results"),
            (["reproduce", "--only", "rimsky-*"], "a figure or table"),
            (["plan", "--profile", "smoke", "--hours", "nan"], "a number of hours"),
            ([*EXTRACT, "--model", "loops"], "a file to read at loops"),
            ([*EXTRACT, "--out", "loops/config.json/v.safetensors"], "a folder that can be written into"),
            ([*EXTRACT, "--model", "tinny"], "a registered model"),
            ([*EXTRACT, "--layers", "4"], "a layer from 0 to 3"),
            ([*EXTRACT, "--format", "prose"], "an answer format"),
            ([*EXTRACT, "--out", "file/v.safetensors"], "a folder that can be written into"),
            ([*SWEEP, "--vectors", "nothing.safetensors"], "steering vectors written by steerkit"),
            ([*SWEEP, "--multipliers=1,x"], "numbers separated by commas"),
            ([*SWEEP, "--multipliers=nan,1"], "numbers separated by commas"),
            ([*SWEEP, "--layers", "3"], "a layer these vectors have"),
            (["ledger", *ON_TINY, "--item", "120"], "an item from 0 to 119"),
        ],
        ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else "",
    )
    def test_an_error_is_one_paragraph_and_no_file(self, steerkit, vectors, home, arguments, expected):
        (home / "file").write_text("")
        (home / "file.csv").write_text("a,b")
        for name in ("loops", "own"):
            (home / name).mkdir()
        (home / "loops" / "config.json").symlink_to("config.json")
        (home / "own" / "config.json").write_text('{"text_config": {"n_layer": 4}}')
        there = sorted(home.rglob("*"))
        code, out, err = steerkit(*(vectors if a == "VECTORS" else a for a in arguments))
        assert code == 1 and out == "" and len(err.splitlines()) == 1
        assert err.startswith(f"Expected {expected}") and " found " in err and " Next: " in err
        assert sorted(home.rglob("*")) == there

    def test_a_traceback_is_there_for_those_who_ask(self, steerkit, monkeypatch):
        for arguments in (["--debug", "run", "tan-fig-9"], ["run", "tan-fig-9", "--debug"]):
            refused(steerkit, *arguments, said="a figure or table")
        monkeypatch.setenv("STEERKIT_DEBUG", "1")
        refused(steerkit, "run", "tan-fig-9", said="a figure or table")

    @pytest.mark.parametrize("asked", [[], ["--debug"]], ids=["plain", "debug"])
    @pytest.mark.parametrize("command", ["run", "reproduce"])
    def test_the_traceback_of_a_kernel_is_there_for_those_who_ask_too(
        self, smoke, steerkit, monkeypatch, tmp_path, command, asked
    ):
        monkeypatch.setattr(exhibits, "EXECUTED", tmp_path / "notebooks")
        failed = PapermillExecutionError(4, 4, "", "ValueError", "no luck", ["Cell In[4], line 2", "---> x"])
        monkeypatch.setattr("papermill.execute_notebook", raising(failed))
        only = ["--no-book", "--only", "tan-tab-2"] if command == "reproduce" else ["tan-tab-2"]
        code, _, err = steerkit(command, *only, "--profile", "smoke", *asked)
        assert code == 1 and "cell 4 raised ValueError: no luck" in err.splitlines()[-1]
        assert ("Cell In[4], line 2\n---> x" in err) == bool(asked) == (len(err.splitlines()) > 1)

    def test_ctrl_c_and_a_fault_of_the_program_are_paragraphs_too(self, steerkit, monkeypatch):
        monkeypatch.setattr("companion.cli.doctor._machine", raising(KeyboardInterrupt()))
        code, out, err = steerkit("doctor")
        assert (code, out) == (130, "") and "found Ctrl-C. What was finished is kept" in err
        failing = raising(ValueError("first line\nsecond   line."))  # and says where
        monkeypatch.setattr("companion.cli.doctor._machine", failing)
        code, out, err = steerkit("doctor", "--json")
        assert code == 1 and out == "" and len(err.splitlines()) == 1
        assert re.search(r"ValueError: first line second line \(doctor.py, line \d+\)\. Next: .*--debug", err)
        with pytest.raises(ValueError, match="first line"):
            steerkit("doctor", "--debug")
