"""No input ends in a fault that steerkit does not know, and none in a number that a slow reference does not give.

Commands, options, files and profiles are drawn by hypothesis, most of them near to something that works. `make fuzz`
draws 10,000 anew; the tests draw the same 300 every time.
"""

import contextlib
import io
import json
import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import plain_model
import pytest
from conftest import command_line
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from companion import profiles, store
from companion.cli.own import _asked
from steerkit.vectors import load_vectors

COUNT = int(os.environ.get("STEERKIT_FUZZ", 300))
SAME = {"derandomize": "STEERKIT_FUZZ" not in os.environ, "database": None}
DRAWN = settings(max_examples=COUNT, deadline=None, suppress_health_check=list(HealthCheck), **SAME)
FAULT = "A fault that steerkit does not know"
ENDS = {0, 1, 2}
ODD = ["", " ", ".", "/", "x" * 300, "a\0b", "\ud800", "-1", "nan", "<s>", "🙂"]
TEXT = st.text(max_size=12) | st.sampled_from(ODD)
NUMBER = st.integers(-3, 6) | st.sampled_from([10**20, -(10**9)])


ANYTHING = TEXT | NUMBER.map(str)


def near(*good: object) -> st.SearchStrategy[str]:
    """One of these, mostly; else anything."""
    choices = [str(each) for each in good] * (20 // len(good))
    return st.sampled_from([*choices, None]).flatmap(lambda one: ANYTHING if one is None else st.just(one))


VALUE = st.none() | st.booleans() | st.floats() | st.integers() | TEXT | st.lists(TEXT, max_size=2)
SETTING = VALUE | st.lists(NUMBER | st.none(), max_size=3)
SETTING |= st.dictionaries(near("letter"), VALUE, max_size=2)
CHANGED = st.sampled_from([each.name for each in fields(profiles.Settings)])
SOUND = [
    {"question": 'Would you say this?\n"I love tea"', "statement": "I love tea", "pair": 0},
    {"question": "Which?\n\nChoices:\n (A) red\n (B) blue"},
    {"prompt": "Tea?", "positive": "I love tea.", "negative": "I hate tea."},
    {"prompt": "Walks?", "positive": "Long ones.", "negative": "None."},
]
ANSWERS = [(" Yes", " No"), (" No", " Yes"), (" (A)", " (B)"), (" (B)", " (A)"), ("x", "y")]


@st.composite
def rows(draw) -> list[dict]:
    """Rows of a data set, some with a field of another kind, some without one."""
    kind, found = draw(st.integers(0, 2)), []
    for number in range(draw(st.integers(0, 8))):
        row = dict(SOUND[kind if kind < 2 else 2 + number % 2])
        for name in (name for name, value in row.items() if isinstance(value, str) and kind != 1):
            row[name] += f" {number}"
        if kind < 2:
            some = ANSWERS if draw(st.booleans()) else ANSWERS[2 * kind : 2 * kind + 2]
            first = draw(st.sampled_from(some))
            row |= dict(zip(("answer_matching_behavior", "answer_not_matching_behavior"), first, strict=True))
            row |= {"pair": number // 2} if "pair" in row else {}
        if draw(st.integers(0, 9)) == 0:
            row[draw(st.sampled_from([*row, "statement", "pair"]))] = draw(VALUE)
        found.append(row)
    return found


@st.composite
def data(draw) -> bytes:
    """A data file in one of the field's forms, or bytes."""
    if draw(st.integers(0, 12)) == 0:
        return draw(st.binary(max_size=40))
    found = draw(rows())
    lines = [json.dumps(found)] if draw(st.integers(0, 3)) == 0 else map(json.dumps, found)
    return "\n".join(lines).encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-8"])), "replace")


FILES, METHODS = near("v.safetensors", "good.safetensors"), ("signed-pursuit", "encode", "encode-scaled")
# What an option takes, and the options of a command.
TAKEN = {"model": near("tiny", "tiny", "tiny-gemma3"), "layers": near("all", "2", "0,3"), "sae": near("tiny")}
TAKEN |= {"data": near("mine.jsonl", "mine.jsonl", "mine.json", "mine.csv", "openness"), "vectors": FILES}
TAKEN |= {"format": near("statement", "letter", "yes-no", "options"), "vector": FILES, "prompt": TEXT}
TAKEN |= {"out": near("v.safetensors"), "split": near("clean", "all"), "seed": near(0, 1)}
TAKEN |= {"most": near(6, 8, 80), "item": NUMBER.map(str), "layer": near(0, 2), "max-new-tokens": near(1, 2)}
TAKEN |= {"multipliers": near("-1,1", "-1.5,0,1.5", "0,1"), "method": near(*METHODS), "features": near(4)}
TAKEN |= {"norm": near(3.5), "profile": near("smoke", "mine"), "stage": TEXT}
OPTIONS = {
    "extract": "model data out layers format split seed",
    "sweep": "model data vectors layers out multipliers format",
    "screen": "model data layers format most seed",
    "ledger": "model data item format",
    "generate": "model vectors layer prompt max-new-tokens multipliers",
    "decompose": "vector sae layer method features norm",
    **{"plan": "profile", "record": "stage", "verify": "profile", "reproduce": "profile", "artifacts": ""},
}
OPTIONS = {name: {f"--{each}": TAKEN[each] for each in listed.split()} for name, listed in OPTIONS.items()}
OPTIONS["sweep"]["--out"] = near("g.parquet")
OPTIONS["run"] = {"--profile": TEXT, "-p": near("layer=99", "nothing=1")}
WORDS = {"run": near("tan-fig-1"), "record": TEXT, "artifacts": st.sampled_from(["pack", "unpack", "none"])}
WORDS["reproduce"] = TEXT.map("--only=none{}".format)  # of the arguments only: it takes minutes


@st.composite
def commands(draw) -> list[str]:
    """A command with some of its options."""
    name = draw(st.sampled_from([*["extract", "sweep"] * 3, *OPTIONS]))
    words = [name, *([draw(WORDS[name])] if name in WORDS else [])]
    for option, value in OPTIONS[name].items():
        if draw(st.integers(0, 14)):
            words.append(f"{option}={draw(value)}" if option != "-p" else f"-p{draw(value)}")
    if name == "artifacts":
        words.append(draw(near("p.tar", "mine.jsonl")))
    forced = name in ("extract", "sweep", "decompose") and draw(st.booleans())
    return [*words, *["--force"] * forced]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of a user with a vector that is right, and a profile that is drawn."""
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch, pytest.MonkeyPatch.context() as where:
        where.chdir(folder)
        patch.setenv("STEERKIT_CACHE", str(folder / "cache"))
        patch.setenv("STEERKIT_ARTIFACTS", str(folder / "artifacts"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        (folder / "profiles").mkdir()
        for path in profiles.folder().glob("smoke*.yaml"):
            (folder / "profiles" / path.name).write_bytes(path.read_bytes())
        patch.setenv("STEERKIT_PROFILES", str(folder / "profiles"))
        words = "extract --model tiny --data openness --out good.safetensors --layers 2".split()
        assert command_line(*words)[0] == 0
        yield folder


def check_numbers(words: list[str], folder: Path) -> None:
    """A grid that was written holds what plain transformers with hooks give, at three of its cells."""
    said = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
    table = store.read_table(folder / said["--out"])
    cells = table.dropna(subset=["matching"]).iloc[[0, len(table) // 2, -1]]
    vectors, form = load_vectors(folder / said["--vectors"]), said.get("--format", "statement")
    model, examples, *_ = _asked(said["--model"], said["--data"], form, "clean", "bundled", 0, "test")
    by_id = {one.id: one for one in examples}
    for cell in cells.itertuples():
        delta = cell.multiplier * vectors.at(cell.layer)[vectors.names.index(cell.vector)].double()
        for side, name in enumerate(("matching", "not_matching")):
            slow = plain_model.score(model, by_id[cell.example_id], side, cell.layer, delta, "letter")
            assert np.isclose(getattr(cell, name), slow, rtol=1e-3, atol=1e-3), (words, cell)


@DRAWN
@given(commands(), data(), st.dictionaries(CHANGED | TEXT, SETTING, max_size=2))
def test_every_command_ends_in_a_result_or_a_sentence(place, words, content, changed):
    for name in ("mine.jsonl", "mine.json", "mine.csv"):
        (place / name).write_bytes(content)
    profile = (place / "profiles" / "smoke.yaml").read_text()
    extra = "".join(f"{name}: {json.dumps(value)}\n" for name, value in changed.items())
    (place / "profiles" / "mine.yaml").write_text(profile + extra, encoding="utf-8", errors="replace")
    complaint = io.StringIO()
    with contextlib.redirect_stderr(complaint):
        code, _ = command_line(*words)
    said = complaint.getvalue()
    event(f"{words[0]} ends in {code}")
    assert code in ENDS and FAULT not in said and "Traceback" not in said, (words, content, changed, said)
    if words[0] == "sweep" and code == 0:
        check_numbers(words, place)
