"""`steerkit reproduce`, killed at random moments: nothing wrong is ever left, and the next run does what is missing.

One process imports everything and loads the tiny model; every run is a fork of it, so that twenty take no longer than
they must. A run is the command line itself, its notebook kernel included. It notes what it does (a table begun, a
step, a file written), and a kill comes a random moment after a random one of these: on a busy machine as on a fast one.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import torch

from companion import store
from steerkit.vectors import load_vectors

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork (not on Windows)")
EXHIBIT = "tan-fig-2"  # needs all sweeps and grids of the profile
KILLS = 20
TABLES = 12  # three data sets, two formats, sweep and grid

NURSERY = textwrap.dedent("""
    import json, os, signal, sys, threading, time
    from pathlib import Path
    from companion import cli, cost, exhibits, models, page, profiles, reproduce, store
    from companion.cli import progress
    from companion.tan import experiment, jobs
    from steerkit import extraction, grid
    import papermill, pyarrow.parquet, scipy.stats  # what a run would import on its way

    def run(folder, stall):
        os.environ["STEERKIT_ARTIFACTS"] = f"{folder}/artifacts"
        exhibits.EXECUTED = Path(folder) / "notebooks"
        compute, flush = jobs.compute, os.fsync

        def note(what, file="events"):
            with open(f"{folder}/{file}", "a") as notes:
                notes.write(f"{what}\\n")

        def noted(job, step):
            note(job.name, "log")
            note("begun")
            return compute(job, lambda passes: (note("step"), step(passes)))

        def slow(file):  # a slow disk: some kills come while it is written
            nonlocal stall
            note("writes")
            stall -= 1
            if not stall:
                note("stalled", "stalled")
                time.sleep(600)
            time.sleep(0.02)
            flush(file)
            note("written")

        jobs.compute, os.fsync = noted, slow
        with open(f"{folder}/screen", "a") as screen:
            os.dup2(screen.fileno(), 1), os.dup2(screen.fileno(), 2)
        sys.argv = ["steerkit", "reproduce", "--profile", "smoke", "--only", sys.argv[1], "--no-book"]
        cli.main()

    def born(folder, stall):
        child = os.fork()
        if not child:
            code = 1
            try:
                run(folder, stall)
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                os._exit(code)
        return child

    models.model_of("tiny"), cost.matmul_rate(), cost.outline("tiny"), models.weights_of("tiny")
    [jobs.dataset_of(name, "bundled") for name in profiles.load_profile("smoke").datasets]
    store.code_hash(), store.commit()  # whoever edits the package meanwhile makes no new keys
    print("ready", flush=True)
    for line in sys.stdin:
        folders, events, moment, stall = json.loads(line)
        path = Path(folders[0]) / ("stalled" if stall else "events")
        before = path.read_text().count("\\n")
        children = [born(folder, stall) for folder in folders]
        if events is not None:
            first = children[0]
            while path.read_text().count("\\n") < before + events and os.waitid(
                os.P_PID, first, os.WEXITED | os.WNOHANG | os.WNOWAIT
            ) is None:
                time.sleep(0.001)
            time.sleep(moment)
            os.kill(first, signal.SIGKILL)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)
