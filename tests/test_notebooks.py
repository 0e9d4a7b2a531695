"""The notebooks: one form for all, and each runs to its end, from the command line, with the tiny model."""

import json
import re
import shutil
from dataclasses import replace
from unittest.mock import ANY

import nbformat
import pandas as pd
import pytest
from conftest import command_line

from companion import exhibits, kernels, reproduce
from companion.exhibits import EXHIBITS, NOTEBOOKS, TYPES, Exhibit, parameters_of
from companion.profiles import BOOK_FORMATS, load_profile
from companion.reproduce import Outcome, run_notebook
from companion.tan import records


@pytest.fixture(params=EXHIBITS.values(), ids=lambda exhibit: exhibit.id)
def exhibit(request):
    return request.param


@pytest.fixture
def source(exhibit):
    return nbformat.read(exhibit.notebook, as_version=4)


class TestForm:
    def test_every_notebook_says_what_it_is_and_where_it_stands(self):
        abouts = [json.loads(path.read_text())["metadata"]["steerkit"] for path in NOTEBOOKS.glob("*.ipynb")]
        assert len({about["order"] for about in abouts}) == len(abouts) == len(EXHIBITS)
        assert {about["paper"] for about in abouts} == {exhibits.TAN, exhibits.MAYNE, "Beyond the papers"}

    def test_it_is_valid_without_outputs_or_counts_and_its_cells_are_numbered(self, source):
        """So two versions compare well."""
        nbformat.validate(source)
        for cell in source.cells:
            assert cell.cell_type == "markdown" or (cell.outputs == [] and cell.execution_count is None)
        assert [cell.id for cell in source.cells] == [str(number) for number in range(len(source.cells))]

    def test_it_starts_with_a_title_and_parameters_each_with_a_type_and_a_comment(self, source, exhibit):
        assert source.cells[0].cell_type == "markdown" and source.cells[0].source.startswith("# ")
        first = next(cell for cell in source.cells if cell.cell_type == "code")
        assert [cell for cell in source.cells if "parameters" in cell.metadata.get("tags", [])] == [first]
        found = parameters_of(exhibit.notebook)
        assert list(found) == [line.partition(":")[0] for line in first.source.splitlines()]
        for parameter in found.values():
            assert type(parameter.default) is TYPES[parameter.type] and parameter.help
        assert found["profile"].default == "laptop"

    def test_code_is_short_and_open_and_nothing_is_installed_or_shelled_out(self, source):
        """Nor does a number of ours stand in prose: text may only name figures, layers and dates of the papers."""
        tags = [set(cell.metadata.get("tags", [])) for cell in source.cells if cell.cell_type == "code"]
        folds = {"hide-input", "hide-cell", "remove-input", "remove-cell"}  # what a reader has to open
        assert sum(bool(one & folds) and "parameters" not in one for one in tags) <= 1
        for cell in source.cells:
            if cell.cell_type == "code":
                assert len(cell.source.splitlines()) <= 30  # as ruff lays it out
                assert not re.search(r"^\s*[!%]|get_ipython|subprocess|os\.system", cell.source, re.MULTILINE)
            else:
                assert re.findall(r"\d+\.\d+", cell.source) == []


DRAWN = ("png", "svg")
OTHER_PARTS = {"tan-flaws": ("overview", "split", "bracket"), "tan-claims": ("claims",)}  # instead of formats
OTHER_PARTS |= {"tan-binding": ("orders", "longer"), "tan-steered": ("texts",)}


@pytest.fixture
def executed(smoke, executed_notebooks, monkeypatch):
    """The folder of executed notebooks, which the package takes for its own; to be read."""
    monkeypatch.setattr(exhibits, "EXECUTED", executed_notebooks)
    return executed_notebooks


@pytest.fixture
def again(executed, tmp_path, monkeypatch):
    """A copy of it, in which notebooks may run again."""
    copy = shutil.copytree(executed, tmp_path / "again")
    monkeypatch.setattr(exhibits, "EXECUTED", copy)
    return copy


