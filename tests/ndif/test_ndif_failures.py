"""What can go wrong with a server, on a real one: the exception says what happened, and bad requests are not repeated."""

import shutil
import threading
import time
from pathlib import Path

import pytest
import served
import torch
from nnsight.modeling import huggingface
from served import ORDINARY, TRUSTED, key, saved_tiny

from companion.models import load_model
from steerkit import traces
from steerkit.ndif import jobs as remote_jobs
from steerkit.ndif.failures import RemoteFailure
from steerkit.propensity import Branch, Question, Read
from steerkit.remote import run

pytestmark = served.NEEDS_SERVER


def read(model, first: int = 5) -> torch.Tensor:
    """A small job; another `first` is another job."""
    [found] = run(model, traces.residuals, [[[first, 6, 7, 8]]], 2, [0], False)
    return found


def multiplies_what_does_not_fit(site):
    return [torch.zeros(2) @ torch.zeros(3)]


def sleeps(site):
    time.sleep(8)
    return [torch.zeros(1)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return saved_tiny(tmp_path_factory.mktemp("models") / "tiny")


def copied(folder: Path, source: Path) -> str:
    """A copy of a model folder under another name: another model for the server."""
    shutil.copytree(source, folder)
    return str(folder)


class TestKeys:
    UNKNOWN = "00000000-0000-4000-8000-00000000dead"

    @pytest.mark.parametrize(
        ("given", "says"), [("", "no key"), ("not-a-key", "does not accept"), (UNKNOWN, "does not accept")]
    )
    def test_a_bad_key_is_an_error_at_once_and_is_not_repeated(self, there, fresh, sent, given, says):
        with key(given), pytest.raises(RemoteFailure, match=says) as failure:
            read(there)
        assert len(sent) == 1
        assert "NDIF_API_KEY" in str(failure.value)
        assert not given or given not in str(failure.value)


class TestModels:
    def test_a_model_that_the_server_cannot_get(self, stack, tiny, tmp_path):
        model = load_model(copied(tmp_path / "here", tiny), remote=stack.url, template="plain")
        model.lm.repo_id = str(tmp_path / "nowhere")
        huggingface._ID_CACHE[model.lm.repo_id] = model.lm.repo_id
        with pytest.raises(RemoteFailure, match="does not have and cannot get"):
            read(model)

    def test_a_model_that_the_server_cannot_start(self, stack, tiny, tmp_path):
        place = Path(copied(tmp_path / "broken", tiny))
        weights = place / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:100])
        with pytest.raises(RemoteFailure, match="cannot start"):
            load_model(str(place), remote=stack.url, template="plain")

    def test_a_job_that_takes_longer_than_the_server_allows(self, stack, tiny, tmp_path):
        model = load_model(copied(tmp_path / "hurried-tiny", tiny), remote=stack.url, template="plain")
        with pytest.raises(RemoteFailure, match="longer than it allows"):
            run(model, sleeps)
        assert read(model).shape[-2:] == (4, model.width)  # and the server goes on


class TestRequests:
    @pytest.mark.parametrize("mine", [TRUSTED, ORDINARY], ids=["trusted", "sandboxed"])
    def test_an_exception_keeps_its_type_and_message_and_names_our_line(self, there, fresh, sent, mine):
        with key(mine), pytest.raises(RemoteFailure, match=r"RuntimeError: .*size") as failure:
            run(there, multiplies_what_does_not_fit)
        assert "on the server" in str(failure.value)
        assert len(sent) == 1
        with key(mine), pytest.raises(RemoteFailure, match=r"IndexError.*steerkit/traces.py:\d+"):
            run(there, traces.residuals, [[[5, 6, 7]]], 99, [0], False)

    def test_what_cannot_be_sent_is_not_sent(self, there, fresh, sent):
        with pytest.raises((TypeError, RemoteFailure), match="pickle"):
            run(there, traces.residuals, [[[5, 6]]], 2, [threading.Lock()], False)
        assert not any(each.job_id for each in sent)

    def test_a_request_of_several_megabytes(self, here, there, fresh):
        large = {2: torch.randn(2000, there.width, generator=torch.Generator().manual_seed(0))}
        branches = tuple(Branch((token,), (Read(0, token, side, 1.0),)) for side, token in enumerate((9, 11)))
        asked = Question("q", (5, 6, 7), branches, "logit")
        given = traces.direct, asked, large, [(1999, 2, 1.0)]
        [local], [remote] = (run(model, *given) for model in (here, there))
        assert (local - remote).abs().max() <= 1e-4


def test_a_job_that_the_server_does_not_know_is_sent_anew(there, fresh, monkeypatch, sent):
    monkeypatch.setattr(remote_jobs, "LOST", 2.0)
    job_of, given = remote_jobs.ledger.job_of, []

    def stale(name: str):
        given.append(name)
        return {"job": "0" * 32, "sent": time.time()} if len(given) == 1 else job_of(name)

    monkeypatch.setattr(remote_jobs.ledger, "job_of", stale)
    assert read(there).shape[-2:] == (4, there.width)
    assert [hasattr(each, "sent") for each in sent] == [False, True]
