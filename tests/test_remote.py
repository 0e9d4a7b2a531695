"""The same traces on a server that cannot import steerkit: equal to local, with little on the wire."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import miniremote
import pytest
import torch
from conftest import asked, close, command_line, random_vectors, refused
from nnsight import CONFIG

from companion import models
from companion import store as artifacts
from companion.cost import job_cost
from companion.mayne import activations as runs
from companion.models import load_model
from companion.profiles import load_profile
from companion.tan import jobs, work
from steerkit import Example, Model, differences, evaluate, load_vectors, remote
from steerkit.extraction import answers, mean_difference
from steerkit.extraction import extract as mean_vector
from steerkit.formats import question
from steerkit.grid import direct, tree
from steerkit.ndif import address
from steerkit.ndif import ledger as remote_ledger

KEY = "a-key-that-nobody-may-see"


@pytest.fixture(scope="module")
def server():
    return miniremote.shared()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One artefact folder for the models of this module, which are loaded once; each test has another."""
    return tmp_path_factory.mktemp("remote")


@pytest.fixture(scope="module", params=["tiny", "tiny-gemma3"])
def pair(request, server, store) -> tuple[Model, Model]:
    """A model here and there; Gemma 3's windows are far shorter than the prompts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEERKIT_ARTIFACTS", str(store))
        return load_model(request.param), load_model(request.param, remote=server.url)


@pytest.fixture(autouse=True)
def own_store(monkeypatch, tmp_path):
    monkeypatch.setenv("STEERKIT_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.delenv("STEERKIT_REMOTE", raising=False)


class TestTheSameNumbers:
    @pytest.mark.parametrize("form", ["letter", "statement"])
    def test_of_a_sweep_and_an_extraction_over_prompts_of_unequal_length(self, pair, form):
        """The extraction with and without sums on the server."""
        here, there = pair
        examples, vectors = asked(form, here, 6), random_vectors(here)
        wanted, found = (evaluate(model, examples, vectors, [-1.0, 0.0, 1.5]) for model in pair)
        assert (wanted.engine, found.engine) == ("tree", "tree")
        close(found.scores, wanted.scores)
        wanted = differences(here, examples, [3, 1])
        close(differences(there, examples, [3, 1]), wanted)
        close(mean_vector(there, examples, [3, 1]).values, mean_difference(wanted, [3, 1]).values)
        one = question(examples[0])
        close(*(direct(model, one, vectors, [(0, 1, -1.0), (1, 3, 1.0)]) for model in pair))

    def test_of_conditions_that_need_several_forwards_in_one_job(self, pair, server):
        here, there = pair
        questions, vectors = [question(e) for e in asked("statement", here, 5)], random_vectors(here)
        cells = list(product(range(2), (2, 3), (-1.0, 0.5)))
        before = len(server.seen())
        found = tree(there, [questions[:2], questions[2:]], vectors, cells, 60)
        assert len(server.seen()) == before + 1
        close(found, tree(here, [questions], vectors, cells, 10_000))

    def test_of_what_an_autoencoder_reads(self, pair):
        examples, batches = asked("statement", pair[0]), [[[5, 6, 7, 8]] * 3, [[5, 6]]]
        for one, other in zip(*(answers(m, examples, 2) for m in pair), strict=True):
            close(other[0], one[0])
            close(other[1], one[1])
        norms = [runs.residuals(model, batches, 1, [1, 0], norms=True) for model in pair]
        assert [part.shape for part in norms[1]] == [(3, 3, 1), (1, 2, 1)]
        close(*(torch.cat([part.flatten() for part in each]) for each in norms))

    def test_where_the_unembedding_cannot_be_read(self, pair, monkeypatch):
        """On a sandboxed server the weights are on no device: the module is called instead."""
        here, _ = pair
        asking = here, [[question(e) for e in asked("letter", here)]], random_vectors(here), [(0, 2, 1.0)]
        wanted = tree(*asking, 10_000)
        monkeypatch.setattr(torch.nn.Parameter, "is_meta", True, raising=False)
        close(tree(*asking, 10_000), wanted)


class TestWhatTravels:
    def test_a_sweep_of_32_prompts_is_one_small_request_and_a_small_response(self, pair, server):
        """Prompts of the papers' mean length; a vector of the default model's depth and width takes 70 kB more."""
        _, there = pair
        tokens = torch.randint(3, 20, (32, 81), generator=torch.Generator().manual_seed(0)).tolist()
        asking = [question(Example("e", "letter", tuple(row), (7,), (4,), (5,), (6,))) for row in tokens]
        vectors = random_vectors(there, ["full"])
        cells = list(product([0], vectors.layers, (-1.5, -1.0, -0.5, 0.5, 1.0, 1.5)))
        tree(there, [asking[i : i + 4] for i in range(0, 32, 4)], vectors, cells, 1024)
        sent = server.seen()[-1]
        assert sent["request"] <= 15_000
        assert sent["result"] <= 4 * 2 * 32 * (1 + len(cells)) + 1_000

    @pytest.mark.parametrize("what", [("grid", "letter"), ("grid", "statement"), ("shift", "letter")])
    def test_the_planner_s_requests_and_bytes_are_what_travels(self, server, monkeypatch, tmp_path, what):
        (stage, form), smoke = what, load_profile("smoke")
        settings = replace(smoke, train=None, test=None, remote=server.url)
        job = jobs.Job(settings, stage, "narcissism", form, 1)
        work.compute(job)  # the engine checks itself on the longest example it has met
        monkeypatch.setenv("STEERKIT_ARTIFACTS", str(tmp_path / "others"))  # where nothing is kept
        before = len(server.seen())
        work.compute(job)
        seen, planned = server.seen()[before:], job_cost(job)
        assert len(seen) == planned.requests
        assert 0.5 < sum(each["request"] for each in seen) / planned.sent < 1.4
        assert 0.5 < sum(each["result"] for each in seen) / planned.received < 1.4

    def test_a_mean_vector_does_not_depend_on_the_number_of_examples(self, pair, server):
        here, there = pair
        sizes = []
        for count in (8, 24):
            mean_vector(there, asked("letter", here, count), [0, 1, 2, 3])
            sizes.append(server.seen()[-1]["result"])
        assert abs(sizes[1] - sizes[0]) < 100


class TestOneSwitch:
    def test_the_model_says_where_it_is_and_what_the_server_says_of_itself(self, pair, server):
        _, there = pair
        assert there.remote == server.url and there.dtype == torch.float32
        assert there.source["where"] == "remote" and there.source["server"] == f"127.0.0.1:{server.port}"
        assert there.source["server_versions"]["nnsight"] == artifacts.versions()["nnsight"]
        assert all(weight.is_meta for weight in there.lm._module.parameters())

    def test_given_comes_before_the_environment_and_that_before_the_profile(self, monkeypatch, tmp_path):
        smoke = (Path(__file__).parents[1] / "profiles/smoke.yaml").read_text()
        (tmp_path / "there.yaml").write_text(smoke + "remote: http://c\n")
        monkeypatch.setenv("STEERKIT_PROFILES", str(tmp_path))
        assert address.server(load_profile("there").remote) == "http://c"
        monkeypatch.setenv("STEERKIT_REMOTE", "http://b/")
        assert address.server(load_profile("there").remote) == address.server() == "http://b"
        assert address.server(load_profile("there", remote="http://a").remote) == "http://a"
        assert address.server(load_profile("there", remote="off").remote) is None

    @pytest.mark.parametrize("wrong", ["127.0.0.1:80", "ftp://host", "http://", "http://me:secret@host"])
    def test_what_is_no_address_is_refused_and_a_secret_in_it_not_repeated(self, wrong):
        caught = refused(load_model, "tiny", remote=wrong, said="Nothing was sent")
        assert "secret" not in str(caught)

    def test_precision_is_the_servers_and_a_model_for_servers_only_names_the_switch(self, server):
        refused(load_model, "tiny", remote=server.url, dtype="bfloat16", said="precision of the server")
        refused(load_model, "llama3.1-70b", said="--remote")

    def test_a_table_of_the_server_has_the_key_of_one_computed_here(self, pair, server, monkeypatch):
        """Place decides no number; precision does, and is in every key."""
        name = pair[0].name

        def inputs(remote: str | None, dtype: str) -> dict:
            monkeypatch.setattr(models, "_noted", lambda: {f"{name} {server.url}": dtype})
            settings = load_profile("smoke", model=name, remote=remote)
            return jobs.inputs(jobs.Job(settings, "sweep", "openness", "letter"))

        assert inputs(server.url, "float32") == inputs(None, "float32") != inputs(server.url, "bfloat16")

    def test_extract_and_sweep_as_commands_keep_no_key_anywhere(self, server, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr(CONFIG.API, "APIKEY", KEY)
        caplog.set_level(0)
        vectors, local, grid = (tmp_path / name for name in ("v.safetensors", "l.safetensors", "g.parquet"))
        common, there = ("--model", "tiny", "--data", "openness"), ("--remote", server.url)
        for command in (
            ("extract", *common, *there, "--layers", "2", "--out", vectors),
            ("extract", *common, "--layers", "2", "--out", local),
            ("sweep", *common, *there, "--vectors", vectors, "--multipliers=-1,0,1", "--out", grid),
        ):
            code, said = command_line(*command)
            assert code == 0 and KEY not in said + caplog.text, said
        close(load_vectors(vectors).values, load_vectors(local).values)
        about = artifacts.read_table(grid).attrs["manifest"]["inputs"]["source"]
        assert about["where"] == "remote" and about["server"] == f"127.0.0.1:{server.port}"
        assert server.seen()[-1]["key"] == KEY  # it was used ...
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(files) > 5
        assert [path for path in files if KEY.encode() in path.read_bytes()] == []  # ... and kept nowhere


def test_two_different_requests_have_different_keys():
    args = [[1, [2]], [[1], 2], [1, 2.0], [1, "2"], [torch.zeros(2)], [torch.zeros(2, 1)], [{"1": 2}]]
    keys = {remote_ledger.key_of({"model": "m"}, close, each) for each in args}
    assert len(keys) == len(args)
    assert remote_ledger.key_of({"model": "n"}, close, args[0]) not in keys
    row = torch.zeros(100, 50)[3]  # and a row of a large tensor does not bring the rest
    assert remote.plain([row])[0].untyped_storage().nbytes() == 50 * row.itemsize


def test_a_grid_with_resampled_vectors_comes_from_the_server(server):
    """The whole way of a table: vectors, self-check, grid, manifest."""
    profiles = [load_profile("smoke", remote=where) for where in (server.url, "off")]
    there, here = (jobs.Job(profile, "grid", "openness", "letter", 2) for profile in profiles)
    found = artifacts.table(there.name, jobs.inputs(there), lambda: work.compute(there))
    assert found.attrs["manifest"]["source"]["where"] == "remote"
    columns = ["matching", "not_matching", "propensity"]
    close(*(torch.tensor(table[columns].to_numpy()) for table in (found, work.compute(here))))
