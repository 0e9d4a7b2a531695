"""A sweep whose worker or server is killed in the middle: it goes on, with nothing lost and nothing repeated.

That a killed client goes on, too, needs no real server: `test_remote_jobs`.
"""

import threading
import time

import pandas as pd
import served
import torch
from served import DEFAULT

from companion.cli import own
from steerkit import traces
from steerkit.ndif import jobs as remote_jobs
from steerkit.remote import run
from steerkit.traces import site_of

pytestmark = served.NEEDS_SERVER
PARTS = 6


def part(model, n: int) -> torch.Tensor:
    """One of several jobs of a second each."""
    [found] = run(model, slowly, [[60 + n, 6, 7, 8]])
    return found


def slowly(site, batch):
    """Activations after block 2, after a second."""
    time.sleep(1)
    return traces.residuals(site, [batch], 2, [0], False)


def parts_in_the_background(model, found: list) -> threading.Thread:
    thread = threading.Thread(target=lambda: [found.append(part(model, n)) for n in range(PARTS)])
    thread.start()
    return thread


def wait_for(found: list, count: int) -> None:
    while len(found) < count:
        time.sleep(0.05)


def check(found: list[torch.Tensor], here) -> None:
    """All parts are there, in order, and right."""
    assert len(found) == PARTS
    for n, values in enumerate(found):
        [expected] = traces.residuals(site_of(here), [[[60 + n, 6, 7, 8]]], 2, [0], False)
        assert (values - expected).abs().max() <= 1e-4


def test_a_worker_that_dies_under_a_job(stack, there, here, fresh):
    found: list[torch.Tensor] = []
    thread = parts_in_the_background(there, found)
    wait_for(found, 2)
    assert stack.crash_models() >= 1
    thread.join(300)
    check(found, here)


def test_an_api_that_is_killed_and_restarted(stack, there, here, fresh):
    before, found = stack.jobs(), []
    thread = parts_in_the_background(there, found)
    wait_for(found, 2)
    stack.kill("api")
    time.sleep(2)
    stack.start_api()
    thread.join(300)
    check(found, here)
    assert stack.jobs() - before <= PARTS + 1  # the one that was on its way may have been lost with the queue


def test_a_sweep_whose_whole_server_is_killed_and_restarted(stack, there, here, fresh, tmp_path, monkeypatch):
    """`steerkit sweep` as a user runs it; what was finished before is not asked for again."""
    monkeypatch.setattr(remote_jobs, "LOST", 10.0)
    monkeypatch.setattr("steerkit.trust.JOB_TOKENS", 1)  # jobs as small as they get
    asked = ("-1,1", "all", "letter", "tree", "letter", "clean", "bundled", 0)
    vectors = tmp_path / "vectors.safetensors"
    own.extract(DEFAULT, "openness", vectors, "all", "letter")

    def swept(name: str) -> None:
        own.sweep(DEFAULT, "openness", vectors, tmp_path / name, *asked)

    swept("local.parquet")
    finished: list[str] = []
    keep = remote_jobs.ledger.keep
    monkeypatch.setattr(
        remote_jobs.ledger, "keep", lambda name, found: (finished.append(name), keep(name, found))[1]
    )
    monkeypatch.setenv("STEERKIT_REMOTE", stack.url)
    thread = threading.Thread(target=swept, args=("remote.parquet",))
    thread.start()
    wait_for(finished, 3)
    stack.kill_all()
    stack.start()
    thread.join(400)
    assert len(finished) == len(set(finished)) > 5
    local, remote = (pd.read_parquet(tmp_path / name) for name in ("local.parquet", "remote.parquet"))
    pd.testing.assert_frame_equal(local, remote, check_exact=False, atol=1e-4, rtol=0)
