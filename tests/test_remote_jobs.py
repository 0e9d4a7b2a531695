"""Jobs on a server: what is tried again, what is not, what a killed client or server leaves, and what is said."""

import io
import json
import logging
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import httpx
import miniremote
import pytest
import torch
import websocket
import zstandard
from conftest import asked, close, random_vectors, refused
from nnsight import CONFIG
from nnsight.intervention.backends.remote import RemoteError

from companion.mayne import activations as mayne_runs
from companion.models import load_model
from steerkit import evaluate, traces
from steerkit.ndif import jobs as remote_jobs
from steerkit.ndif import ledger as remote_ledger
from steerkit.ndif.failures import RemoteFailure, explain
from steerkit.remote import run

KEY = "a-key-that-nobody-may-see"
DOWN = "Service temporarily unavailable: compute backend is reconnecting"
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


class TestTriedAgain:
    @pytest.mark.parametrize(
        ("mood", "jobs", "said", "times"),
        [
            ({"status": 503, "detail": DOWN, "times": 3}, 1, "trying again", 3),
            ({"where": "response", "close": True, "times": 2}, 1, "no connection", 2),
            ({"error": AGAIN}, 2, "sending it again", 1),
            ({"forget": True}, 2, "does not know job", 1),
        ],
        ids=["reconnecting", "connection closed", "worker died", "job forgotten"],
    )
    def test_what_can_pass(self, model, server, caplog, mood, jobs, said, times):
        before = sent(server)
        server.mood(**mood)
        assert ask(model).shape == (1, 3, 32)
        assert sent(server) == before + jobs and caplog.text.count(said) == times

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
        other = remote_jobs.send(model, traces.describe, traces.site_of(model), [])  # ours stands behind it
        assert ask(model, 20).shape == (1, 3, 32)
        assert other.poll() is not None
        assert sent(server) >= before + 3 and "sending it again" not in caplog.text


class TestNotTriedAgain:
    @pytest.mark.parametrize(
        ("mood", "said", "next_step"),
        [
            ((401, "Missing or invalid API key. Please visit x"), "no key", "NDIF_API_KEY"),
            ((400, f"Invalid API key format: '{KEY}'"), "does not accept", "NDIF_API_KEY"),
            ((400, "There was an error parsing the body"), "cannot take in", "anyio"),
            ((0, "Could not deploy this model. x"), "does not have and cannot get", "nnsight.status"),
            ((0, "Error starting model. Please try again."), "cannot start", "server's log"),
            ((0, "Your request payload could not be read (x)."), "cannot read", "nnsight.compare"),
            ((0, "Your job exceeded the execution timeout of 8.0s."), "8.0s", "fewer layers"),
            ((0, AGAIN), "worker that died", ""),  # in the end
        ],
    )
    def test_what_cannot_pass_is_an_error_at_once(self, model, server, monkeypatch, mood, said, next_step):
        monkeypatch.setattr(CONFIG.API, "APIKEY", KEY)
        (status, text), before = mood, sent(server)
        server.mood(times=99, **({"status": status, "detail": text} if status else {"error": text}))
        with pytest.raises(RemoteFailure, match=said) as caught:
            ask(model)
        server.mood()
        assert next_step in caught.value.next_step
        assert f"on the server 127.0.0.1:{server.port}" in caught.value.found
        assert KEY not in str(caught.value)
        assert sent(server) - before == (0 if status else remote_jobs.SENDS if text == AGAIN else 1)
        assert list(remote_ledger.folder().glob("*.json")) == []
        assert ask(model).shape == (1, 3, 32)  # and the next one is a new job

    def test_an_exception_in_our_code_on_the_server_names_its_line(self, model):
        with pytest.raises(RemoteFailure, match=r"steerkit/traces\.py:\d+") as caught:
            run(model, traces.residuals, [[[5, 6]]], 99, [0], False)
        assert "IndexError" in caught.value.found and "Traceback" not in caught.value.found

    def test_a_server_that_is_not_there_is_said_at_once(self):
        start = time.monotonic()
        with pytest.raises(RemoteFailure, match="no connection") as caught:
            load_model("tiny", remote=f"http://127.0.0.1:{miniremote.free_port()}")
        assert caught.value.where == "on the way" and "address" in caught.value.next_step
        assert time.monotonic() - start < 60

    def test_a_server_without_memory_gets_half_as_much(self, model, server):
        examples, vectors = asked("letter", model, 4), random_vectors(model)
        evaluate(model, examples, vectors, [1.0])  # the self-check, which is not what is meant here
        wanted = evaluate(load_model("tiny"), examples, vectors, [1.0, 2.0])
        before = sent(server)
        server.mood(error="torch.OutOfMemoryError: CUDA out of memory.")
        found = evaluate(model, examples, vectors, [1.0, 2.0], engine="tree")
        assert sent(server) - before >= 3
        close(found.scores, wanted.scores)

    def test_a_server_that_changes_its_precision_stops_the_run(self, server):
        load_model("tiny", remote=server.url)
        notes = remote_ledger.folder() / "servers.json"
        notes.write_text(notes.read_text().replace("float32", "bfloat16"))
        refused(load_model, "tiny", remote=server.url, said=r"bfloat16.*as before")
        assert load_model("tiny", remote=server.url).dtype == torch.float32


