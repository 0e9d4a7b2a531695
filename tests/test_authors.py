"""Several authors of one concept: what is drawn from whom, the linear slopes, and worlds in which the answer is known."""

import csv
import hashlib
import json
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import refused

from companion import registered
from companion.data import datasets
from companion.data.ask import short, texts_of, yes_no
from companion.data.datasets import load_dataset, names
from companion.tan import authors, pairs, transfer
from steerkit.vectors import Vectors

WIDTH, PAIRS = 40, 12
BY = ("model", "bundled", "scenes")


def world(rng: np.random.Generator, concept: float, text: float, count: int = 37) -> pd.DataFrame:
    """AUTHORS tables of concepts whose differences share a direction with the concept, or with its author alone.

    Gradient and difference of a pair are direction plus noise; how steerable a concept is lies in the direction's length.
    """
    differences, gradients = {}, {}
    for c in range(count):
        shared = rng.normal(size=WIDTH) * rng.uniform(0.2, 2)
        for by in BY:
            direction = concept * shared + text * rng.normal(size=WIDTH) * rng.uniform(0.2, 2)
            for what in (differences, gradients):
                rows = direction + 0.5 * rng.normal(size=(PAIRS, WIDTH))
                what[f"c{c}", by] = torch.from_numpy(rows).float()
    ids = [f"{i:02d}" for i in range(PAIRS)]
    vectors = {key: Vectors(tuple(ids), (0,), rows[:, None]) for key, rows in differences.items()}
    parts = []
    for c in range(count):
        moved = {by: gradients[f"c{c}", by] for by in BY}
        parts.append(authors.slopes(f"c{c}", dict.fromkeys(BY, ids), moved, vectors))
    return pd.concat(parts, ignore_index=True)


