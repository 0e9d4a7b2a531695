"""The same numbers on NDIF as here: every operation of the package, twice, and what travels for it."""

import subprocess
from dataclasses import replace

import nnsight
import psutil
import pytest
import served
import torch
from served import ORDINARY, SIZES, TIMES, compare, key, saved_tiny, timed

from companion import models
from companion.data.ask import statement_pairs
from companion.data.datasets import load_dataset
from companion.data.forms import first_label
from companion.mayne import activations as mayne_runs
from companion.models import load_model
from companion.profiles import load_profile
from companion.saes import default_sae, open_sae
from companion.tan import jobs, work
from steerkit import evaluate, generate
from steerkit.extraction import differences, extract, mean_difference
from steerkit.prompts import Example, Prompter

pytestmark = served.NEEDS_SERVER
LAYER = 15


def examples(model, form: str, count: int, start: int = 0, name: str = "narcissism") -> list[Example]:
    asker, items = Prompter(model.tokenizer, model.template), load_dataset(name).items
    if form == "letter":
        return [asker.letter(item, first_label(item, ("A", "B"))) for item in items[start : start + count]]
    return [asker.statement(*pair) for pair in statement_pairs(items)[start : start + count]]


class TestServer:
    def test_it_listens_on_loopback_only(self, stack):
        found = [each for process in stack.processes() for each in process.net_connections("inet")]
        addresses = {each.laddr.ip for each in found if each.status == psutil.CONN_LISTEN}
        assert addresses and addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}

    def test_it_cannot_import_steerkit(self, stack):
        command, given = [stack.bin / "python", "-c", "import steerkit"], {"env": stack.environment}
        done = subprocess.run(command, **given, cwd=stack.state, capture_output=True, text=True, check=False)
        assert "ModuleNotFoundError" in done.stderr

    def test_it_says_what_it_runs(self, there):
        about = there.source["server_versions"]
        assert (there.source["where"], about["dtype"]) == ("remote", "float32")
        assert about["torch"].split("+")[0] == torch.__version__.split("+")[0]
        assert about["threads"] == str(torch.get_num_threads())


class TestParity:
    @pytest.mark.parametrize("form", ["statement", "letter"])
    def test_extraction(self, here, there, form):
        train, layers = examples(here, form, 6), [0, LAYER, 29]
        compare(f"extraction, {form}", differences(here, train, layers), differences(there, train, layers))

    def test_extraction_summed_on_the_server(self, here, there):
        train = examples(here, "statement", 6)
        local, remote = (extract(model, train, [3, LAYER]).values for model in (here, there))
        compare("mean vector, added up on the server", local, remote)

    @pytest.mark.parametrize("form", ["statement", "letter"])
    def test_tree_sweep_over_prompts_of_unequal_length(self, here, there, form):
        layers = [0, 5, LAYER, 25]
        vector = mean_difference(differences(here, examples(here, form, 4), layers), layers)
        test = examples(here, form, 5, start=20)
        lengths = {len(example.prompt + example.lead + example.matching) for example in test}
        assert len(lengths) > 1  # some are padded on the left
        local, remote = (evaluate(model, test, vector, [-1.5, 0.0, 1.5]) for model in (here, there))
        assert remote.engine == "tree"
        compare(f"tree sweep, {form}", local.scores, remote.scores)

    def test_direct_engine(self, here, there):
        vector = mean_difference(differences(here, examples(here, "letter", 4), [LAYER]), [LAYER])
        test = examples(here, "letter", 2, start=20)
        local, remote = (evaluate(m, test, vector, [-1.0, 1.0], engine="direct") for m in (here, there))
        compare("direct engine, letter", local.scores, remote.scores)

    def test_a_window_that_prompts_outgrow(self, stack, tmp_path_factory):
        """The mask of a sliding window is made on the server, and the self-check runs there too."""
        folder = str(saved_tiny(tmp_path_factory.mktemp("window") / "tiny-gemma3", "gemma3"))
        both = [load_model(folder, remote=place, template="plain") for place in ("off", stack.url)]
        window = both[0].lm._module.config.get_text_config().sliding_window
        prompts = [tuple(3 + (i * n) % 7 for i in range(2 * window + n)) for n in range(1, 4)]
        test = [Example(f"e{n}", "statement", each, (), (4, 5), (6,), ()) for n, each in enumerate(prompts)]
        layers = list(range(len(both[0].layers)))
        found = [differences(model, test, layers) for model in both]
        compare("extraction beyond a sliding window", *found)
        vector = mean_difference(found[0], layers)
        grids = [evaluate(model, test, vector, [-1.0, 0.0, 1.0]) for model in both]
        assert [grid.engine for grid in grids] == ["tree", "tree"]
        compare("tree sweep beyond a sliding window", *(grid.scores for grid in grids))

    def test_reading_a_sparse_autoencoder(self, here, there):
        sae = open_sae(default_sae(here.name))
        sequences = [[list(example.prompt + example.matching)] for example in examples(here, "statement", 3)]
        starts = [len(sequence) - 4 for [sequence] in sequences]
        both = (mayne_runs.residuals(model, sequences, sae.layer, starts) for model in (here, there))
        local, remote = (torch.cat([part[0] for part in found]) for found in both)
        compare("activations for the autoencoder", local, remote)
        compare("features of the autoencoder", sae.encode(local), sae.encode(remote))

    def test_steered_generation(self, here, there, fresh):
        vector = extract(here, examples(here, "statement", 4), [LAYER])
        given = {"layer": LAYER, "multipliers": [-1.0, 0.0, 1.0], "max_new_tokens": 8}
        said = "What is the best thing about you?"
        texts = [[text for _, text in generate(model, said, vector, **given)] for model in (here, there)]
        local, remote = (torch.tensor(here.tokenizer("".join(each)).input_ids) for each in texts)
        compare("steered generation, token ids", local, remote, tolerance=0)

    def test_a_session_that_carries_a_value_from_trace_to_trace(self, stack, here, there, monkeypatch):
        monkeypatch.setattr(nnsight.CONFIG.API, "HOST", stack.url)
        monkeypatch.setattr(nnsight.CONFIG.APP, "REMOTE_LOGGING", False)

        def patched(lm, where: bool) -> torch.Tensor:
            with lm.session(remote=where):
                with lm.trace("I like walking in the rain"):
                    kept = lm.model.layers[LAYER].output[:, -1].clone()
                with lm.trace("I hate walking in the rain"):
                    lm.model.layers[LAYER].output[:, -1] = kept
                    logits = lm.lm_head.output[:, -1].save()
            return logits

        compare("session, activation patched", patched(here.lm, False), patched(there.lm, True))