class TestWaiting:
    def test_a_job_that_takes_too_long_is_waited_for_by_the_next_run(self, model, server, monkeypatch):
        before = sent(server)
        server.mood(sleep=1.5)
        monkeypatch.setattr(remote_jobs, "DEADLINE", 0.5)
        with pytest.raises(RemoteFailure, match="still running") as caught:
            ask(model, 20)
        assert "go on waiting" in caught.value.next_step
        monkeypatch.setattr(remote_jobs, "DEADLINE", 60.0)
        assert ask(model, 20).shape == (1, 3, 32)
        assert sent(server) == before + 1

    def test_what_came_back_is_not_asked_for_again_unless_damaged_and_removed_when_old(self, model, server):
        first, before = ask(model, 21), sent(server)
        assert torch.equal(ask(model, 21), first) and sent(server) == before
        [kept] = remote_ledger.folder().glob("*.safetensors")
        kept.write_bytes(b"damaged")
        assert torch.equal(ask(model, 21), first) and sent(server) == before + 1
        remote_ledger.clean()
        assert kept.exists()
        os.utime(kept, (0, time.time() - 2 * remote_ledger.KEEP_SECONDS))
        remote_ledger.clean()
        assert not kept.exists()

    def test_results_are_read_without_running_what_they_hold(self, model):
        """nnsight reads them with pickle; a server could then run anything here."""

        class Bad:
            def __reduce__(self):
                return os.mkdir, ("never",)

        with pytest.raises(pickle.UnpicklingError):
            remote_jobs._backend(model).finalize(saved({"found": Bad()}))


def saved(value: object) -> bytes:
    """A result as servers send it."""
    content = io.BytesIO()
    torch.save(value, content)
    return zstandard.compress(content.getvalue())


def replies(status: object, result: bytes = b"", code: int = 200):
    """A server that says this of every job, and sends this for its result."""

    def answer(request: httpx.Request) -> httpx.Response:
        to_result = "response" not in request.url.path
        assert not to_result or "ndif-api-key" not in request.headers
        said = status if isinstance(status, bytes) else json.dumps(status).encode()
        content = result if to_result else said
        headers = {"location": "http://169.254.169.254/"} if code == 302 else {}
        return httpx.Response(code if to_result else 200, headers=headers, stream=httpx.ByteStream(content))

    return answer


DONE = {"id": "x", "status": "COMPLETED", "data": "http://127.0.0.1:1/result/x"}
EVIL = {
    "an answer without end": (replies(b" " * 70_000), "more than 65,536 bytes"),
    "a result without end": (replies(DONE, bytes(70_000)), "more than 65,536 bytes"),
    "a bomb": (replies(DONE, zstandard.compress(bytes(10**8))), "more than 65,536 bytes"),
    "a link elsewhere": (replies(DONE | {"data": "http://169.254.169.254/x"}), "a link to 169.254.169.254"),
    "a link to a file": (replies(DONE | {"data": "file:///etc/passwd"}), "a link to"),
    "no link": (replies(DONE | {"data": [1]}), "an exception"),
    "a redirect": (replies(DONE, code=302), "Redirect location"),
    "no result": (replies(DONE, code=404), "an exception"),
    "no JSON": (replies(b"<html>"), "an exception"),
    "another JSON": (replies([1]), "an exception"),
    "another result": (replies(DONE, saved({"lost": 1})), "'found'"),
    "numbers for tensors": (replies(DONE, saved({"found": [1]})), "found list"),
}


