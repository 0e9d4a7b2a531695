"""The kernels of notebooks: processes of this interpreter that leave their files in one folder.

A notebook spends seconds on its imports, and a book has forty. So `running` lets one process import once, whose forks
the kernels are. Only on Linux: elsewhere a fork after such imports is not safe, and each kernel begins by itself.
"""

import gc
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from threading import Event, Lock
from typing import Any

IMPORTED = "ipykernel.kernelapp torch transformers.pipelines nnsight.modeling.language".split()
IMPORTED += "companion.page companion.claims companion.claims_mayne companion.tan.work".split()
IMPORTED += "companion.figures.style pyarrow.parquet".split()
FORKS = sys.platform == "linux"
LONGEST = 80  # characters of a folder for sockets
PATIENCE = 120  # seconds for the imports; on two busy cores they take ten
RUNNING: set[Any] = set()  # managers of the kernels that run
STOPPED = Event()  # nobody waits for these any more


class ForkServer:
    """The process that has imported, started when it is first asked."""

    def __init__(self, share: dict[str, str]):
        self.share, self.lock = share, Lock()  # of the cores, as environment variables
        self.process: subprocess.Popen | None = None

    def fork(self, command: list[str], environment: dict[str, str]) -> "Fork | None":
        """A kernel's process; None where it has to begin by itself."""
        if not FORKS:
            return None
        with self.lock, suppress(OSError, ValueError):
            if self.process is None:  # -P: a user's pandas.py in this folder is not the library
                server, pipe = [sys.executable, "-P", "-m", "companion.kernels"], subprocess.PIPE
                about = {"env": self.share | os.environ, "text": True, "start_new_session": True}
                self.process = subprocess.Popen(server, stdin=pipe, stdout=pipe, **about)
            print(json.dumps([command, environment, str(Path.cwd())]), file=self.process.stdin, flush=True)
            if select.select([self.process.stdout], [], [], PATIENCE)[0]:
                return Fork(int(self.process.stdout.readline()))
            self.process.kill()  # and nobody can ask it again
        return None

    def close(self) -> None:
        """End it; what it forked ends with it."""
        if self.process is not None:
            self.process.communicate()


class Fork:
    """The part of `subprocess.Popen` that jupyter uses."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int):
        self.pid = pid

    def poll(self) -> int | None:
        import psutil

        return None if psutil.pid_exists(self.pid) else 0

    def wait(self) -> int:
        while self.poll() is None:
            time.sleep(0.01)
        return 0

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def serve() -> None:
    """Import, then fork a kernel for every line (command, environment, folder) and answer with its process id."""
    os.environ["JPY_PARENT_PID"] = str(os.getpid())  # a kernel ends when this process has ended
    lines, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what imports and kernels print is no answer
    for name in IMPORTED:
        import_module(name)
    gc.freeze()  # no fork looks through what was imported, nor copies it for that
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks here how they ended
    while line := lines.readline():
        if pid := os.fork():
            print(pid, file=answers, flush=True)
            continue
        answers.close()
        lines.close()
        return _become(*json.loads(line))


def _become(command: list[str], environment: dict[str, str], folder: str) -> None:
    """What `python -m ipykernel_launcher ...` does."""
    from ipykernel.kernelapp import launch_new_instance

    os.setsid()
    os.chdir(folder)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = command[2:]
    try:
        launch_new_instance()
    finally:
        os._exit(0)  # the files are there; to take apart all that was imported takes a second or two


SERVERS: list[ForkServer] = []  # that of the notebooks which `running` runs


@contextmanager
def running(count: int) -> Iterator[None]:
    """Kernels of `count` notebooks at a time share the cores and their imports."""
    threads = str(max(1, (os.cpu_count() or 1) // count))
    SERVERS.append(ForkServer({"OMP_NUM_THREADS": threads} if count > 1 else {}))
    try:
        yield
    finally:
        SERVERS.pop().close()
        STOPPED.clear()


def end() -> None:
    """End all that run, and those that are about to."""
    STOPPED.set()
    for kernel in tuple(RUNNING):
        kernel.end()


def manager(folder: Path) -> type:
    """Jupyter's manager of a kernel that leaves its files in `folder` and talks over files instead of open TCP ports."""
    import asyncio

    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec
    from traitlets import default

    class LocalKernelManager(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            """Not the one that JUPYTER_PATH calls python3: that may be another Python."""
            command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=command, language="python", display_name="Python 3")

        @default("transport")
        def _transport(self) -> str:
            return "ipc" if _socket_folder() else "tcp"

        @default("ip")
        def _ip(self) -> str:
            """Where the socket files are; jupyter's own default is one name for all runs started in a folder."""
            place = _socket_folder()
            return str(Path(place) / f"steerkit-{uuid.uuid4().hex[:12]}") if place else "127.0.0.1"

        async def start_kernel(self, **options: Any) -> None:
            # nbclient would answer Ctrl-C by ending the kernel only, and the next notebook would start.
            with suppress(NotImplementedError, RuntimeError):  # Windows; not the main thread
                asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
            share = SERVERS[-1].share if SERVERS else {}
            options["env"] = {**share, **options.get("env", os.environ), "STEERKIT_OUT": str(folder)}
            # At its end a kernel is interrupted, and says so among the lines of ours; and a file of the user's that is
            # called pandas.py is not the library.
            quiet, foreign = "--log-level=50", "--InteractiveShellApp.ignore_cwd=True"
            options["extra_arguments"] = [*options.get("extra_arguments", []), quiet, foreign]
            RUNNING.add(self)
            await super().start_kernel(**options)
            if STOPPED.is_set():  # while it started
                self.end()

        async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
            forked = SERVERS[-1].fork(kernel_cmd, options["env"]) if SERVERS else None
            if forked is None:
                return await super()._async_launch_kernel(kernel_cmd, **options)
            here = self.provisioner
            here.process, here.pid, here.pgid = forked, forked.pid, forked.pid
            self._reconcile_connection_info(here.connection_info)

        async def cleanup_resources(self, restart: bool = False) -> None:
            RUNNING.discard(self)
            await super().cleanup_resources(restart)

        def end(self) -> None:
            """From another thread than the one it runs in, which then finds it dead."""
            process = getattr(self.provisioner, "process", None)
            if process is not None:
                process.kill()

    return LocalKernelManager


def _socket_folder() -> str | None:
    """A folder whose path leaves room for a socket's name, of which systems allow some 100 characters."""
    places = () if sys.platform == "win32" else (tempfile.gettempdir(), "/tmp")
    return next((place for place in places if len(place) < LONGEST and os.access(place, os.W_OK)), None)


if __name__ == "__main__":
    serve()
