"""Jobs on an NDIF server: sent once, waited for, kept.

A job is sent without waiting (nnsight's non-blocking mode) and asked after; its id is noted before anything else, so
that whoever runs the same request later finds it. What can pass is tried again with growing pauses: a refused
connection, a closed socket, a server that restarts, a worker that died. What cannot is an error at once.
"""

import io
import logging
import sys
import time
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import nnsight
import tenacity
import torch
import zstandard
from nnsight.intervention.backends.display import StatusDisplay
from nnsight.intervention.backends.remote import RemoteBackend, RemoteError
from nnsight.schema.request import RequestModel
from nnsight.schema.response import ResponseModel

from steerkit import traces
from steerkit.errors import need
from steerkit.files import ARTIFACTS, locked
from steerkit.model import Model
from steerkit.ndif import ledger
from steerkit.ndif.address import host_of
from steerkit.ndif.failures import KEPT, LATER, VERSIONS, RemoteFailure, explain

WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0)  # seconds between attempts to reach a server
SENDS = 4  # how often one job is sent, when workers die under it
DEADLINE = 3600.0  # seconds to wait for one job, its time in the queue included
LOST = 30.0  # seconds after which a job that the server does not know is sent anew
POLLS = (0.1, 2.0)  # shortest and longest pause between two questions after a job
BEFORE = ("received", "queued", "provisioning", "deploying", "dispatched")  # what a job is before it runs
QUIET = 60.0  # seconds in one of these after which a tiny job is sent behind it; twice as long until the next
FIRST_WORD = 10.0  # seconds of waiting before a word about it; twice as long until the next one
ANSWER = 30.0  # seconds for the answer to such a question: a server that accepts and says nothing is as good as gone
MOST = 3 << 29  # bytes of an answer; `JOB_TOKENS` of a residual stream 16,384 wide are two thirds of it
# One for all questions: its certificates take longer to read than an answer. It keeps no connection.
CLIENT = httpx.Client(timeout=ANSWER, limits=httpx.Limits(max_keepalive_connections=0))

log = logging.getLogger("steerkit.remote")
nnsight.register("steerkit")  # functions of this package travel as source


class Backend(RemoteBackend):
    """nnsight's client, silent, and reading results without running anything that a server might put into them."""

    def finalize(self, content: bytes) -> Any:
        """What came back."""
        self.received = len(content)
        if self.compress:
            content = _within(zstandard.ZstdDecompressor().read_to_iter(content))
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)["found"]

    def download_result(self, url: str) -> Any:
        """What lies behind a link of the server: its own, or that of a store, which is not asked for in the clear."""
        host, place = urlsplit(self.host).hostname, urlsplit(url)
        if place.hostname != host and place.scheme != "https":
            raise ValueError(f"a link to {place.netloc}")
        return self.finalize(_got(url, {}) or b"")

    def _post(self, request: RequestModel, blob: bytes) -> ResponseModel:
        """Send a job; nnsight's own takes a reply of any length."""
        about = {"nnsight-version": nnsight.__version__, "python-version": sys.version}
        about |= self._key() | {"ndif-timestamp": repr(time.time())}
        parts = {"blob": ("request", blob, "application/octet-stream")}
        form = {"data": {"data": request.metadata()}, "files": parts, "timeout": DEADLINE}
        return ResponseModel.model_validate_json(_got(f"{self.host}/request", about, "POST", **form) or b"")

    def poll(self, tracer: Any = None) -> Any:
        """nnsight's own waits ten minutes for a silent server, and hides whether it knows the job."""
        content, self.status = _got(f"{self.host}/response/{self.job_id}", self._key()), None
        if content is None:
            return None
        response = ResponseModel.model_validate_json(content)
        self.status = response.status
        return self.handle(response)

    def _key(self) -> dict[str, str]:
        return {"ndif-api-key": self.api_key} if self.api_key else {}

    def _serialize(self, tracer: Any) -> bytes:
        blob = super()._serialize(tracer)
        self.sent = len(blob)
        return blob


def _got(url: str, headers: dict[str, str], method: str = "GET", **sent: Any) -> bytes | None:
    """The content behind an address, as it was sent; None where there is none."""
    with CLIENT.stream(method, url, headers=headers | {"accept-encoding": "identity"}, **sent) as reply:
        if method == "GET" and reply.status_code == httpx.codes.NOT_FOUND:
            return None
        content = _within(reply.iter_raw())
        if reply.is_error:  # what the server has to say about it
            said = content.decode(errors="replace")
            raise RemoteError(f"{reply.status_code} {reply.reason_phrase}: {said}")
        reply.raise_for_status()
        return content


def _within(parts: Iterable[bytes]) -> bytes:
    """The parts together, unless that is more than any job gives."""
    whole = bytearray()
    for part in parts:
        whole += part
        if len(whole) > MOST:
            raise ValueError(f"more than {MOST:,} bytes")
    return bytes(whole)


def results_of(
    model: Model, work: Callable[..., Any], site: SimpleNamespace, args: list
) -> list[torch.Tensor]:
    """What `work(site, *args)` gives on the server: from the ledger, from a job that runs already, or from a new one."""
    about = {"model": model.lm.to_model_key(), "server": model.remote, "dtype": str(model.dtype)}
    about["weights"] = model.source.get("sha256", "")  # of a folder, whose content may change
    key = ledger.key_of(about, work, args)
    with locked(ledger.result_path(key), ARTIFACTS):
        found = ledger.kept(key)
        if found is not None:
            return found
        try:
            result = _finish(model, work, site, args, key)
            sound = isinstance(result, list) and all(map(torch.is_tensor, result))
            need(sound, f"tensors from {host_of(model.remote)}", type(result).__name__, VERSIONS, KEPT)
            return ledger.keep(key, result)
        except RemoteFailure as failure:
            if failure.memory:  # what halves its batches on this machine does so for a server
                raise torch.OutOfMemoryError(str(failure)) from None
            raise