class TestReproduce:
    def test_every_notebook_runs_to_its_end_and_the_second_time_is_up_to_date(self, reproduced, again):
        _, code, screen = reproduced
        assert code == 0 and screen.count("│ done ") == len(EXHIBITS)
        before = {path: path.stat().st_mtime_ns for path in again.iterdir() if path.suffix != ".lock"}
        code, screen = command_line("reproduce", "--profile", "smoke", "--no-book")
        assert code == 0 and screen.count("│ up to date ") == len(EXHIBITS)
        assert "tables to compute" not in screen
        assert {path: path.stat().st_mtime_ns for path in again.iterdir() if path.suffix != ".lock"} == before

    @pytest.mark.parametrize("name", EXHIBITS)
    def test_it_leaves_its_files_which_say_what_they_show_and_where_from(self, executed, name):
        abouts = [json.loads(path.read_text()) for path in sorted(executed.glob(f"{name}-*.json"))]
        parts = {about["part"]: about for about in abouts if about["exhibit"] == name}
        found = {path.name for path in executed.glob(f"{name}[.-]*")}
        expected = {f"{name}.ipynb", f"{name}.run.json"}
        for part in parts:
            drawn = (executed / f"{name}-{part}.png").exists()
            stacked = parts[part].get("narrow", False)
            expected |= {f"{name}-{part}.{suffix}" for suffix in ("csv", "json", *DRAWN[: 2 * drawn])}
            expected |= {f"{name}-{part}-narrow.png"} if stacked else set()
        assert parts or name.endswith("walkthrough")
        assert found - {f"{name}.ipynb.lock"} == expected and not list(executed.glob(".running*"))
        assert EXHIBITS[name].published == ("published" in parts)
        content = (executed / f"{name}.ipynb").read_text()
        assert '"output_type": "error"' not in content
        alts = " ".join(str(cell["metadata"].get("mystnb", "")) for cell in json.loads(content)["cells"])
        if set(EXHIBITS[name].needs) == {"sweep", "grid"}:  # a statement has no options
            formats = {"tan-fig-4": ("letter",), **OTHER_PARTS}.get(name, BOOK_FORMATS)
            assert set(formats) <= set(parts)
        for part, about in parts.items():
            assert len(about["caption"]) > 20 and about["line"].startswith("Profile smoke; ")
            assert len(pd.read_csv(executed / f"{name}-{part}.csv")) > 0
            foreign = part.startswith(("published", "registered", "gap"))
            if not foreign and not name.startswith(("tan-tab", "mayne-")):
                engine = "none, by hand" if name == "tan-walkthrough" else "tree|gradient"
                assert about["artefacts"] and re.search(f"engine ({engine})", about["line"])
            if part in BOOK_FORMATS and not name.startswith("mayne-"):
                assert set(about["data_sha256"]) >= {"openness"}
            image = executed / f"{name}-{part}.png"
            if image.exists():
                assert image.read_bytes()[:4] == b"\x89PNG" and len(about["alt"]) > 40
                assert repr(about["alt"])[1:-1] in alts

    def test_an_executed_notebook_holds_no_time_so_that_two_runs_compare_equal(self, again):
        """One in a forked kernel, the other in one started by jupyter."""
        before = (again / "tan-tab-2.ipynb").read_bytes()
        nbformat.validate(nbformat.reads(before.decode(), 4))
        assert run_notebook(EXHIBITS["tan-tab-2"], {"profile": "smoke"}, force=True).status == "done"
        assert (again / "tan-tab-2.ipynb").read_bytes() == before


def new_notebook(*sources: str) -> nbformat.NotebookNode:
    """A notebook of these cells, of which the first holds the parameters."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    made.cells[0].metadata.tags = ["parameters"]
    made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return made


class TestNewFigure:
    """From the outside: whoever drops a notebook into the folder has added a figure."""

    CELLS = (
        'profile: str = "laptop"  # the dial\nanswer_format: str = "both"  # as in every notebook',
        'import pandas as pd\n\nfrom companion import page\n\nrun = page.start("my-fig", profile)',
        'run.show_table(pd.DataFrame({"n": [1]}), "numbers", [], "**Mine.** One number.")',
    )

    def test_a_notebook_in_the_folder_is_listed_last_and_runs(self, own_folders, monkeypatch, forked):
        folder, made = own_folders / "notebooks", new_notebook(*self.CELLS)
        made.metadata.steerkit = {"paper": "Mine", "number": "Figure 1", "title": "A number"}
        shutil.copytree(NOTEBOOKS, folder)
        nbformat.write(made, folder / "my-fig.ipynb")
        del made.metadata["steerkit"]
        nbformat.write(made, folder / "scratch.ipynb")  # is left alone
        found = exhibits.read(folder)
        assert list(found) == [*EXHIBITS, "my-fig"] and found["tan-fig-1"] == EXHIBITS["tan-fig-1"]
        for name, value in {"NOTEBOOKS": folder, "EXHIBITS": found}.items():
            monkeypatch.setattr(exhibits, name, value)
        assert "my-fig" in command_line("list")[1]
        code, screen = command_line("run", "my-fig", "--profile", "smoke", "--out", own_folders / "out")
        assert code == 0 and "my-fig-numbers.csv" in screen


BROKEN = """
import os, pathlib
part = pathlib.Path(os.environ["STEERKIT_OUT"], f"broken-{profile}")
for suffix in (".csv", ".png", "-narrow.png"):
    part.with_name(part.name + suffix).write_text(profile)
part.with_suffix(".json").write_text('{"exhibit": "broken"}')
if profile == "bad":
    raise ValueError("no luck.")
