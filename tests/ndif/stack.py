"""NDIF's own server on this machine alone: queue (redis), object store (moto), Ray, controller, API.

    python tests/ndif/stack.py [--python .venv-ndif/bin/python]    prints the address and serves until Ctrl-C

Everything listens on 127.0.0.1, on ports that were free a moment before. The processes carry the name of their state
folder in their environment, and only those that do are ended.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
PYTHON = HERE.parents[1] / ".venv-ndif" / "bin" / "python"
MARK = "STEERKIT_NDIF_STATE"
GIGABYTE = 10**9
RAY_ATTEMPTS = 5
PATIENCE = 180  # seconds for each part to come up on a busy machine


class Stack:
    """One running server; `url` is what `--remote` takes, `python` the interpreter of an environment without steerkit.

    Only the `keys` given are accepted, and blocks of those without the tag "trusted" run in a process of their own, as
    on the public service; without keys everybody is let in and trusted. A job may take `timeout` seconds.
    """

    def __init__(
        self,
        python: Path = PYTHON,
        *,
        keys: dict[str, list[str]] | None = None,
        timeout: float = 600,
        threads: int = 2,
    ) -> None:
        self.bin = Path(python).absolute().parent
        self.state = Path(tempfile.mkdtemp(prefix="ndif-"))  # short: Ray's sockets lie below it
        names = ("api", "redis", "s3", "gcs", "client", "agent", "rpc", "metrics")
        self.port = dict(zip(names, _free_ports(len(names)), strict=True))
        self.url = f"http://127.0.0.1:{self.port['api']}"
        self.environment = self._environment(keys, timeout, threads)
        self.started: dict[str, subprocess.Popen] = {}

    def _environment(self, keys: dict[str, list[str]] | None, timeout: float, threads: int) -> dict[str, str]:
        port, state = self.port, str(self.state)
        names = ("HOME", "LANG", "LC_ALL", "TMPDIR")
        inherited = {name: os.environ[name] for name in names if name in os.environ}
        # Not a database: plugin/asyncpg.py answers instead.
        checked = {"NDIF_POSTGRES_URL": "postgresql://", "NDIF_CPU_KEYS": json.dumps(keys)} if keys else {}
        own = {
            MARK: state,
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(HERE / "plugin"),
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HOME": f"{state}/hf",
            "HF_HUB_OFFLINE": "1",
            "NNSIGHT_CONFIG": f"{state}/none.yaml",
            "NDIF_HOME": f"{state}/home",
            "NDIF_REDIS_URL": f"redis://127.0.0.1:{port['redis']}",
            "NDIF_OBJECT_STORE_URL": f"http://127.0.0.1:{port['s3']}",
            "NDIF_API_URL": self.url,
            "NDIF_API_PORT": str(port["api"]),
            "NDIF_RAY_ADDRESS": f"ray://127.0.0.1:{port['client']}",
            "NDIF_MODEL_IMPORT_PATH": "ndif_cpu.CpuSandboxActor" if keys else "ndif_cpu.CpuModelActor",
            "NDIF_CONTROLLER_IMPORT_PATH": "ndif_cpu.CpuController",
            "NDIF_DEFAULT_DTYPE": "float32",
            "NDIF_DEFAULT_PADDING_BIAS": "0",
            "NDIF_MINIMUM_DEPLOYMENT_TIME_SECONDS": "0",
            "NDIF_AUTOSCALING_MAX_REPLICAS": "1",
            "NDIF_DEFAULT_EXECUTION_TIMEOUT_SECONDS": str(timeout),
            "NDIF_SANDBOX_POOL_SIZE": "1",
            "NDIF_CPU_THREADS": str(threads),
            "OMP_NUM_THREADS": str(threads),
            "GRPC_ENABLE_FORK_SUPPORT": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # Ray's own workers would give way to everything else here
            # A busy machine is slow, not dead.
            "RAY_worker_register_timeout_seconds": str(PATIENCE),
            "RAY_agent_register_timeout_ms": str(1000 * PATIENCE),
            "RAY_gcs_server_request_timeout_seconds": str(PATIENCE),
            "RAY_health_check_timeout_ms": str(1000 * PATIENCE),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # makes Ray keep 127.0.0.1, on Linux too
        }
        return inherited | checked | own

    def start(self) -> Stack:
        """Start everything and wait until the API answers."""
        self._redis()
        self._spawn("s3", "moto_server", "-H", "127.0.0.1", "-p", self.port["s3"])
        self._ray()
        self._controller()
        for name in ("redis", "s3"):
            self._wait(name, lambda name=name: _listens(self.port[name]))
        self.start_api()
        return self

    def start_api(self) -> None:
        """Start the API and its dispatcher, at first or again."""
        config = "python:ndif.services.api.gunicorn_conf"
        bind = f"127.0.0.1:{self.port['api']}"
        self._spawn("api", "gunicorn", "--config", config, "--bind", bind, "ndif.services.api.app:app")
        self._wait("api", self.answers)

    def answers(self) -> bool:
        """Whether the API is there and connected to Ray."""
        try:
            with urllib.request.urlopen(f"{self.url}/connected", timeout=5) as reply:
                return reply.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def kill(self, name: str) -> None:
        """End one part (api, ray, s3, redis) with everything below it, without warning."""
        part = self.started.pop(name)
        _end(_family(part.pid), signal.SIGKILL)
        part.wait()

    def kill_all(self) -> None:
        """End everything without warning; `start` brings it back to the same ports, with nothing remembered."""
        _end(self.processes(), signal.SIGKILL)
        for part in self.started.values():
            part.wait()
        self.started.clear()

    def crash_models(self) -> int:
        """End every process that holds a model, without warning; says how many there were."""
        names = ("ray::CpuModel", "ray::CpuSand")
        found = [each for each in self.processes() if each.name().startswith(names)]
        _end(found, signal.SIGKILL)
        return len(found)

    def jobs(self) -> int:
        """How many jobs the API has taken in since the beginning."""
        text = (self.state / "api.log").read_text(errors="replace")
        return len(set(re.findall(r"request_id=(\w+) .*?\bstage=queued", text)))

    def processes(self) -> list[psutil.Process]:
        """All processes of this stack: those that carry its mark, and, as some overwrite it, those below its parts."""
        marked = [each for each in psutil.process_iter() if _environ(each).get(MARK) == str(self.state)]
        below = [each for part in self.started.values() for each in _family(part.pid)]
        return list({each.pid: each for each in (*marked, *below)}.values())

    def log(self, name: str) -> str:
        """The end of one part's log."""
        return (self.state / f"{name}.log").read_text(errors="replace")[-5000:]

    def stop(self) -> None:
        """End all processes of this stack and remove its folder."""
        for force in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL):
            _end(self.processes(), force)
        for part in self.started.values():
            part.wait()
        shutil.rmtree(self.state, ignore_errors=True)

    def __enter__(self) -> Stack:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _redis(self) -> None:
        keep_nothing = ("--save", "", "--appendonly", "no", "--dir", self.state)
        here = ("--bind", "127.0.0.1", "--port", self.port["redis"])
        self._spawn("redis", "redis-server", *here, *keep_nothing)

    def _ray(self) -> None:
        port = self.port
        # GPUs and their memory are on paper: NDIF places models by these numbers.
        memory = dict.fromkeys(("cuda_memory_bytes", "cpu_memory_bytes"), 8 * GIGABYTE)
        resources = json.dumps({"head": 10} | memory)
        command = (
            *("ray", "start", "--head", "--block", "--disable-usage-stats", "--include-dashboard=false"),
            *("--node-ip-address=127.0.0.1", f"--port={port['gcs']}", f"--temp-dir={self.state}/ray"),
            *(f"--ray-client-server-port={port['client']}", f"--metrics-export-port={port['metrics']}"),
            *(f"--dashboard-agent-listen-port={port['agent']}", f"--dashboard-agent-grpc-port={port['rpc']}"),
            *("--num-cpus=4", "--num-gpus=4", f"--resources={resources}", "--object-store-memory=200000000"),
        )
        for left in reversed(range(RAY_ATTEMPTS)):
            self._spawn("ray", *command)
            try:
                return self._wait("ray", lambda: "Ray runtime started" in self.log("ray"))
            except RuntimeError:  # its own processes get 15 seconds to begin, too few on a busy machine
                if not left:
                    raise
                self.kill("ray")

    def _controller(self) -> None:
        module = "ndif.services.ray.deployments.controller.controller"
        environment = self.environment | {"RAY_ADDRESS": f"127.0.0.1:{self.port['gcs']}"}
        with (self.state / "controller.log").open("wb") as log:
            given = {"env": environment, "cwd": self.state, "stdout": log, "stderr": subprocess.STDOUT}
            subprocess.run([self.bin / "python", "-m", module], **given, check=True, timeout=PATIENCE)

    def _spawn(self, part: str, program: str, *arguments: object) -> None:
        # Not through the script's first line, which is too long for the kernel when the environment lies deep.
        script = shutil.which(program, path=self.environment["PATH"])
        command = [script] if program == "redis-server" else [str(self.bin / "python"), script]
        with (self.state / f"{part}.log").open("ab" if part == "api" else "wb") as log:
            given = {"env": self.environment, "cwd": self.state, "stdin": subprocess.DEVNULL, "stdout": log}
            given |= {"stderr": subprocess.STDOUT, "start_new_session": True}
            self.started[part] = subprocess.Popen([*command, *map(str, arguments)], **given)

    def _wait(self, part: str, ready) -> None:
        process = self.started[part]
        end = time.monotonic() + PATIENCE
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{part} did not come up:\n{self.log(part)}")
            time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; all are held until the last is found, so that they differ."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in probes:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in probes]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _environ(process: psutil.Process) -> dict[str, str]:
    with suppress(psutil.Error, OSError):
        return process.environ()
    return {}


def _family(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    return []


def _end(processes: list[psutil.Process], how: signal.Signals) -> None:
    for each in processes:
        with suppress(psutil.Error):
            each.send_signal(how)
    psutil.wait_procs(processes, timeout=5)


def main() -> None:
    """Serve until interrupted."""
    as_it_is = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_it_is)
    parser.add_argument("--python", type=Path, default=PYTHON, help="interpreter of the server's environment")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Stack(given.python, threads=given.threads) as stack, suppress(KeyboardInterrupt):
        print(f"NDIF listens on {stack.url}; use --remote {stack.url}. Ctrl-C ends it.", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
