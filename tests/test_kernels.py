"""Kernels of notebooks: where they talk, of whom they are copies, and what happens when there is nobody to copy."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import papermill
import pytest

from companion import kernels

BORN = "import os, sys\nprint(os.getppid(), 'torch' in sys.modules, os.getcwd(), os.environ['STEERKIT_OUT'])"


def said(folder: Path) -> list[str]:
    """Parent, whether torch was there, folder, folder of files: of one kernel."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(BORN)])
    nbformat.write(made, folder / "born.ipynb")
    how = {"kernel_name": "python3", "kernel_manager_class": kernels.manager(folder), "progress_bar": False}
    done = papermill.execute_notebook(folder / "born.ipynb", None, **how)
    return done.cells[0].outputs[0].text.split()


def test_sockets_are_files_where_a_name_fits_and_ports_of_this_machine_where_none_does(tmp_path, monkeypatch):
    long = str(tmp_path / ("x" * 100))
    monkeypatch.setattr(tempfile, "tempdir", long)
    manager = kernels.manager(tmp_path)
    assert (found := manager()).transport == "ipc" and found.ip.startswith("/tmp/steerkit-")
    assert found.kernel_spec.argv[0] == sys.executable
    monkeypatch.setattr(os, "access", lambda path, mode: path == long)
    assert ((found := manager()).transport, found.ip) == ("tcp", "127.0.0.1")


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")
def test_kernels_of_a_book_are_forks_of_a_process_that_has_imported_and_ends_after_them(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pandas.py").write_text("raise RuntimeError('a file of the user')")
    with kernels.running(2):
        found = [said(tmp_path), said(tmp_path)]
        own = kernels.SERVERS[-1]
        server = own.process
        assert server.poll() is None
    assert found == [[str(server.pid), "True", str(tmp_path), str(tmp_path)]] * 2
    assert server.returncode == 0 and own not in kernels.SERVERS and not kernels.RUNNING


@pytest.mark.parametrize("fails", ["at once", "on its way", "in its time", "elsewhere"])
def test_a_kernel_begins_by_itself_where_nobody_can_be_forked(fails, tmp_path, monkeypatch):
    def start(command: list[str], **how: object) -> subprocess.Popen:
        if fails == "at once":
            raise OSError("Cannot allocate memory")
        stuck = "import time; time.sleep(60)" * (fails == "in its time")
        return popen([sys.executable, "-c", stuck], **how)

    popen = subprocess.Popen
    if fails == "elsewhere":
        monkeypatch.setattr(kernels, "FORKS", False)
    else:
        monkeypatch.setattr(kernels.subprocess, "Popen", start)
        monkeypatch.setattr(kernels, "PATIENCE", 0.5)
    with kernels.running(1):
        assert said(tmp_path)[:2] == [str(os.getpid()), "False"]