def answer_of(model: Model, work: Callable[..., Any], site: SimpleNamespace) -> Any:
    """A small question about the server itself, never kept; no patience with a server that is not there."""
    return _wait(_reached(lambda: send(model, work, site, []), model, ()), model, time.time(), ())


def send(model: Model, work: Callable[..., Any], site: SimpleNamespace, args: list) -> Backend:
    """Send a job; its id is in the backend that comes back."""
    backend = _backend(model)
    with model.lm.session(backend=backend):
        found = nnsight.save(work(site, *args))  # noqa: F841 - comes back under this name
    return backend


def _backend(model: Model, job: str | None = None) -> Backend:
    key, env = model.lm.to_model_key(), model.lm._remoteable_get_env()
    made = Backend(key, host=model.remote, env=env, blocking=False, job_id=job)
    made.display = StatusDisplay(enabled=False)
    return made


def _finish(model: Model, work: Callable[..., Any], site: SimpleNamespace, args: list, key: str) -> Any:
    """Wait for the job of a request, sending it when there is none, and again when it is lost."""

    def once() -> Any:
        noted = ledger.job_of(key)
        if noted is None:
            sent, since = _reached(lambda: send(model, work, site, args), model, WAITS), time.time()
            ledger.remember(key, sent.job_id, model.remote, model.name)
        else:
            sent, since = _backend(model, noted["job"]), noted["sent"]
            log.info("going on with job %s", sent.job_id)
        try:
            return _wait(sent, model, max(since, time.time() - DEADLINE / 2), WAITS)
        except RemoteFailure as failure:
            if failure.again or failure.where != "on the way":
                ledger.forget(key)
            raise

    return _retried(once, "again", SENDS, WAITS[1:], "sending it again")


def _reached(call: Callable[[], Any], model: Model, waits: tuple[float, ...]) -> Any:
    """`call()`, again after each pause while the server cannot be reached or is busy."""

    def explained() -> Any:
        try:
            return call()
        except Exception as error:  # nnsight's, httpx's, websocket's and the operating system's
            host, key = host_of(model.remote), nnsight.CONFIG.API.APIKEY
            failure = explain(error, f"an answer for {model.name}", host, key)
        raise failure  # out here, without the exception in which the server may quote the key

    return _retried(explained, "passing", 1 + len(waits), waits, "trying again")


def _retried(call: Callable[[], Any], kind: str, times: int, waits: tuple[float, ...], words: str) -> Any:
    """`call()`, at most so many times, with pauses between, as long as it ends in a failure of this kind."""

    def tell(state: tenacity.RetryCallState) -> None:
        log.warning("%s; %s in %g s", state.outcome.exception().found, words, state.next_action.sleep)  # type: ignore[attr-defined]

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda e: isinstance(e, RemoteFailure) and getattr(e, kind)),
        wait=tenacity.wait_chain(*map(tenacity.wait_fixed, waits or (0.0,))),
        stop=tenacity.stop_after_attempt(times),
        before_sleep=tell,
        reraise=True,
    )(call)


def _wait(sent: Backend, model: Model, since: float, waits: tuple[float, ...]) -> Any:
    """Ask after a job until it is finished, has failed, is unknown to the server, or is overdue."""
    begin = known = moved = time.monotonic()
    shown, tell, quiet, behind, overtaken = "unknown", FIRST_WORD, QUIET, None, False
    while True:
        found = _reached(sent.poll, model, waits)
        if found is not None:
            return found
        now, before = time.monotonic(), shown
        if sent.status is not None:
            known, shown = now, sent.status.value.lower()
        moved = now if shown != before else moved
        if now - begin > tell:
            log.info("job %s on %s: %s, %.0f s", sent.job_id, host_of(model.remote), shown, now - begin)
            tell *= 2
        unknown = now - known > LOST
        if unknown or (overtaken and shown in BEFORE):
            lost = f"a server that {'does not know' if unknown else 'finished a later job and not'} job {sent.job_id}"
            raise RemoteFailure(f"an answer for {model.name}", lost, LATER, "again")
        overtaken = behind is not None and _reached(behind.poll, model, waits) is not None
        if shown in BEFORE and now - moved > quiet:
            # A job that takes no time tells whether this one was forgotten, as a queue is worked off in order: NDIF
            # 0.1.2 stores the states of a job one after the other without waiting, and sometimes an old one last, so
            # that a job that has failed, or finished, seems to wait for ever.
            behind = _reached(lambda: send(model, traces.describe, traces.site_of(model), []), model, waits)
            quiet *= 2
        if time.time() - since > DEADLINE:
            expected = f"an answer for {model.name} within {DEADLINE / 60:.0f} minutes"
            anew = "or remove the folder `remote` among the artefacts to send it anew."
            mend, late = f"run the command again to go on waiting, {anew}", f"job {sent.job_id} still {shown}"
            raise RemoteFailure(expected, late, mend, where="on the way", done="Its number is kept.")
        shortest, longest = POLLS
        time.sleep(min(longest, max(shortest, 0.1 * (now - begin))))