@cache
def judged(concept: float, text: float, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Shares and medians of one such world."""
    table = world(np.random.default_rng(seed), concept, text)
    kinds = dict.fromkeys(table["dataset"].unique(), "persona")
    moved = transfer.transfers(table, kinds)
    return transfer.shares(table, kinds, 100), transfer.medians(moved, 200), moved


class TestWorlds:
    """The registered verdict, in worlds where the concept decides and where the text does."""

    def test_a_world_of_concepts(self):
        shared, moved, _ = judged(1, 0)
        assert (shared["concept"] > 0.9).all() and (shared["difference_low"] > 0).all()
        assert moved[["median", "whole"]].stack().between(0.9, 1.1).all()
        assert (moved["shuffled_most"] < 0.3).all()
        assert transfer.verdict({"a": shared, "b": shared}, {"a": moved, "b": moved}) == "concept"

    def test_a_world_of_texts(self):
        shared, moved, single = judged(0, 1)
        assert (shared["concept"].abs() < 0.4).all() and (shared["difference_high"] < 0).all()
        assert moved["median"].abs().max() < 0.1
        assert transfer.verdict({"a": shared}, {"a": moved}) == "text"
        assert single["ratio"].abs().median() < 0.3  # directions of different authors are independent

    def test_models_that_differ_decide_nothing(self):
        (one, moved, _), (other, stayed, _) = judged(1, 0), judged(0, 1)
        assert transfer.verdict({"a": one, "b": other}, {"a": moved, "b": stayed}) == "undecided"

    def test_exchanged_concepts_share_nothing(self):
        shared, _, _ = judged(1, 0)
        assert (shared["exchanged_most"] < shared["concept_low"]).all()

    def test_orders_follow_the_concept_in_both_models(self):
        tables = {name: world(np.random.default_rng(seed), 1, 0) for seed, name in enumerate("ab")}
        found = transfer.orders(tables, dict.fromkeys(tables["a"]["dataset"].unique(), "persona"))
        same = found["first_model"] == found["second_model"]
        assert (found[same]["estimate"] > 0.8).all()  # one draw of the concepts' strengths each
        assert len(found) == 15 and (found["ceiling"] > 0.8).all()


class TestConcept:
    """The numbers of one concept against the plain formulas."""

    @pytest.fixture(scope="class")
    @classmethod
    def table(cls) -> pd.DataFrame:
        return world(np.random.default_rng(3), 1, 1, count=4)

    def test_own_slopes_leave_the_pair_itself_out(self, table):
        concept, own = transfer.concepts(table)[0], table[(table["dataset"] == "c0") & (table["of"] == "c0")]
        part = own[(own["author"] == "scenes") & (own["by"] == "scenes") & (own["example_id"] == "03")]
        expected = part[~part["by_id"].isin(["", "03"])]["slope"].mean()
        assert concept.own("scenes")[3] == pytest.approx(expected)
        assert concept.means["scenes"] == pytest.approx(concept.own("scenes").mean())

    def test_transfer_is_at_the_norm_of_the_own_vector(self, table):
        concept = transfer.concepts(table)[0]
        mean = table[(table["dataset"] == "c0") & (table["of"] == "c0") & (table["by_id"] == "")]
        part = mean[(mean["author"] == "scenes") & (mean["by"] == "model")]
        norms = mean.groupby("by")["norm"].first()
        expected = part["slope"].mean() / norms["model"] * norms["scenes"]
        assert concept.moved("scenes", "model") == pytest.approx(expected)

    def test_halves_share_no_pair(self, table):
        found = transfer.concepts(table)[0].halves("model", np.random.default_rng(0))
        assert found.shape == (transfer.HALVINGS, 2) and np.ptp(found) > 0
        refused(pairs.by_others, np.ones((1, 1)), said="two pairs or more")


class TestTexts:
    """The scenes, and what is drawn from every author."""

    def test_every_concept_of_the_papers_has_scenes(self):
        other = {"sycophancy_test", "sycophancy_train", "truthfulqa"}
        assert set(authors.concepts()) == set(names("bundled")) - other

    @pytest.mark.parametrize("name", names("scenes"))
    def test_scenes_are_pairs_that_no_short_word_tells_apart(self, name):
        dataset = load_dataset(name, "scenes")
        texts = [texts_of(item, item) for item in dataset.items]
        assert len(texts) == authors.PAIRS and len({*chain(*texts)}) == 2 * len(texts)
        assert not any(short(pair) or yes_no(pair) for pair in texts)
        longer = np.mean([len(one.split()) > len(other.split()) for one, other in texts])
        assert 0.2 <= longer <= 0.8

    def test_every_pair_was_read_blind_as_it_is_now(self):
        """The reader saw the two texts in random order, and said which of them shows the concept."""
        with Path(__file__).with_name("scenes_log.csv").open(newline="", encoding="utf-8") as file:
            read = {(row["dataset"], int(row["pair"])): row for row in csv.DictReader(file)}
        assert {row["reading"] for row in read.values()} == {"agrees"}
        found = {}
        for name in names("scenes"):
            path = Path(datasets.__file__).with_name("scenes") / f"{name}.jsonl"
            for i, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
                texts = "\n".join(json.loads(line).values())
                found[name, i] = hashlib.sha256(texts.encode()).hexdigest()[:10]
        assert found == {key: row["texts"] for key, row in read.items()}

    def test_drawn_pairs_are_the_same_every_time_and_for_every_author_as_many(self, monkeypatch):
        monkeypatch.setitem(authors.AUTHORS, "model", ("bundled", "{}"))
        monkeypatch.delitem(authors.AUTHORS, "human")
        for kept in (authors.sets_of, authors.pairs_of):
            kept.cache_clear()
        first, again = authors.pairs_of("openness"), authors.pairs_of.__wrapped__("openness")
        assert first == again and set(first) == {"model", "bundled", "scenes"}
        assert {len(pairs) for pairs in first.values()} == {authors.PAIRS}
        assert first["model"] != first["bundled"]  # every author has a seed of its own
        for kept in (authors.sets_of, authors.pairs_of):
            kept.cache_clear()

    def test_an_unknown_concept_is_named(self):
        refused(authors.among, ["cheerfulness"], said="a concept with several authors")

    def test_concepts_of_a_kind_are_those_of_the_run(self):
        found = authors.of_kind("openness", ["narcissism", "openness", "myopic-reward"])
        assert found == ("narcissism", "openness")


def test_the_registration_says_what_would_refute_it():
    about = registered.read("text-or-concept")
    wanted = ("question", "models", "left out", "statistics", "verdict", "null hypothesis", "refuted if")
    assert set(wanted) <= set(about) and set(about["statistics"]) == {"shares", "transfer", "beside it"}
