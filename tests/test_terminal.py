"""What people see and what machines read: a terminal (a real one, a pty), a pipe, JSON, and Tab in a shell."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import command_line, raising

from companion import cli, exhibits, places, store
from companion.cli import progress, screen
from companion.exhibits import EXHIBITS
from companion.reproduce import Outcome

PROGRAM = [sys.executable, "-m", "companion.cli"]
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # but tab and line feed
# The figures and tables of both papers, their appendices, and what the rebuttal added.
ITEMS = [*(f"tan-fig-{n}" for n in range(1, 8)), *(f"tan-tab-{n}" for n in range(1, 4)), "mayne-tab-1"]
ITEMS += [f"mayne-fig-{n}" for n in range(1, 6)]
APPENDIX = "fig-1 fig-3 fig-4 layers variance cosine ranges residual models"
ITEMS += [f"tan-app-{name}" for name in APPENDIX.split()]


def on_a_terminal(*arguments: str, stop_at: str = "") -> tuple[int, str]:
    """Exit code and everything a terminal received; with `stop_at`, Ctrl-C when that text appears."""
    pexpect = pytest.importorskip("pexpect", reason="no pseudo-terminals on this system")
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "FORCE_COLOR")}
    given = {"env": environment | {"TERM": "xterm-256color", "COLUMNS": "120"}, "timeout": 100}
    # A background job of a shell starts with Ctrl-C ignored, and hands that on.
    given["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    terminal, seen = pexpect.spawn(PROGRAM[0], [*PROGRAM[1:], *arguments], encoding="utf-8", **given), ""
    if stop_at:
        terminal.expect_exact(stop_at)
        seen = terminal.before + terminal.after
        terminal.sendintr()
    terminal.expect(pexpect.EOF)
    terminal.close()
    return terminal.exitstatus, seen + terminal.before


@pytest.fixture
def quick(monkeypatch) -> list[str]:
    """Notebooks that take no time; the list of those that ran."""
    ran = []

    def execute(source: Path, output: Path, values: dict) -> None:
        ran.append(source.stem)
        output.write_text("{}")

    monkeypatch.setattr("companion.reproduce._execute", execute)
    return ran


class TestList:
    def test_every_item_of_both_papers_has_a_notebook_and_every_exhibit_a_row(self):
        code, out = command_line("list", "--json")
        rows = {row["id"]: row for row in json.loads(out)}
        assert code == 0 and list(rows) == list(EXHIBITS) and set(ITEMS) <= set(rows)
        assert all((places.ROOT / row["notebook"]).is_file() for row in rows.values())
        for name in ITEMS:
            assert rows[name]["paper"] == (exhibits.TAN if name.startswith("tan") else exhibits.MAYNE)

    def test_it_tells_of_the_last_run_and_of_the_verdicts(self, tmp_path, monkeypatch):
        monkeypatch.setattr(exhibits, "EXECUTED", tmp_path)
        verdicts = "statement,verdict,exhibit\na,agrees,tan-fig-1\nb,differs,tan-fig-1\nc,agrees,tan-fig-1\n"
        (tmp_path / "tan-claims-claims.csv").write_text(verdicts)
        about = {"parameters": {"profile": "smoke"}, "finished": time.time() - 7200, "seconds": 1.5}
        (tmp_path / "tan-fig-1.run.json").write_text(json.dumps(about))
        [row] = [row for row in json.loads(command_line("list", "--json")[1]) if row["id"] == "tan-fig-1"]
        assert row["profile"] == "smoke" and row["seconds"] == 1.5
        assert row["claims"] == {"agrees": 2, "differs": 1}
        [line] = [line for line in command_line("list")[1].splitlines() if "tan-fig-1 " in line]
        assert "smoke, 2.0 h ago" in line and "2 agrees, 1 differs" in line

    def test_a_terminal_gets_links_and_a_pipe_plain_text(self):
        code, seen = on_a_terminal("list")
        assert code == 0 and "\x1b]8;" in seen and "file://" in seen and "tan-fig-7" in seen
        done = subprocess.run([*PROGRAM, "list"], capture_output=True, text=True, check=True)
        assert not CONTROL.search(done.stdout) and done.stderr == ""


def test_a_terminal_obeys_no_name_of_a_file():
    code, seen = on_a_terminal("ledger", "--model", "tiny", "--data", "\x1b[2J\x9b2Jx.jsonl")
    assert code == 1 and "a data file at \ufffd[2J\ufffd2Jx.jsonl; found no" in " ".join(seen.split())


def test_who_waits_for_another_process_sees_what_it_computes(own_folders, capsys):
    """A table that is computed is told, one that is read is not; a name of a file moves no cursor."""
    with store.telling() as told, screen.waiting(screen.console(machine=True), "it runs", told):
        for _ in range(2):
            store.table("grid-openness", {"x": 1}, lambda: pd.DataFrame({"x": [1.0]}))
        told.write_text(told.read_text() + "\x1b[2J\n")
    assert capsys.readouterr().err == "  grid-openness\n  \N{REPLACEMENT CHARACTER}[2J\n"
    assert store.TOLD not in os.environ


class TestReproduce:
    COMMAND = ("reproduce", "--profile", "smoke", "--no-book", "--only", "tan-fig-2")

    @pytest.fixture(autouse=True)
    def book(self, tmp_path, monkeypatch) -> Path:
        monkeypatch.setattr(exhibits, "EXECUTED", tmp_path / "notebooks")
        return tmp_path / "notebooks"

    def test_off_a_terminal_there_are_plain_lines_and_the_second_run_is_up_to_date(self, smoke, quick, book):
        code, out = command_line(*self.COMMAND)
        assert code == 0 and quick == ["tan-fig-2"] and not CONTROL.search(out)
        first, second, *_, last = out.splitlines()
        assert first == "1 notebooks, 1 to run."
        assert re.fullmatch(r"  tan-fig-2: done, \d+\.\d s", second)
        assert re.search(r"│ tan-fig-2 │ done +│ \d+\.\d +│ \S+tan-fig-2\.ipynb", out)
        assert re.fullmatch(r"Tables: nothing to compute\. Notebooks: 1 done\. Took .+\.", last)
        code, out = command_line(*self.COMMAND)
        assert code == 0 and quick == ["tan-fig-2"]
        assert out.startswith("1 notebooks, 0 to run.\n") and "Notebooks: 1 up to date." in out
        path = book / "tan-fig-2.run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 240.0}))
        out = command_line(*self.COMMAND, "--force")[1]
        assert out.startswith("1 notebooks, 1 to run; 1 of them took 4 min last time.\n")

    def test_json_is_all_there_is_on_standard_output(self, smoke, quick, book):
        found = json.loads(command_line(*self.COMMAND, "--json")[1])
        assert (found["profile"], found["tables"], found["book"]) == ("smoke", 0, None)
        assert set(found["seconds"]) == {"tables", "notebooks"}
        [row] = found["notebooks"]
        assert (row["exhibit"], row["status"]) == ("tan-fig-2", "done")
        assert row["notebook"] == str(book / "tan-fig-2.ipynb")

    def test_every_table_says_how_much_is_done_by_then(self, own_folders, quick):
        """In the unit of the estimate, token-passes, which are those that a run reports."""
        code, out = command_line(*self.COMMAND)
        shares = [int(share) for share in re.findall(r"^ +(\d+) %  (?:sweep|grid) ", out, re.MULTILINE)]
        [tables] = re.findall(r"^(\d+) tables to compute", out, re.MULTILINE)
        assert code == 0 and len(shares) == int(tables) == 12 and "Tables: 12 computed." in out
        assert shares[0] == 0 and shares == sorted(shares) and 75 < shares[-1] < 100

    def test_a_failed_notebook_is_named_and_the_exit_code_tells(self, smoke, book, monkeypatch, capsys):
        outcome = Outcome("tan-fig-2", "failed", 2.0, "Expected this; found that. Next: mend it.")
        monkeypatch.setattr(progress, "run_notebooks", lambda *_, **__: (one for one in [outcome]))
        code, out = command_line(*self.COMMAND)
        assert code == 1 and "Notebooks: 1 failed." in out
        assert capsys.readouterr().err == "tan-fig-2: Expected this; found that. Next: mend it.\n"

    def test_a_folder_that_is_read_only_is_refused_before_any_table(self, own_folders, monkeypatch, capsys):
        """That of the notebooks, and that of the records."""
        monkeypatch.setattr("companion.cli.outputs.TemporaryFile", raising(OSError(errno.EROFS, "Read-only")))
        monkeypatch.setattr(progress, "compute_tables", pytest.fail)
        for command in (self.COMMAND, ("record", "smoke", "--format", "letter")):
            code, out = command_line(*command)
            said = capsys.readouterr().err
            assert (code, out) == (1, "") and said.startswith("Expected a folder that can be written into")

    def test_the_table_leads_to_the_page_once_there_is_one(self, smoke, quick, tmp_path, monkeypatch):
        page = tmp_path / "site" / "tan" / "reliability.html"
        page.parent.mkdir(parents=True)
        page.write_text("")
        monkeypatch.setattr(progress, "compiled", lambda: {"site": str(page.parents[1] / "index.html")})
        report = progress.reproduce_all("smoke", [EXHIBITS["tan-fig-2"]], False, True, True)
        [row] = report.rows()
        assert row["page"] == page and set(report.seconds) == {"tables", "notebooks", "book"}

    def test_ctrl_c_on_a_terminal_ends_the_run_and_leaves_nothing_half_done(self, tmp_path, monkeypatch):
        """The notebook runs in another process, which must end as well."""
        tree = tmp_path / "tree"
        tree.mkdir()
        unwanted = shutil.ignore_patterns("__pycache__", "sae")
        for name in ("steerkit", "companion", "notebooks", "profiles"):
            shutil.copytree(places.ROOT / name, tree / name, ignore=unwanted)
        (tree / "book").mkdir()
        monkeypatch.setenv("STEERKIT_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("PYTHONPATH", str(tree))
        monkeypatch.chdir(tree)
        command = ("reproduce", "--profile", "smoke", "--no-book", "--only", "tan-tab-?")
        code, seen = on_a_terminal(*command, stop_at="notebook 1 of 3")
        assert code == 130, seen
        assert "found Ctrl-C. Kept are 0 new tables and 0 new notebooks" in " ".join(seen.split())
        left = {path.name for path in (tree / "book" / "notebooks").iterdir()}
        assert "\x1b[" in seen and not any(name.endswith(".ipynb") for name in left)
        assert not any(name.startswith(".running") for name in left)


JSON_COMMANDS = {
    "list": ["list"],
    "doctor": ["doctor"],
    "ledger": ["ledger", "--model", "tiny", "--data", "narcissism"],
    "extract": "extract --model tiny --data narcissism --out v.safetensors --layers 1".split(),
    "sweep": "sweep --model tiny --data narcissism --vectors v.safetensors --out g.parquet --multipliers=-1,1".split(),
    "artifacts pack": ["artifacts", "pack", "all.tar"],
    "artifacts unpack": ["artifacts", "unpack", "all.tar"],
}
# Tested with what they compute.
ELSEWHERE = {"verify", "reproduce", "plan", "decompose", "generate", "screen"}
LONG = {"run", "record", "audit", "formats", "book"}


class TestJson:
    def test_every_command_that_prints_results_has_it(self):
        from typer.main import get_command

        commands = dict(get_command(cli.app).commands)
        commands |= {f"artifacts {n}": c for n, c in commands.pop("artifacts").commands.items()}
        options = {name: [o for p in one.params for o in p.opts] for name, one in commands.items()}
        assert {name for name, known in options.items() if "--json" not in known} <= {"book"}
        assert set(commands) == set(JSON_COMMANDS) | ELSEWHERE | LONG

    def test_it_parses_and_is_strict_and_a_run_lists_its_files(self, smoke, quick, tmp_path, monkeypatch):
        refuse = pytest.fail  # NaN and infinities
        monkeypatch.chdir(tmp_path)
        for name, arguments in JSON_COMMANDS.items():
            code, out = command_line(*arguments, "--json")
            assert code == 0 and json.loads(out, parse_constant=refuse), name
        stale = tmp_path / "out/tan-tab-1/tan-tab-1-letter.csv"  # of an earlier run: not one of its files
        stale.parent.mkdir(parents=True)
        stale.write_text("first")
        files = [f"out/tan-tab-1/tan-tab-1.{suffix}" for suffix in ("ipynb", "run.json")]
        for _ in range(2):  # the second time they are replaced
            code, out = command_line("run", "tan-tab-1", "--profile", "smoke", "--json")
            assert (code, json.loads(out)["status"], json.loads(out)["files"]) == (0, "done", files)

    def test_what_json_lacks_is_null_and_what_it_does_not_know_is_text(self, capsys):
        numbers = [np.float32(0.5), np.float64("inf")]
        screen.print_json({"a": float("nan"), "b": numbers, "c": Path("x"), "d": np.int64(3)})
        assert json.loads(capsys.readouterr().out) == {"a": None, "b": [0.5, None], "c": "x", "d": 3}


INSTALLED = shutil.which("bash") and Path(sys.executable).with_name("steerkit").exists()


@pytest.mark.skipif(not INSTALLED, reason="bash or the steerkit command is not installed")
class TestCompletion:
    def offers(self, *words: str) -> list[str]:
        """What Tab offers after these words, the last of which is not finished, in a real bash."""
        script = f"""
            eval "$(steerkit --show-completion bash)"
            COMP_WORDS=({" ".join(f"'{word}'" for word in ("steerkit", *words))})
            COMP_CWORD={len(words)}
            "$(complete -p steerkit | sed 's/.*-F \\([^ ]*\\).*/\\1/')" steerkit
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        there = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        command = ["bash", "--norc", "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=there)
        assert done.stderr == ""
        return done.stdout.split()

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            ("reprod", "reproduce"),
            ("run tan-tab", "tan-tab-1 tan-tab-2 tan-tab-3"),
            ("run tan-fig-1 -p lay", "layer="),
            ("reproduce --profile smoke-", "smoke-gemma"),
            ("extract --model smol", "smollm2-135m"),
            ("sweep --data narc", "narcissism"),
            ("sweep --format ", "letter statement yes-no options"),
            ("sweep --data companion/data/bundled/openn", "companion/data/bundled/openness.jsonl"),
        ],
    )
    def test_tab_offers_the_names_there_are(self, words, expected, monkeypatch):
        monkeypatch.chdir(places.ROOT)
        assert self.offers(*words.split(" ")) == expected.split()
