"""What a test item gains by having been trained on: the halves, and their difference, each by hand."""

import random
from itertools import product

import numpy as np
import pandas as pd
import pytest

from companion.cli.progress import record_all
from companion.data.datasets import Dataset, Item
from companion.profiles import load_profile
from companion.tan import experiment, leak, records
from steerkit import slopes


def dataset(questions: list[str]) -> Dataset:
    """Choice items of which every third shows the behaviour in B."""
    items = []
    for i, question in enumerate(questions):
        answers = (" (B)", " (A)") if i % 3 == 0 else (" (A)", " (B)")
        items.append(Item(f"d/{i:04d}", question, *answers, stem=question, options=(("A", "x"), ("B", "y"))))
    return Dataset("d", tuple(items), "made here", "", "none")


QUESTIONS = [f"question {i % 150}" for i in range(200)]  # fifty are asked twice


class TestHalves:
    def test_seen_items_are_training_items_and_fresh_ones_ask_no_question_of_any(self):
        found = leak.halves(dataset(QUESTIONS))
        order = list(range(200))
        random.Random(0).shuffle(order)
        asked = {QUESTIONS[i] for i in order[:100]}
        wanted = {"seen": order[50:100], "fresh": [i for i in order[100:] if QUESTIONS[i] not in asked]}
        assert any(QUESTIONS[i] in asked for i in order[100:])
        for half, part in found.items():
            of_b = [i for i in wanted[half] if i % 3 == 0][: leak.LETTERS]
            of_a = [i for i in wanted[half] if i % 3][: leak.LETTERS]
            assert part == of_a + of_b and len(of_b) > 5

    def test_a_question_in_another_spelling_is_the_same(self):
        spelled = [f"  {q.upper()} " if i >= 150 else q for i, q in enumerate(QUESTIONS)]
        assert leak.halves(dataset(spelled)) == leak.halves(dataset(QUESTIONS))


@pytest.fixture(scope="module")
def recorded() -> pd.DataFrame:
    return records.read(load_profile("laptop-papers-qwen", recorded=True), "leak", "letter")


def effect(grid: pd.DataFrame) -> pd.DataFrame:
    return leak.effect(experiment.with_groups(slopes(grid), grid, None), leak.half_of(grid))


class TestEffect:
    def test_every_number_is_that_of_lines_fitted_item_by_item(self, recorded):
        table = effect(recorded).set_index("dataset")
        halves = {made["inputs"]["dataset"]: made["inputs"]["halves"] for made in recorded.attrs["manifests"]}
        assert list(table.index) == list(halves)
        for name, part in recorded.groupby("dataset"):
            cells, means = part.groupby(["example_id", "vector"]), {}
            line = {key: np.polyfit(own["multiplier"], own["propensity"], 1)[0] for key, own in cells}
            for (half, ids), vector in product(halves[name].items(), ("seen", "fresh")):
                means[half, vector] = np.mean([line[each, vector] for each in ids])
            row = table.loc[name]
            assert 2 * row["n"] == len(line)
            assert row["released"] == pytest.approx(means["seen", "seen"] - means["fresh", "seen"])
            assert row["null"] == pytest.approx(means["seen", "fresh"] - means["fresh", "fresh"])
            own = means["seen", "seen"] + means["fresh", "fresh"]
            other = means["seen", "fresh"] + means["fresh", "seen"]
            assert row["gain"] == pytest.approx((own - other) / 2)
            assert row["low"] < row["gain"] < row["high"]
            assert row["gain_500"] * 500 == pytest.approx(row["gain"] * len(halves[name]["seen"]))

    def test_a_longer_vector_and_easier_items_are_no_gain(self, recorded):
        """What is added to all slopes of a vector, or to both slopes of an item, cancels, in the interval too."""
        more = recorded["multiplier"] * ((recorded["vector"] == "seen") + recorded["group"] % 7)
        turned = recorded.assign(propensity=recorded["propensity"] + more)
        columns = ["gain", "low", "high", "gain_500"]
        pd.testing.assert_frame_equal(effect(turned)[columns], effect(recorded)[columns], rtol=1e-6)
        assert slopes(turned)["steerability"].mean() > slopes(recorded)["steerability"].mean() + 1


def test_a_record_is_made_and_audited_like_any_other(own_folders, monkeypatch):
    monkeypatch.setattr(records, "FOLDER", own_folders / "records")
    monkeypatch.setattr(leak, "DATASETS", ("myopic-reward",))
    settings = load_profile("smoke", datasets="myopic-reward", layer={"letter": 1})
    [path] = record_all(settings, "leak", ["letter"])
    assert path.name == "leak-letter.parquet"
    found = records.audit(settings, "leak", "letter", np.random.default_rng(0))
    assert (found["record"], found["cells"], found["agrees"]) == ("smoke/leak-letter", 12, True)
