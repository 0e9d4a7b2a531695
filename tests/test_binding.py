"""The swap test: what a model that binds letters gives, one that likes a letter, and one that draws lots."""

import numpy as np
import pandas as pd
import pytest
import torch

from companion.figures import binding as figures
from companion.models import model_of
from companion.profiles import load_profile, override
from companion.tan.binding import both_orders, lengthened, summary
from companion.tan.jobs import Job, examples
from steerkit import evaluate, extract

ITEMS = 200


def grid(option: float, letter: float, noise: float = 0.0, sets: int = 2) -> pd.DataFrame:
    """GRID rows of items that lean by `option` to either side, and by `letter` to A, steered and not."""
    rng, rows = np.random.default_rng(0), []
    for item in range(ITEMS):
        lean = option * rng.choice([-1, 1])
        for turn, end in ((1, ""), (-1, "~other")):
            for multiplier in (-1.0, 0.0, 1.0):
                found = lean + turn * (-1) ** (item // 2) * letter + noise * rng.normal() + 100 * multiplier
                rows.append((f"set-{item % sets}", f"s/{item:04d}{end}", "full", multiplier, found))
    columns = ["dataset", "example_id", "vector", "multiplier", "propensity"]
    return pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=0)


@pytest.mark.parametrize(("option", "letter", "share"), [(1.0, 0.4, 1.0), (0.4, 1.0, 0.0)])
def test_an_option_or_a_letter_that_is_kept_in_every_item(option, letter, share):
    found = summary(both_orders(grid(option, letter)))
    assert found["n"] == ITEMS and found["same_option"] == share
    assert found["low"] <= share <= found["high"] and found["high"] - found["low"] < 0.03
    assert found["chance"] == pytest.approx(0.5, abs=0.05)
    if share:
        assert (found["option"], found["letter"]) == pytest.approx((option, letter))


def test_a_model_that_draws_lots_keeps_its_option_as_often_as_chance_says():
    found = summary(both_orders(grid(0.0, 0.0, noise=1.0)))
    assert found["low"] < found["chance"] < found["high"]


def test_one_that_always_agrees_binds_no_more_than_chance():
    """The same answer whatever is asked: the orders agree, and so would any two items."""
    found = summary(both_orders(grid(0.0, 0.0).assign(propensity=1.0)))
    assert found["same_option"] == found["chance"] == 1.0


def test_items_asked_once_are_left_out():
    rows = grid(1.0, 0.0)
    single = rows[~rows["example_id"].str.endswith("~other")]
    assert both_orders(single).empty
    assert len(both_orders(pd.concat([single, rows[rows["example_id"] == "s/0000~other"]]))) == 1


def test_the_figure_has_every_item_in_the_panel_of_its_model_and_says_the_shares():
    runs = {"binds": both_orders(grid(1.0, 0.4)), "likes A": both_orders(grid(0.4, 1.0))}
    drawn = figures.orders(runs)
    for axes, both in zip(drawn.figure.axes, runs.values(), strict=True):
        assert np.array_equal(axes.collections[0].get_offsets(), both[["first", "other"]].to_numpy())
    assert "binds 100%" in drawn.alt and "likes A 0%" in drawn.alt and len(drawn.table) == 2 * ITEMS


@pytest.mark.usefixtures("own_folders")
def test_a_longer_vector_has_the_length_it_is_said_to_have_and_moves_what_plain_forwards_say():
    settings = override(load_profile("smoke"), layer=1)
    found = lengthened(settings, 1)
    assert list(found["vector"]) == ["full", "shuffled-00"] and found["norm"].nunique() == 1
    row, model = found.iloc[0], model_of(settings.model)
    job = Job(settings, "grid", settings.datasets[0], "letter", 1)
    train, test = examples(job, model)
    vectors = extract(model, train, [1])
    assert row["times"] * float(vectors.values.norm()) == pytest.approx(row["norm"], rel=1e-4)
    ends = evaluate(model, test, vectors, [-row["times"], row["times"]], engine="direct").propensity[:, 0, 0]
    moved = (ends[:, 1] - ends[:, 0]) / 2
    assert row["moved"] == pytest.approx(float(moved.mean()), abs=1e-4)
    of_a = torch.tensor([one.positive_letter == "A" for one in test])
    assert row["matching A"] == pytest.approx(float(moved[of_a].mean()), abs=1e-4)
