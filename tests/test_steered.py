"""Steered text: the sets a rule chooses, and how surprising the unsteered model finds a text."""

import math

import pandas as pd
import pytest
import torch
from conftest import asked, refused

from companion.profiles import load_profile
from companion.tan import steered


def test_the_rule_takes_the_most_the_middle_and_the_least_steerable_set():
    means = pd.Series({"b": 0.2, "e": 0.5, "a": -0.1, "d": 0.4, "c": 0.3})
    assert steered.by_rule(means) == {"a": "least", "c": "middle", "e": "most"}
    assert steered.by_rule(means[["b"]]) == {"b": "most"}
    assert steered.by_rule(means[["b", "a"]]) == {"a": "least", "b": "most"}


def test_surprise_is_the_mean_loss_of_a_plain_model(model):
    [example] = asked("statement", model, 1)
    text = "I love the sea and the people."
    new = model.tokenizer(text, add_special_tokens=False).input_ids
    ids = torch.tensor([[*example.prompt, *new]])
    labels = ids.clone()
    labels[:, : len(example.prompt)] = -100
    with torch.no_grad():
        loss = model.lm._module(input_ids=ids, labels=labels).loss
    assert steered.surprise(model, example, text, 1) == pytest.approx(float(loss), abs=1e-5)
    assert math.isnan(steered.surprise(model, example, "", 1))


@pytest.mark.usefixtures("own_folders")
def test_unsteered_text_is_what_the_model_would_say_and_every_strength_has_a_row():
    settings = load_profile("smoke")
    found = steered.written(settings, "statement", (-2.0, 0.0, 2.0), 6)
    assert found.groupby("dataset")["multiplier"].apply(list).tolist() == [[-2.0, 0.0, 2.0]] * 3
    assert set(found["steerable"]) == {"most", "middle", "least"}
    assert found["surprise"].dropna().ge(0).all() and found["distinct"].dropna().le(1).all()
    assert (found.groupby("dataset")["prompt"].nunique() == 1).all()
    assert found["dose"].ge(0).all() and (found["dose"] == 0).equals(found["multiplier"] == 0)
    refused(steered.written, settings, "statement", (1.0, 2.0), 6, said="0 among the strengths")


def test_a_text_is_broken_where_it_surprises_a_nat_more_than_the_unsteered_one():
    rows = {"multiplier": [-2.0, 0, 1, 2, 4], "dose": [0.4, 0, 0.1, 0.5, 2]}
    found = pd.DataFrame(rows).assign(dataset="a", steerable="most")
    cases = {"last": ([0.5, 1, 1.5, 1.9, 2.1], (0.5, 2, 2, 4))}
    cases["negative"] = ([2.2, 1, 0, 1.5, 3], (0.1, 1, 0.4, -2))
    for surprise, expected in cases.values():
        surprising = found.assign(surprise=surprise)
        row = steered.breaks(surprising.assign(broken=surprising["surprise"] > 1 + steered.BROKEN)).iloc[0]
        assert tuple(row[["whole", "whole_at", "broken", "broken_at"]]) == expected
    [row] = steered.breaks(found.assign(broken=False)).itertuples()
    assert (row.whole, row.whole_at) == (2, 4) and math.isnan(row.broken) and math.isnan(row.broken_at)
