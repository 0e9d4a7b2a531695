"""Kernels in a moment: each is a copy of one process that has imported what notebooks import.

Everything else is as in life: papermill, jupyter's messages, a process for each notebook.
"""

import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

FORKS = multiprocessing.get_context("forkserver") if hasattr(os, "fork") else None
PRELOADED = "ipykernel.kernelapp torch companion.page companion.claims_mayne companion.tan.flaws".split()
FIGURES = "autoencoder decompositions flaws formats settings".split()
PRELOADED += [f"companion.figures.{name}" for name in FIGURES]


def kernel(command: list[str], environment: dict[str, str], folder: Path) -> None:
    """What `python -m ipykernel_launcher ...` does, in a process of its own."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = command[2:]
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()


class Forked:
    """The part of `subprocess.Popen` that jupyter uses."""

    stdin = stdout = stderr = None

    def __init__(self, command: list[str], env: dict[str, str], **_: Any) -> None:
        FORKS.set_forkserver_preload(PRELOADED)
        self.process = FORKS.Process(target=kernel, args=(command, env, Path.cwd()), daemon=True)
        self.process.start()
        self.pid = self.process.pid
        while self.process.exitcode is None and os.getpgid(self.pid) != self.pid:
            time.sleep(0.001)  # until its signals are its own

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int | None:
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)