if profile == "dead":
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def broken(tmp_path, monkeypatch) -> Exhibit:
    """An exhibit whose notebook fails when its parameter says so."""
    nbformat.write(new_notebook('profile: str = "good"  # how it ends', BROKEN), tmp_path / "broken.ipynb")
    monkeypatch.setattr(exhibits, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(exhibits, "EXECUTED", tmp_path / "out")
    return Exhibit("broken", "no paper", "Figure 0", "none")


@pytest.mark.usefixtures("own_folders")
class TestFailure:
    def test_a_notebook_that_fails_says_why_and_leaves_the_old_files(self, broken, tmp_path, forked):
        assert run_notebook(broken, {}).status == "done"
        before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        failures = {"bad": "raised ValueError: no luck. What", "dead": "its Python process died"}
        for profile, message in failures.items():
            outcome = run_notebook(broken, {"profile": profile})
            assert outcome.status == "failed" and message in outcome.error
            assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
        assert run_notebook(broken, {}).status == "up to date"

    def test_figures_of_an_earlier_run_go_with_it_and_those_of_another_notebook_stay(
        self, broken, tmp_path, forked
    ):
        out = tmp_path / "out"
        assert run_notebook(broken, {}).status == "done"
        (out / "broken-in-two-part.json").write_text('{"exhibit": "broken-in-two"}')
        assert run_notebook(broken, {"profile": "fair"}).status == "done"
        left = {path.name for path in out.iterdir() if path.suffix in (".json", ".csv", ".png")}
        assert left - {"broken.run.json", "broken-in-two-part.json"} == {
            f"broken-fair{suffix}" for suffix in (".csv", ".json", ".png", "-narrow.png")
        }

    def test_a_record_that_came_or_changed_is_a_reason_to_run_again(
        self, broken, tmp_path, monkeypatch, forked
    ):
        monkeypatch.setattr(reproduce, "RECORDS", tmp_path / "records")
        assert run_notebook(broken, {}).status == "done"
        record = tmp_path / "records" / "smoke" / "grid-letter.parquet"
        record.parent.mkdir(parents=True)
        for content in (b"one", b"another"):
            record.write_bytes(content)
            assert [run_notebook(broken, {}).status for _ in range(2)] == ["done", "up to date"]

    def test_who_stops_asking_ends_what_runs_and_keeps_what_is_done(self, broken, tmp_path, monkeypatch):
        """Two at a time: when the quick one is there, the other, which would sleep for an hour, is under way."""
        monkeypatch.setattr(reproduce, "_at_once", lambda: 2)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        alone = "import os\nassert os.environ['OMP_NUM_THREADS'] == str(max(1, os.cpu_count() // 2))"
        cells = {"slow": "import time\ntime.sleep(3600)", "quick": alone}
        for name, cell in cells.items():
            nbformat.write(new_notebook('profile: str = "good"', cell), tmp_path / f"{name}.ipynb")
        each = [replace(broken, id=name) for name in cells]
        running = reproduce.run_notebooks((one, {}, one.executed) for one in each)
        assert next(running) == Outcome("quick", "done", ANY)
        ended = [kernel.provisioner.process for kernel in kernels.RUNNING]
        running.close()
        assert len(ended) == 1 and ended[0].poll() is not None and not kernels.RUNNING
        left = {path.name for path in (tmp_path / "out").iterdir() if path.suffix != ".lock"}
        assert left == {"quick.ipynb", "quick.run.json"}
        assert run_notebook(broken, {}).status == "done"  # the next one is not ended


def test_the_published_profile_draws_what_was_digitised_and_computes_nothing(
    own_folders, monkeypatch, forked
):
    folder = own_folders / "notebooks"
    monkeypatch.setattr(exhibits, "EXECUTED", folder)
    code, screen = command_line("reproduce", "--profile", "published", "--only", "tan-fig-[17]")
    assert code == 0 and "tables to compute" not in screen
    assert {path.name for path in folder.glob("*d.png")} == {"tan-fig-1-published.png"}
    about = json.loads((folder / "tan-fig-1-published.json").read_text())
    assert "digitised" in about["line"] and "digitised" in about["caption"] and about["artefacts"] == []
    assert not list((own_folders / "artifacts").glob("*"))


@pytest.mark.parametrize("name", load_profile("laptop").compared)
def test_figure_1_is_drawn_from_every_record_that_the_book_shows(name, tmp_path, forked):
    """Not every record has placebos in every format: a book on a laptop is not to end there."""
    forms = [form for form in load_profile(name).formats if records.path_of(name, "grid", form).exists()]
    given = {"profile": name, "answer_format": ",".join(forms)}
    outcome = run_notebook(EXHIBITS["tan-fig-1"], given, tmp_path / "tan-fig-1.ipynb")
    assert outcome.status == "done", outcome.error
