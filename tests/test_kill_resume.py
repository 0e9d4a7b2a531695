"""`steerkit reproduce`, killed at random moments: nothing wrong is ever left, and the next run does what is missing.

One process imports everything and loads the tiny model; every run is a fork of it, so that many take no longer than
they must. A run is the command line itself, its notebook kernel included. It notes what it does (a table begun, a
step, a file written), and a kill comes a random moment after a random one of these: on a busy machine as on a fast one.
STEERKIT_KILLS=50 kills more often.
"""

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
KILLS = int(os.environ.get("STEERKIT_KILLS", "6"))
TABLES = 12  # three data sets, two formats, sweep and grid

NURSERY = textwrap.dedent("""
    import json, os, signal, sys, time
    from pathlib import Path
    from companion import cli, cost, exhibits, models, page, profiles, reproduce, store
    from companion.tan import jobs, work
    from steerkit import extraction, grid
    import papermill, pyarrow.parquet, scipy.stats  # what a run would import on its way

    def run(folder, stall):
        os.environ["STEERKIT_ARTIFACTS"] = f"{folder}/artifacts"
        exhibits.EXECUTED = Path(folder) / "notebooks"
        compute, flush = work.compute, os.fsync

        def note(what):
            with open(f"{folder}/events", "a") as notes:
                notes.write(f"{what}\\n")

        def noted(job, step):
            note(f"begun {job.name}")
            return compute(job, lambda passes: (note("step"), step(passes)))

        def slow(file):  # a slow disk: some kills come while it is written
            nonlocal stall
            note("writes")
            stall -= 1
            if not stall:
                note("stalled")
                time.sleep(600)
            time.sleep(0.02)
            flush(file)
            note("written")

        work.compute, os.fsync = noted, slow
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

    models.model_of("tiny"), cost.outline("tiny"), models.weights_of("tiny")
    [jobs.dataset_of(name, "bundled") for name in profiles.load_profile("smoke").datasets]
    store.code_hash(), store.commit()  # whoever edits the package meanwhile makes no new keys
    print("ready", flush=True)
    for line in sys.stdin:
        folders, events, moment, stall = json.loads(line)
        path = Path(folders[0]) / "events"
        before = path.stat().st_size
        children = [born(folder, stall) for folder in folders]
        if events is not None:
            awaited, dead = "stalled" if stall else "\\n", os.WEXITED | os.WNOHANG | os.WNOWAIT
            while path.read_text()[before:].count(awaited) < events and not os.waitid(os.P_PID, children[0], dead):
                time.sleep(0.001)
            time.sleep(moment)
            os.kill(children[0], signal.SIGKILL)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)
""")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """`run(*folders)`: exit codes of runs, one a folder, all at once; the first is killed `moment` seconds after so many
    `events`. With `stall` its disk stops before that write is flushed, and that is the only event."""
    home = tmp_path_factory.mktemp("nursery")
    environment = os.environ | {"STEERKIT_CACHE": str(home / "cache"), "TOKENIZERS_PARALLELISM": "false"}
    environment.pop("STEERKIT_REMOTE", None)
    command = [sys.executable, "-W", "ignore", "-c", NURSERY, EXHIBIT]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}

    def run(*folders: Path, events: int | None = None, moment: float = 0.0, stall: int = 0) -> list[int]:
        process.stdin.write(json.dumps([list(map(str, folders)), events, moment, stall]) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    with subprocess.Popen(command, env=environment, cwd=home, **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        yield run
        process.stdin.close()


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "events").touch()
    return folder


def log(folder: Path) -> list[str]:
    """Tables whose computation began, in order."""
    lines = (folder / "events").read_text().splitlines()
    return [line.removeprefix("begun ") for line in lines if line.startswith("begun ")]


def contents(folder: Path, like: Path | None = None) -> dict[str, pd.DataFrame | torch.Tensor]:
    """Every artefact of a folder, read; fails for one that cannot be, or has other values in the folder `like`."""
    found, wanted = {}, contents(like) if like else {}
    for path in (folder / "artifacts").glob("[!.]*"):
        table = path.suffix == ".parquet"
        value = found[path.name] = store.read_table(path) if table else load_vectors(path).values
        assert value is not None, f"{path.name} is damaged"
        if like and table:
            pd.testing.assert_frame_equal(value, wanted[path.name])
        elif like:
            assert torch.equal(value, wanted[path.name]), path.name
    return found


def finished_tables(folder: Path) -> set[str]:
    """Names, without key, of the tables that are there."""
    return {path.stem.rpartition("-")[0] for path in (folder / "artifacts").glob("[!.]*.parquet")}


def check_complete(folder: Path, like: Path) -> None:
    """A run that came to its end leaves what an undisturbed one leaves."""
    assert contents(folder, like).keys() == contents(like).keys()
    ours, theirs = ({p.name: p.read_bytes() for p in at.rglob("notebooks/**/*.png")} for at in (folder, like))
    assert ours == theirs != {}
    assert not list((folder / "artifacts").glob("*.tmp")), "scratch files of killed runs stayed"


@pytest.fixture(scope="module")
def undisturbed(run, tmp_path_factory) -> Path:
    """Folder of two runs at once on one cache, of which nobody killed any."""
    folder = fresh(tmp_path_factory.mktemp("undisturbed") / "run")
    assert run(folder, folder) == [0, 0], (folder / "screen").read_text()
    return folder


def test_two_undisturbed_runs_on_one_cache_share_the_work_and_compute_each_table_once(undisturbed):
    assert len(log(undisturbed)) == TABLES == len(set(log(undisturbed)))
    # With vectors, and the differences behind those of grids.
    assert len(contents(undisturbed)) == 2 * TABLES + TABLES // 2
    check_complete(undisturbed, undisturbed)


def test_killed_runs_leave_nothing_wrong_and_repeat_nothing(run, undisturbed, tmp_path):
    """Killed again and again, a run gets to its end; then it begins anew in an empty folder. At last there are two runs,
    of which one is killed: a lock dies with its process, and the table it was at is made by the other."""
    rng = random.Random(6)
    folder, under_way, writing = fresh(tmp_path / "run"), 0, 0
    for number in range(KILLS):
        before, begun = finished_tables(folder), len(log(folder))
        stall = rng.randint(1, 4) if number % 3 == 2 else 0
        events, moment = 1 if stall else rng.randint(1, 12), rng.uniform(0, 0.05)
        codes = run(folder, events=events, moment=moment, stall=stall)
        assert codes == [-9], (folder / "screen").read_text()
        assert not before & set(log(folder)[begun:]), "tables were computed although they were there"
        contents(folder, undisturbed)
        under_way += not set(log(folder)[-1:]) <= finished_tables(folder)
        writing += any((folder / "artifacts").glob("*.tmp"))
        if len(finished_tables(folder)) > TABLES - 3:
            folder = fresh(folder)
    assert under_way >= KILLS / 2 and writing >= KILLS / 4, (under_way, writing)
    missing, begun = TABLES - len(finished_tables(folder)), len(log(folder))
    assert run(folder, folder, events=5) == [-9, 0], (folder / "screen").read_text()
    assert missing <= len(log(folder)) - begun <= missing + 1
    check_complete(folder, undisturbed)


def test_runs_killed_in_the_notebook_leave_an_old_one_or_none(run, undisturbed, tmp_path):
    folder, rng = fresh(tmp_path / "run"), random.Random(7)
    shutil.copytree(undisturbed / "artifacts", folder / "artifacts")
    for _ in range(max(1, KILLS // 6)):
        run(folder, events=0, moment=rng.uniform(0.5, 4.0))
        for path in (folder / "notebooks").rglob("[!.]*.ipynb"):
            nbformat.validate(nbformat.read(path, as_version=4))
    assert run(folder) == [0] and log(folder) == []
    check_complete(folder, undisturbed)