class TestSandbox:
    """What an ordinary key gets on the public service: blocks run in a process that holds no weights."""

    @pytest.mark.parametrize("form", ["statement", "letter"])
    def test_extraction_and_sweep(self, here, there, fresh, form):
        train, test, layers = examples(here, form, 3), examples(here, form, 3, start=20), [4, LAYER]
        local = differences(here, train, layers)
        with key(ORDINARY):
            remote = differences(there, train, layers)
            compare(f"extraction, {form}, sandboxed", local, remote)
            vector = mean_difference(remote, layers)
            found = evaluate(there, test, vector, [-1.0, 0.0, 1.0]).scores
        wanted = evaluate(here, test, vector, [-1.0, 0.0, 1.0]).scores
        compare(f"tree sweep, {form}, sandboxed", wanted, found)


class TestCost:
    def test_what_travels_for_a_sweep_of_32_prompts(self, here, there, fresh, sent):
        layers = [5, 10, LAYER, 20]
        vector = mean_difference(differences(here, examples(here, "letter", 4), layers), layers)
        test = examples(here, "letter", 32, start=8)
        evaluate(there, test[:1], vector, [1.0])  # the self-check is a job of its own
        sent.clear()
        cells = evaluate(there, test, vector, [-1.5, 0.0, 1.5]).scores.numel()
        jobs = [each for each in sent if hasattr(each, "sent")]
        size = {"request": sum(each.sent for each in jobs), "response": sum(each.received for each in jobs)}
        limits = {"request_limit": 100_000, "response_limit": 4 * cells + 20_000}
        job = f"sweep of 32 prompts, {cells} scores, {len(jobs)} job{'s' * (len(jobs) > 1)}"
        SIZES.append({"job": job} | size | limits)
        assert all(size[way] <= limits[f"{way}_limit"] for way in size)

    def test_overhead_on_the_grid_of_selected_sets(self, stack, there, here, tmp_path_factory, monkeypatch):
        few = replace(load_profile("laptop"), train=4, test=4)
        asked = [jobs.Job(few, "grid", name, "statement", LAYER) for name in few.datasets]
        assert len(asked) == 13

        def grids(where: str) -> tuple[float, torch.Tensor]:
            monkeypatch.setenv("STEERKIT_ARTIFACTS", str(tmp_path_factory.mktemp(where[:4])))
            monkeypatch.setenv("STEERKIT_REMOTE", where)
            models.model_of(few.model)  # loading and deploying are not what is compared
            seconds, tables = timed(lambda: [work.compute(job) for job in asked])
            numbers = [torch.tensor(table[["matching", "not_matching"]].to_numpy()) for table in tables]
            return seconds, torch.cat(numbers)

        (local_seconds, local), (remote_seconds, remote) = grids("off"), grids(stack.url)
        compare("grid of 13 data sets, statement", local, remote)
        each = f"{few.train} training pairs, {few.test} test pairs, {len(few.multipliers)} multipliers"
        said = f"grid of 13 data sets in distribution, {each}"
        TIMES.append({"work": said, "local": local_seconds, "ndif": remote_seconds, "aim": 1.5})