@pytest.mark.parametrize("what", EVIL)
def test_a_server_that_does_harm_gets_one_sentence(model, monkeypatch, what):
    """What it says and sends has a size, and its links lead to itself or to a store behind https."""
    answer, said = EVIL[what]
    monkeypatch.setattr(CONFIG.API, "APIKEY", KEY)
    monkeypatch.setattr(remote_jobs, "CLIENT", httpx.Client(transport=httpx.MockTransport(answer)))
    monkeypatch.setattr(remote_jobs, "MOST", 2**16)
    monkeypatch.setattr(remote_jobs, "send", lambda *_: remote_jobs._backend(model, "x"))
    caught = refused(ask, model, 50, said=said)
    assert "\n" not in str(caught) and KEY[:6] not in str(caught)


@pytest.mark.parametrize("code", [200, 401])
def test_the_reply_to_a_job_has_a_size_too(model, monkeypatch, code):
    answer = httpx.MockTransport(lambda _: httpx.Response(code, stream=httpx.ByteStream(b" " * 70_000)))
    monkeypatch.setattr(remote_jobs, "CLIENT", httpx.Client(transport=answer))
    monkeypatch.setattr(remote_jobs, "MOST", 2**16)
    refused(ask, model, 51, said="more than 65,536 bytes")


@pytest.mark.parametrize("quoted", [KEY, KEY[:9], KEY[-9:], f"'{KEY[4:12]}...'"])
def test_no_part_of_a_key_is_repeated(quoted):
    failure = explain(RemoteError(f"Invalid API key {quoted}"), "x", "host", KEY)
    assert "does not accept: words with the key in them" in failure.found
    assert quoted.strip("'.") not in str(failure)


def ask_four(remote: str) -> list[tuple[int, float]]:
    """What the client does: four jobs, each said when it is done."""
    client, said = load_model("tiny", remote=remote), []
    for first in range(30, 34):
        said.append((first, float(ask(client, first).sum())))
        print(*said[-1], flush=True)
    return said


def test_a_killed_client_goes_on_and_sends_nothing_twice(server):
    before, code = sent(server), "import sys, test_remote_jobs; test_remote_jobs.ask_four(sys.argv[1])"
    server.mood(sleep=1.0, times=99)
    command, cwd = [sys.executable, "-c", code, server.url], Path(__file__).parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=cwd) as client:
        while not client.stdout.readline().startswith("31"):
            assert client.poll() is None
        time.sleep(0.5)  # in the third job
        client.kill()
    server.mood()
    found, local = ask_four(server.url), load_model("tiny")
    wanted = [float(ask(local, n).sum()) for n in range(30, 34)]
    assert [total for _, total in found] == pytest.approx(wanted, abs=1e-4)
    assert sent(server) - before == 4 + 2  # four jobs, and each client asked the server about itself


def test_a_killed_server_costs_only_what_it_was_doing(model, server, monkeypatch):
    """It comes back at the same address without any memory of its jobs."""
    monkeypatch.setattr(remote_jobs, "WAITS", (0.5,) * 200)
    done = ask(model, 40)
    server.close()
    key = remote_ledger.key_of({"x": "y"}, ask, [])  # any job that the server cannot know any more
    remote_ledger.remember(key, "gone", model.remote, model.name)
    server.start()
    assert torch.equal(ask(model, 40), done) and server.seen() == []
    assert ask(model, 41).shape == (1, 3, 32) and len(server.seen()) == 1


def test_no_connection_can_pass_and_the_cause_counts():
    """Exceptions that no HTTP server can be made to cause, as nnsight raises them."""
    gone = websocket.WebSocketConnectionClosedException("gone")
    for error in (ConnectionRefusedError(111, "refused"), httpx.ReadTimeout("y"), gone):
        found = explain(error, "an answer", "host:1")
        assert found.passing and found.where == "on the way" and "host:1" in found.found
    error = RemoteError("Failed to send request: [Errno 111] Connection refused")
    assert not explain(error, "an answer", "host").passing
    error.__cause__ = httpx.ConnectError("refused")
    assert explain(error, "an answer", "host").passing
