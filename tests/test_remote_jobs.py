"""Jobs on a server: what is tried again, what is not, what a killed client or server leaves, and what is said."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time

import httpx
import miniremote
import pytest
import torch
from conftest import random_examples, random_vectors
from nnsight.intervention.backends.remote import RemoteError
from torch.testing import assert_close

from companion.mayne import activations as mayne_runs
from companion.models import load_model
from steerkit import traces
from steerkit.errors import SteerkitError
from steerkit.grid import evaluate
from steerkit.ndif import jobs as remote_jobs
from steerkit.ndif import ledger as remote_ledger
from steerkit.ndif.failures import RemoteFailure, explain
from steerkit.remote import run

KEY = "a-key-that-nobody-may-see"
AGAIN = "Error submitting request to model deployment: actor died"


@pytest.fixture(scope="module")
def server():
    return miniremote.shared()


@pytest.fixture(autouse=True)
def impatient(monkeypatch, tmp_path, caplog):
    """Own artefacts, no pauses, and a log that is read."""
    monkeypatch.setenv("STEERKIT_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setattr(remote_jobs, "WAITS", (0.01, 0.02, 0.02))
    monkeypatch.setattr(remote_jobs, "LOST", 0.3)
    caplog.set_level(logging.INFO, "steerkit.remote")


@pytest.fixture(scope="module")
def model(server, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEERKIT_ARTIFACTS", str(tmp_path_factory.mktemp("jobs")))
        return load_model("tiny", remote=server.url)


def ask(model, first: int = 5) -> torch.Tensor:
    """A small job; another `first` is another job."""
    [found] = mayne_runs.residuals(model, [[[first, 6, 7]]], 1, [0])
    return found


def sent(server) -> int:
    return len(server.seen())


def refused(status: int, detail: str) -> dict:
    return {"status": status, "detail": detail}


class TestTriedAgain:
    @pytest.mark.parametrize("times", [1, 3])
    def test_a_server_whose_workers_reconnect(self, model, server, caplog, times):
        server.mood(
            status=503, detail="Service temporarily unavailable: compute backend is reconnecting", times=times
        )
        assert ask(model).shape == (1, 3, 32)
        assert caplog.text.count("trying again") == times

    def test_a_question_after_a_job_whose_connection_is_closed(self, model, server, caplog):
        before = sent(server)
        server.mood(where="response", close=True, times=2)
        assert ask(model).shape == (1, 3, 32)
        assert sent(server) == before + 1 and "no connection" in caplog.text

    def test_a_worker_that_died_gets_the_job_anew(self, model, server, caplog):
        before = sent(server)
        server.mood(error=AGAIN)
        assert ask(model).shape == (1, 3, 32)
        assert sent(server) == before + 2 and "sending it again" in caplog.text

    def test_a_worker_that_dies_every_time_is_an_error_in_the_end(self, model, server):
        before = sent(server)
        server.mood(error=AGAIN, times=99)
        with pytest.raises(RemoteFailure, match="worker that died"):
            ask(model)
        server.mood()
        assert sent(server) == before + remote_jobs.SENDS

    def test_a_job_that_the_server_has_forgotten(self, model, server, caplog):
        before = sent(server)
        server.mood(forget=True)
        assert ask(model).shape == (1, 3, 32)
        assert sent(server) == before + 2 and "does not know job" in caplog.text

    def test_a_job_whose_last_state_was_stored_before_an_older_one(self, model, server, caplog, monkeypatch):
        """Seen with NDIF 0.1.2: it would be waited for until the deadline. A tiny job behind it tells."""
        monkeypatch.setattr(remote_jobs, "QUIET", 0.5)
        before = sent(server)
        server.mood(stale=True)
        assert ask(model, 19).shape == (1, 3, 32)
        assert sent(server) == before + 3 and "finished a later job" in caplog.text

    def test_a_job_that_waits_for_its_turn_is_not_sent_again(self, model, server, caplog, monkeypatch):
        monkeypatch.setattr(remote_jobs, "QUIET", 0.2)
        before = sent(server)
        server.mood(sleep=1.5)
        other = remote_jobs._tiny(model)  # runs for a while, and ours stands behind it
        assert ask(model, 20).shape == (1, 3, 32)
        assert other.poll() is not None
        assert sent(server) >= before + 3 and "sending it again" not in caplog.text


class TestNotTriedAgain:
    @pytest.mark.parametrize(
        ("mood", "said", "next_step"),
        [
            (refused(401, "Missing or invalid API key. Please visit x"), "no key", "NDIF_API_KEY"),
            (refused(400, f"Invalid API key format: '{KEY}'"), "does not accept", "NDIF_API_KEY"),
            (refused(400, "There was an error parsing the body"), "cannot take in", "anyio"),
            ({"error": "Could not deploy this model. x"}, "does not have and cannot get", "nnsight.status"),
            ({"error": "Error starting model. Please try again."}, "cannot start", "server's log"),
            ({"error": "Your request payload could not be read (x)."}, "cannot read", "nnsight.compare"),
            ({"error": "Your job exceeded the execution timeout of 8.0s."}, "8.0s", "fewer layers"),
        ],
    )
    def test_what_cannot_pass_is_an_error_at_once_that_says_what_to_do(
        self, model, server, monkeypatch, mood, said, next_step
    ):
        from nnsight import CONFIG

        monkeypatch.setattr(CONFIG.API, "APIKEY", KEY)
        before = sent(server)
        server.mood(times=99, **mood)
        with pytest.raises(RemoteFailure, match=said) as caught:
            ask(model)
        server.mood()
        assert next_step in caught.value.next_step
        assert f"on the server 127.0.0.1:{server.port}" in caught.value.found
        assert KEY not in str(caught.value)
        assert sent(server) - before == (1 if "error" in mood else 0)
        assert list(remote_ledger.folder().glob("*.json")) == []
        assert ask(model).shape == (1, 3, 32)  # and the next one is a new job

    def test_an_exception_in_our_code_on_the_server_names_its_line(self, model):
        with pytest.raises(RemoteFailure, match=r"steerkit/traces\.py:\d+") as caught:
            run(model, traces.residuals, [[[5, 6]]], 99, [0], False)
        assert "IndexError" in caught.value.found

    def test_a_server_that_is_not_there_is_said_at_once(self):
        start = time.monotonic()
        with pytest.raises(RemoteFailure, match="no connection") as caught:
            load_model("tiny", remote=f"http://127.0.0.1:{miniremote.free_port()}")
        assert caught.value.where == "on the way" and "address" in caught.value.next_step
        assert time.monotonic() - start < 60

    def test_a_server_without_memory_gets_half_as_much(self, model, server):
        examples, vectors = random_examples("letter", 4, len(model.tokenizer)), random_vectors(model)
        evaluate(model, examples, vectors, [1.0])  # the self-check, which is not what is meant here
        wanted = evaluate(load_model("tiny"), examples, vectors, [1.0, 2.0])
        before = sent(server)
        server.mood(error="torch.OutOfMemoryError: CUDA out of memory.")
        found = evaluate(model, examples, vectors, [1.0, 2.0], engine="tree")
        assert sent(server) - before >= 3
        assert_close(found.scores, wanted.scores, atol=1e-5, rtol=0.0)

    def test_a_server_that_changes_its_precision_stops_the_run(self, server):
        load_model("tiny", remote=server.url)
        notes = remote_ledger.folder() / "servers.json"
        notes.write_text(notes.read_text().replace("float32", "bfloat16"))
        with pytest.raises(SteerkitError, match=r"bfloat16.*as before"):
            load_model("tiny", remote=server.url)
        assert load_model("tiny", remote=server.url).dtype == torch.float32


class TestWaiting:
    def test_a_job_that_takes_too_long_is_kept_and_waited_for_by_the_next_run(
        self, model, server, monkeypatch
    ):
        before = sent(server)
        server.mood(sleep=3.0)
        monkeypatch.setattr(remote_jobs, "DEADLINE", 0.5)
        with pytest.raises(RemoteFailure, match="still running") as caught:
            ask(model, 20)
        assert "go on waiting" in caught.value.next_step
        monkeypatch.setattr(remote_jobs, "DEADLINE", 60.0)
        assert ask(model, 20).shape == (1, 3, 32)
        assert sent(server) == before + 1

    def test_what_came_back_is_not_asked_for_again(self, model, server):
        first, before = ask(model, 21), sent(server)
        assert torch.equal(ask(model, 21), first) and sent(server) == before
        [kept] = remote_ledger.folder().glob("*.safetensors")
        kept.write_bytes(b"damaged")
        assert torch.equal(ask(model, 21), first) and sent(server) == before + 1

    def test_old_results_are_removed(self, model):
        ask(model, 22)
        [kept] = remote_ledger.folder().glob("*.safetensors")
        remote_ledger.clean()
        assert kept.exists()
        os.utime(kept, (0, time.time() - 2 * remote_ledger.KEEP_SECONDS))
        remote_ledger.clean()
        assert not kept.exists()

    def test_results_are_read_without_running_what_they_hold(self, model):
        """nnsight reads them with pickle; a server could then run anything here."""
        backend = remote_jobs._backend(model)
        backend.compress = False

        class Bad:
            def __reduce__(self):
                return os.mkdir, ("never",)

        content = io.BytesIO()
        torch.save({"found": Bad()}, content)
        with pytest.raises(pickle.UnpicklingError):
            backend.finalize(content.getvalue())


CLIENT = """
    import sys
    from companion.mayne import activations
    from companion.models import load_model
    model = load_model("tiny", remote=sys.argv[1])
    for first in range(30, 34):
        [found] = activations.residuals(model, [[[first, 6, 7]]], 1, [0])
        print(first, float(found.sum()), flush=True)
