"""A stand-in for an NDIF server: its HTTP routes and nnsight's own wire format, in a process that has no steerkit.

What it lacks is what a real one has around that: Ray, redis, an object store, a queue, a sandbox. Run by itself it is
the server; `Server()` runs it as a child on a free port of the loopback interface.

    GET  /ready               "yes" when it answers
    POST /request             an envelope and a blob, as nnsight posts them -> {"id", "status"}
    GET  /response/ID         the job's status; 404 for one it does not know
    GET  /result/ID           the bytes of a finished job
    POST /mood                what to do wrong from now on: {"status": 503, "detail": "...", "times": 2}, ...
    GET  /seen                jobs sent, and the sizes of their requests and results
"""

import atexit
import email
import io
import json
import linecache
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
import urllib.request
import uuid
from contextlib import suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HIDDEN = ("steerkit", "companion", "conftest", "plain_model")


class Hide:
    """An import hook: these packages are not installed here."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class State:
    """Everything the server knows."""

    def __init__(self) -> None:
        self.models: dict[str, Any] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.results: dict[str, bytes] = {}
        self.moods: list[dict[str, Any]] = []
        self.seen: list[dict[str, Any]] = []
        self.lock = threading.Lock()  # one job at a time, as an actor has it

    def mood(self, where: str) -> dict[str, Any] | None:
        for mood in self.moods:
            if mood["where"] == where and mood["times"] > 0:
                mood["times"] -= 1
                return mood
        return None


def model_of(state: State, key: str) -> Any:
    if key not in state.models:
        import torch
        from nnsight.modeling.huggingface import HuggingFaceModel
        from transformers import AutoTokenizer

        folder = json.loads(key.partition(":")[2])["repo_id"]
        tokenizer = AutoTokenizer.from_pretrained(folder)
        given = {"dispatch": True, "dtype": torch.float32, "tokenizer": tokenizer}
        model = HuggingFaceModel.from_model_key(key, **given)
        model._module.requires_grad_(False)
        state.models[key] = model
    return state.models[key]


def execute(state: State, envelope: dict[str, Any], blob: bytes) -> bytes:
    """Run a job and give the bytes of what it saved, compressed like the request."""
    import torch
    import zstandard
    from nnsight.schema.request import RequestModel
    from nnsight.tracing.globals import BLOCKS, SOURCES
    from nnsight.tracing.tracer import _saves, dec, inc

    model = model_of(state, envelope["model_key"])
    caches = linecache.cache, SOURCES, BLOCKS
    before = [dict(cache) for cache in caches]
    try:
        model._remoteable_set_env(envelope["env"])
        objects = model._remoteable_persistent_objects()
        tracer = RequestModel.deserialize(blob, objects, compress=envelope["compress"])
        inc()
        try:
            tracer.execute(tracer.info.code)
            marked = _saves()
            saved = {n: v for n, v in tracer.info.frame.f_locals.items() if id(v) in marked}
        finally:
            dec()
    finally:
        model.interleaver.cancel()
        for cache, old in zip(caches, before, strict=True):
            cache.clear()
            cache.update(old)
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    content = buffer.getvalue()
    return zstandard.ZstdCompressor(level=6).compress(content) if envelope["compress"] else content


class Handler(BaseHTTPRequestHandler):
    """The routes; `server.state` is shared."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments) -> None:
        pass

    def reply(self, code: int, body: bytes | dict) -> None:
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        state, (_, what, *rest) = self.server.state, self.path.split("/")
        mood = state.mood(what)
        if mood and mood.get("close"):
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        if mood:
            return self.reply(mood["status"], {"detail": mood.get("detail", "")})
        if what == "ready":
            return self.reply(200, b"yes")
        if what == "seen":
            return self.reply(200, {"seen": state.seen})
        known = {"response": state.jobs, "result": state.results}.get(what, {}).get(rest[0] if rest else "")
        return self.reply(200, known) if known is not None else self.reply(404, {"detail": "Not found"})

    def do_POST(self) -> None:
        state, body = self.server.state, self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/mood":
            state.moods = json.loads(body)["moods"]
            return self.reply(200, {})
        mood = state.mood("request")
        if mood and "status" in mood:
            return self.reply(mood["status"], {"detail": mood["detail"]})
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        data, blob = email.message_from_bytes(head + body).get_payload()
        envelope, content = json.loads(data.get_payload(decode=True)), blob.get_payload(decode=True)
        job = uuid.uuid4().hex
        if mood and mood.get("forget"):
            state.seen.append({"id": job})
            return self.reply(200, {"id": job, "status": "RECEIVED"})
        state.jobs[job] = {"id": job, "status": "RECEIVED"}
        entry = {"id": job, "request": len(content), "key": self.headers.get("ndif-api-key"), "result": 0}
        state.seen.append(entry)
        threading.Thread(target=self.work, args=(job, envelope, content, mood, entry), daemon=True).start()
        return self.reply(200, state.jobs[job])

    def work(self, job: str, envelope: dict, blob: bytes, mood: dict | None, entry: dict) -> None:
        state = self.server.state
        with state.lock:
            state.jobs[job] = {"id": job, "status": "RUNNING"}
            try:
                if mood and "sleep" in mood:
                    time.sleep(mood["sleep"])
                if mood and "error" in mood:
                    raise RuntimeError(mood["error"])
                state.results[job] = execute(state, envelope, blob)
                entry["result"] = len(state.results[job])
                url = f"http://127.0.0.1:{self.server.server_port}/result/{job}"
                state.jobs[job] = {"id": job, "status": "COMPLETED", "data": url}
            except Exception as error:
                text = str(error) if mood and "error" in mood else traceback.format_exc()
                state.jobs[job] = {"id": job, "status": "ERROR", "description": text}
            if mood and mood.get("stale"):
                state.jobs[job] = {"id": job, "status": "DISPATCHED"}


def serve(port: int) -> None:
    """Be the server, until the parent ends it."""
    sys.meta_path.insert(0, Hide())
    sys.path[:] = [place for place in sys.path if "site-packages" in place or "lib/python" in place]
    import torch

    torch.set_num_threads(1)
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.state = State()
    server.serve_forever()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server:
    """A running stand-in; `url` is its address."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """At first, or again after its end, with nothing remembered."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [sys.executable, __file__, str(self.port)]
        self.process = subprocess.Popen(command, env=environment, cwd="/")
        deadline = time.monotonic() + 60
        while self.get("ready") != b"yes":
            assert self.process.poll() is None and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.05)

    def get(self, what: str) -> bytes:
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/{what}", timeout=10) as reply:
            return reply.read()
        return b""

    def seen(self) -> list[dict[str, Any]]:
        return json.loads(self.get("seen"))["seen"]

    def mood(self, **what: Any) -> None:
        moods = [{"where": "request", "times": 1, **what}] if what else []
        data = json.dumps({"moods": moods}).encode()
        urllib.request.urlopen(f"{self.url}/mood", data=data, timeout=10).close()

    def close(self) -> None:
        """Without warning."""
        self.process.kill()
        self.process.wait(10)


@cache
def shared() -> Server:
    """One server for all tests of this process, ended with it."""
    server = Server()
    atexit.register(server.close)
    return server


if __name__ == "__main__":
    serve(int(sys.argv[1]))
