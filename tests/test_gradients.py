"""Gradients of the propensity against plain differences, and the placebos made of them."""

import numpy as np
import pytest
import torch
from conftest import asked, random_vectors, refused
from torch.testing import assert_close

from companion.tan.placebo import OTHERS, RANDOM, RESAMPLED, SHUFFLED, other_directions, vectors_beside
from steerkit import evaluate, gradients, traces
from steerkit.extraction import mean_difference
from steerkit.formats import question
from steerkit.remote import run

FORMATS = ("letter", "statement")


@pytest.mark.parametrize("form", FORMATS)
def test_the_slope_at_zero_is_that_of_the_grid_over_small_multipliers(any_model, form):
    examples, vectors, step = asked(form, any_model), random_vectors(any_model, ["full"]), 0.01
    propensity = evaluate(any_model, examples, vectors, [-step, step], layers=[1]).propensity[:, 0, 0]
    expected = (propensity[:, 1] - propensity[:, 0]) / (2 * step)
    found = gradients(any_model, examples, [1]).at(1) @ vectors.at(1)[0]
    assert_close(found.double(), expected, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("form", FORMATS)
def test_branches_of_one_sequence_give_what_plain_sequences_give_and_parts_what_the_whole_gives(model, form):
    examples, shares = asked(form, model, 5), []
    whole = gradients(model, examples, [2, 0, 3], progress=shares.append)
    apart, scores = run(model, traces.gradients_apart, [*map(question, examples)], [2, 0, 3], 0)
    assert_close(whole.values, apart, rtol=1e-4, atol=1e-6)
    assert_close(whole.scores, scores, rtol=1e-4, atol=1e-5)
    parts = gradients(model, examples, [2, 0, 3], batch_tokens=1)
    assert_close(parts.values, whole.values, rtol=1e-4, atol=1e-6)
    assert len(shares) >= 1 and whole.values.abs().amax((0, 2)).min() > 0


@pytest.mark.parametrize("form", FORMATS)
def test_one_backward_gives_every_layer_and_the_unsteered_scores(model, form):
    examples, vectors = asked(form, model), random_vectors(model, ["full"])
    together = gradients(model, examples, [0, 1, 2, 3])
    for layer in range(4):
        alone = gradients(model, examples, [layer]).at(layer)
        assert_close(together.at(layer), alone, rtol=1e-4, atol=1e-6)
    plain = evaluate(model, examples, vectors, [0.0]).scores[:, :, 0, 0, 0]
    assert_close(together.scores, plain, rtol=1e-4, atol=1e-4)


def test_a_layer_that_is_not_there_is_refused(model):
    refused(gradients, model, asked("letter", model, 1), [9], said="a layer from 0 to 3")


def test_directions_are_those_of_scikit_learn_and_all_placebos_have_the_norm_of_the_vector():
    from sklearn.decomposition import TruncatedSVD

    generator = torch.Generator().manual_seed(0)
    found = torch.randn(12, 1, 8, generator=generator) + 0.5
    component, logistic = other_directions(found, (3,))
    fitted = TruncatedSVD(1, algorithm="arpack").fit(found[:, 0].double().numpy())
    first = torch.from_numpy(fitted.components_[0])
    mean = found[:, 0].mean(0)
    assert abs(torch.cosine_similarity(component.values[0, 0].double(), first, dim=0)) > 0.9999
    assert component.values[0, 0] @ mean > 0
    assert (found[:, 0] @ logistic.values[0, 0] > 0).float().mean() > 0.8
    full = mean_difference(found, [3])
    others = [mean_difference(found + i, [3]) for i in range(OTHERS)]
    beside = vectors_beside(found, full, others, range(12), seed=0)
    kinds = [name.partition("-")[0] for name in beside.names]
    counts = {"full": 1, "resample": RESAMPLED, "shuffled": SHUFFLED, "other": OTHERS, "random": RANDOM}
    assert {kind: kinds.count(kind) for kind in kinds} == counts | {"pca": 1, "logistic": 1}
    norms = beside.values.norm(dim=-1)[np.array(kinds) != "resample"]
    assert_close(norms, full.values.norm().expand_as(norms))