"""


def client(server) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CLIENT), server.url],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_a_killed_client_goes_on_and_sends_nothing_twice(model, server):
    local = load_model("tiny")
    before = sent(server)
    server.mood(sleep=1.0, times=99)
    first = client(server)
    for line in first.stdout:
        if line.startswith("31"):
            break
    time.sleep(0.5)  # in the third job
    first.send_signal(signal.SIGKILL)
    first.wait(10)
    first.stdout.close()
    server.mood()
    second = client(server)
    lines = second.communicate(timeout=120)[0].splitlines()
    wanted = [(n, float(ask(local, n).sum())) for n in range(30, 34)]
    assert [int(line.split()[0]) for line in lines] == [n for n, _ in wanted]
    assert [float(line.split()[1]) for line in lines] == pytest.approx([v for _, v in wanted], abs=1e-4)
    assert sent(server) - before == 4 + 2  # four jobs, and each client asked the server about itself


def test_a_killed_server_costs_only_what_it_was_doing(monkeypatch, tmp_path):
    """It comes back at the same address without any memory of its jobs."""
    monkeypatch.setattr(remote_jobs, "WAITS", (0.5,) * 200)
    first = miniremote.Server()
    try:
        model = load_model("tiny", remote=first.url)
        done = ask(model, 40)
        assert len(first.seen()) == 2  # it was asked about itself, too
    finally:
        first.kill()
    key = remote_ledger.key_of(
        {"x": "y"}, ask, []
    )  # any file will do: a job that the server cannot know any more
    remote_ledger.remember(key, "gone", model.remote, model.name)
    second = miniremote.Server(first.port)
    try:
        assert torch.equal(ask(model, 40), done) and second.seen() == []
        assert ask(model, 41).shape == (1, 3, 32) and len(second.seen()) == 1
    finally:
        second.kill()


class TestExplained:
    """Exceptions that no HTTP server can be made to cause, as nnsight raises them."""

    @pytest.mark.parametrize(
        "error",
        [ConnectionRefusedError(111, "Connection refused"), httpx.ConnectError("x"), httpx.ReadTimeout("y")],
    )
    def test_no_connection_can_pass(self, error):
        found = explain(error, "an answer", "host:1")
        assert found.passing and found.where == "on the way" and "host:1" in found.found

    def test_a_closed_websocket_can_pass(self):
        from websocket import WebSocketConnectionClosedException

        assert explain(WebSocketConnectionClosedException("gone"), "an answer", "host").passing

    def test_the_cause_counts(self):
        error = RemoteError("Failed to send request: [Errno 111] Connection refused")
        error.__cause__ = httpx.ConnectError("refused")
        assert explain(error, "an answer", "host").passing
        error.__cause__ = None
        assert not explain(error, "an answer", "host").passing

    def test_the_last_line_of_a_traceback_is_what_is_said(self):
        text = 'Traceback:\n  File "[tree:3] /x/steerkit/traces.py", line 77, in tree\nValueError: too many\n'
        found = explain(RemoteError(text), "an answer", "host")
        assert "ValueError: too many" in found.found and "steerkit/traces.py:77" in found.where
        assert json.dumps(found.found).count("Traceback") == 0
