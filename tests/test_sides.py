"""What becomes of either text: by set, counted, and beside a common part whose sign is drawn by chance."""

import numpy as np
import pytest
from text_worlds import SETS, made

from companion.tan import controls, sides


@pytest.fixture
def table():
    """Three sets whose matching text gains, loses, or does neither, while the other one always loses more."""
    rows, sign = made(sets=SETS[:3]), dict(zip(SETS[:3], (1, -1, 0), strict=True))
    spread = np.random.default_rng(0).normal(0, 0.05, len(rows))
    matching = rows["dataset"].map(sign).astype(float) + spread
    matching = matching.where(rows["vector"] == "full", spread)
    return rows.assign(matching_slope=matching, steerability=matching + 2, not_matching_slope=-2.0)


def test_a_set_may_be_steerable_while_its_matching_text_loses(table):
    found = sides.by_set(table)
    said = found.query("run == 'm'").set_index("dataset")["text"]
    assert said[list(SETS[:2])].tolist() == [sides.MORE, sides.LESS] and found["steerable"].all()
    by_hand = table[table["vector"] == "full"].groupby(["run", "dataset"])["matching_slope"].mean()
    shown = found.set_index(["run", "dataset"])["matching"]
    assert np.allclose(shown, by_hand.reindex(shown.index))
    counts = sides.accounts(found).set_index("run").loc["m"]
    assert counts[sides.MORE] >= 1 <= counts[sides.LESS]
    every = counts[[sides.MORE, sides.LESS, sides.OPEN]].sum()
    assert every == counts["steerable"] == counts["sets"] == 3


def test_what_chance_raises_is_what_both_signs_of_the_common_part_do(table):
    found = sides.by_set(table)
    common, half = (found["matching"] + found["other"]) / 2, found["mean"] / 2
    signs = np.stack([half + common > 0, half - common > 0]).mean(axis=0)
    counts = sides.accounts(found)
    for run, part in found.groupby("run"):
        row = counts[counts["run"] == run].iloc[0]
        assert row["raised"] == (part["matching"] > 0).mean()
        assert row["raised_chance"] == signs[part.index].mean()
    mirrored = {"matching": -found["other"], "other": -found["matching"]}
    again = sides.accounts(found.assign(**mirrored))  # the other sign of all common parts
    assert np.allclose(again["raised"] + counts["raised"], 2 * counts["raised_chance"])


def test_whole_texts_weigh_each_side_with_its_words(table):
    of_texts = sides.by_set(controls.summed(table.assign(words=3, other_words=2)))
    assert np.allclose(of_texts["matching"], 3 * sides.by_set(table)["matching"])
    assert np.allclose(of_texts["mean"], of_texts["matching"] - of_texts["other"])