""")


class Nursery:
    """The process whose children are the runs."""

    def __init__(self, home: Path) -> None:
        environment = os.environ | {"STEERKIT_CACHE": str(home / "cache"), "TOKENIZERS_PARALLELISM": "false"}
        environment.pop("STEERKIT_REMOTE", None)
        command = [sys.executable, "-W", "ignore", "-c", NURSERY, EXHIBIT]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=home
        )
        assert self.process.stdout.readline() == "ready\n"

    def run(
        self, *folders: Path, events: int | None = None, moment: float = 0.0, stall: int = 0
    ) -> list[int]:
        """Exit codes of runs, one a folder, all at once; the first is killed `moment` seconds after so many events.

        With `stall` its disk stops before that write is flushed, and that is the only event.
        """
        self.process.stdin.write(json.dumps([list(map(str, folders)), events, moment, stall]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    found = Nursery(tmp_path_factory.mktemp("nursery"))
    with found.process as process:
        yield found
        process.stdin.close()


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("log", "events", "stalled"):
        (folder / name).touch()
    return folder


def log(folder: Path) -> list[str]:
    """Tables whose computation began, in order."""
    return (folder / "log").read_text().split()


def contents(folder: Path) -> dict[str, pd.DataFrame | torch.Tensor]:
    """Every artefact of a folder, read; fails for one that cannot be."""
    found = {}
    for path in (folder / "artifacts").glob("[!.]*"):
        if path.suffix == ".parquet":
            found[path.name] = store.read_table(path)
            assert found[path.name] is not None, f"{path.name} is damaged"
        else:
            found[path.name] = load_vectors(path).values
    return found


def check_same(found: dict, wanted: dict) -> None:
    """Every artefact there is has the values of the undisturbed run."""
    assert found.keys() <= wanted.keys()
    for name, value in found.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, wanted[name]), name
        else:
            pd.testing.assert_frame_equal(value, wanted[name])


def finished_tables(folder: Path) -> set[str]:
    """Names, without key, of the tables that are there."""
    return {path.stem.rpartition("-")[0] for path in (folder / "artifacts").glob("[!.]*.parquet")}


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "notebooks").rglob("*.png")}


@pytest.fixture(scope="module")
def undisturbed(nursery, tmp_path_factory) -> Path:
    """Folder of a run that nobody killed."""
    folder = fresh(tmp_path_factory.mktemp("undisturbed") / "run")
    assert nursery.run(folder) == [0], (folder / "screen").read_text()
    return folder


def test_an_undisturbed_run_computes_each_table_once(undisturbed):
    assert len(log(undisturbed)) == TABLES == len(set(log(undisturbed)))
    assert len(contents(undisturbed)) == 2 * TABLES


def test_twenty_killed_runs_leave_nothing_wrong_and_repeat_nothing(nursery, undisturbed, tmp_path):
    """Killed again and again, a run gets to its end; then it begins anew in an empty folder."""
    wanted, rng = contents(undisturbed), random.Random(6)
    folder, under_way, writing = fresh(tmp_path / "run"), 0, 0
    for number in range(KILLS):
        before, begun = finished_tables(folder), len(log(folder))
        stall = rng.randint(1, 4) if number % 4 == 3 else 0
        events, moment = 1 if stall else rng.randint(1, 12), rng.uniform(0, 0.05)
        codes = nursery.run(folder, events=events, moment=moment, stall=stall)
        assert codes == [-9], (folder / "screen").read_text()
        assert not before & set(log(folder)[begun:]), "tables were computed although they were there"
        check_same(contents(folder), wanted)
        under_way += not set(log(folder)[-1:]) <= finished_tables(folder)
        writing += any((folder / "artifacts").glob("*.tmp"))
        if len(finished_tables(folder)) > TABLES - 3:
            folder = fresh(folder)
    assert under_way >= KILLS / 2 and writing >= KILLS / 4, (under_way, writing)
    finish(nursery, folder, undisturbed)


def finish(nursery: Nursery, folder: Path, like: Path) -> None:
    """The run that nobody kills does what is missing and leaves what an undisturbed one leaves."""
    missing = TABLES - len(finished_tables(folder))
    begun = len(log(folder))
    assert nursery.run(folder) == [0], (folder / "screen").read_text()
    assert len(log(folder)) - begun == missing
    found, wanted = contents(folder), contents(like)
    check_same(found, wanted)
    assert found.keys() == wanted.keys()
    assert pictures(folder) == pictures(like) != {}
    assert not list((folder / "artifacts").glob("*.tmp")), "scratch files of killed runs stayed"


def test_runs_killed_in_the_notebook_leave_an_old_one_or_none(nursery, undisturbed, tmp_path):
    folder, rng = fresh(tmp_path / "run"), random.Random(7)
    shutil.copytree(undisturbed / "artifacts", folder / "artifacts")
    for _ in range(3):
        nursery.run(folder, events=0, moment=rng.uniform(0.5, 4.0))
        for path in (folder / "notebooks").rglob("[!.]*.ipynb"):
            nbformat.validate(nbformat.read(path, as_version=4))
    assert log(folder) == []
    finish(nursery, folder, undisturbed)


def test_two_runs_on_one_cache_share_the_work(nursery, undisturbed, tmp_path):
    folder = fresh(tmp_path / "run")
    assert nursery.run(folder, folder) == [0, 0], (folder / "screen").read_text()
    assert sorted(log(folder)) == sorted(log(undisturbed))
    check_same(contents(folder), contents(undisturbed))
    assert contents(folder).keys() == contents(undisturbed).keys()
    assert pictures(folder) == pictures(undisturbed)


def test_of_two_runs_one_killed_the_other_goes_on(nursery, undisturbed, tmp_path):
    """A lock dies with its process, and the table it was at is made by the other."""
    folder = fresh(tmp_path / "run")
    assert nursery.run(folder, folder, events=9) == [-9, 0], (folder / "screen").read_text()
    assert len(log(folder)) <= TABLES + 1
    finish(nursery, folder, undisturbed)
