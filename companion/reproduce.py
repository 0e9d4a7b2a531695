"""The runner: compute the tables, execute the notebooks, remember what is up to date.

A notebook runs again when its source, its parameters, the packages and what lies in them, the profiles, the records
or the library versions change. The heavy tables have keys of their own (`companion.store`), so a change of a plot
re-runs a notebook in seconds.
"""

import hashlib
import json
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import companion
import steerkit
from companion import kernels, profiles, store
from companion.exhibits import Exhibit, resolve
from companion.places import RECORDS
from steerkit.errors import SteerkitError, need, told
from steerkit.files import file_hash, locked

FOLDER = ("a folder for executed notebooks that can be written", "mend it, or choose another one.")
ROOM = 6e9  # bytes of free memory for two notebooks at a time


@dataclass(frozen=True)
class Outcome:
    """What became of one exhibit."""

    exhibit: str
    status: str  # "done", "up to date" or "failed"
    seconds: float
    error: str = ""
    traceback: str = ""  # that of the kernel within


def compute_tables(settings: Any, formats: Iterable[str], stages: Iterable[str], begin: Callable) -> int:
    """Compute all missing tables, sweeps before the grids whose layer they choose; returns how many.

    `begin(name)` is called before each and gives back the function to call with token-passes done.
    """
    from companion.tan import experiment, work
    from companion.tan.jobs import STAGES, inputs

    count = 0
    for stage in (stage for stage in STAGES if stage in stages):
        for form in formats:
            for job in experiment.pending(settings, form, stage):
                step = begin(f"{stage} {form}: {job.dataset}")
                store.table(job.name, inputs(job), lambda job=job, step=step: work.compute(job, step))
                count += 1
    return count


def run_notebooks(
    runs: Iterable[tuple[Exhibit, dict[str, Any], Path]], force: bool = False
) -> Iterator[Outcome]:
    """`run_notebook` for each exhibit, values and output, two at a time where there is room; outcomes as they end.

    Whoever stops asking ends what is running, and nothing of it is left.
    """
    count = _at_once()
    pool = ThreadPoolExecutor(count)
    with kernels.running(count):
        try:
            waiting = [pool.submit(_in_a_thread, *each, force) for each in runs]
            for done in as_completed(waiting):
                yield done.result()
        finally:
            kernels.end()
            pool.shutdown(cancel_futures=True)  # waits for those that are dead


def _in_a_thread(*run: Any) -> Outcome:
    """`run_notebook`, and the event loop that jupyter makes for a thread closed after it."""
    from jupyter_core.utils import ensure_event_loop

    try:
        return run_notebook(*run)
    finally:
        ensure_event_loop().close()


def _at_once() -> int:
    """A notebook is one thread for most of its time, and some 1.5 GB."""
    import psutil

    return 2 if (os.cpu_count() or 1) > 1 and psutil.virtual_memory().available > ROOM else 1


def run_notebook(
    exhibit: Exhibit, given: dict[str, Any], output: Path | None = None, force: bool = False
) -> Outcome:
    """Execute one notebook into `output` (default: the book's copy), unless that is up to date, with checked values."""
    output, values = output or exhibit.executed, _values(exhibit.notebook, given)
    wanted, start = _run_key(exhibit.notebook, values), time.perf_counter()
    with locked(output, FOLDER):
        if not force and output.exists() and last_run(output).get("key") == wanted:
            return Outcome(exhibit.id, "up to date", time.perf_counter() - start)
        try:
            _execute(exhibit.notebook, output, values)
        except SteerkitError as error:
            whole = "".join(traceback.format_exception(error))
            return Outcome(exhibit.id, "failed", time.perf_counter() - start, str(error), whole)
        seconds = round(time.perf_counter() - start, 1)
        record = {"key": wanted, "parameters": values, "finished": time.time(), "seconds": seconds}
        record["sha256"] = file_hash(output)
        store.write_atomically(_record_path(output), json.dumps(record, indent=1).encode())
    return Outcome(exhibit.id, "done", time.perf_counter() - start)


def up_to_date(exhibit: Exhibit, given: dict[str, Any], output: Path) -> bool:
    """Whether `run_notebook` would find its work done."""
    wanted = _run_key(exhibit.notebook, _values(exhibit.notebook, given))
    return output.exists() and last_run(output).get("key") == wanted


def _values(notebook: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Values for all parameters; that of `remote` also from STEERKIT_REMOTE, so that a reader sees where it ran."""
    values = resolve(notebook, given)
    if values.get("remote") == "":
        values["remote"] = os.environ.get("STEERKIT_REMOTE", "")
    return values


def _execute(source: Path, output: Path, values: dict[str, Any]) -> None:
    """Run a notebook where the user is; what it left replaces what an earlier run left, all of it or nothing."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    wanted, kept = f"{source.name} to run to its end", "What an earlier run left was kept."
    mend, fewer = "mend the cause and run it again.", "run it again with fewer items."
    kinds, said = (papermill.PapermillExecutionError,), "cell {0.exec_count} raised {0.ename}: {0.evalue}"
    failed = told(kinds, wanted, mend, kept, lambda error: said.format(error).rstrip("."))
    gone = "its Python process died (out of memory, or killed)"
    died = told((DeadKernelError,), wanted, fewer, kept, lambda _: gone)
    room, place = "free some space, or choose another folder.", f"to run {source.name} into {output}"
    full = told((OSError,), place, room, kept, lambda error: str(error.strerror or error))
    scratch = output.with_name(f".running-{output.stem}")
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed: we hold the lock
    try:
        quiet = {"progress_bar": False, "request_save_on_cell_execute": False}
        kernel = {"kernel_name": "python3", "kernel_manager_class": kernels.manager(scratch)}
        target, here = str(scratch / output.name), str(Path.cwd())
        with full, failed, died:
            scratch.mkdir()
            papermill.execute_notebook(str(source), target, parameters=values, cwd=here, **quiet, **kernel)
            _tidy(scratch / output.name)
        moves = {path: output.with_name(path.name) for path in scratch.iterdir()}
        taken = next((str(target) for target in moves.values() if target.is_dir()), "")
        need(not taken, f"files or nothing beside {output}", f"a folder at {taken}", "move it away.", kept)
        _record_path(output).unlink(missing_ok=True)
        stale = {*_parts(output.parent, source.stem)} - {*moves.values()}
        for path, target in moves.items():
            path.replace(target)
        for path in stale:
            path.unlink()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _parts(folder: Path, name: str) -> list[Path]:
    """The figures and tables of a notebook: another run of it may leave others, and a page would show both as one."""
    own = f'"exhibit": "{name}"'  # another name may begin with this one
    told = {path.stem for path in folder.glob(f"{name}-*.json") if own in path.read_text("utf-8", "replace")}
    return [path for path in folder.glob(f"{name}-*") if path.stem.removesuffix("-narrow") in told]


def _tidy(path: Path) -> None:
    """Drop run times and give images their alt text, so that two runs give the same file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    content["metadata"].pop("papermill", None)
    for number, cell in enumerate(content["cells"]):
        about, cell["id"] = cell["metadata"], str(number)
        for extra in ("papermill", "execution"):
            about.pop(extra, None)
        images = [output.get("metadata", {}).get("image/png", {}) for output in cell.get("outputs", [])]
        if alts := [image["alt"] for image in images if "alt" in image]:
            about["mystnb"] = {"image": {"alt": " ".join(alts)}}
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _run_key(notebook: Path, values: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps([values, store.versions()], sort_keys=True).encode())
    packages = (Path(package.__file__).parent for package in (companion, steerkit))
    for folder in (*packages, profiles.folder(), RECORDS):
        for path in sorted(folder.rglob("[!.]*.*")):
            if path.suffix != ".pyc" and path.is_file():
                digest.update(_digest(path, path.stat().st_mtime_ns))
    digest.update(notebook.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _digest(path: Path, _modified: int) -> bytes:
    """Of the content of a file, read once a process as long as nobody touches it."""
    return hashlib.sha256(path.read_bytes()).digest()


def _record_path(output: Path) -> Path:
    return output.with_suffix(".run.json")


def last_run(output: Path) -> dict[str, Any]:
    """Key, parameters and time of the last successful run into a notebook; empty when there was none."""
    path = _record_path(output)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
