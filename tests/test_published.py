"""The published numbers: complete, consistent with each other, and refused in words when unknown."""

import numpy as np
import pytest
from conftest import refused

from companion import published


def test_there_are_forty_data_sets_in_the_papers_order_with_sentences_and_short_distinct_labels():
    table = published.datasets()
    assert list(table["order"]) == list(range(40)) and table.index.is_unique
    assert all(len(set(published.personas(name))) == 2 for name in table.index)
    assert table["label"].is_unique and table["label"].str.len().max() <= 22
    assert published.label("subscribes-to-Islam") == "Islam"
    assert published.label("my-own-set") == "my-own-set"  # of an unknown set
    assert published.personas("openness")[0] == "You are high in openness (The Big Five personality trait)."
    positive, negative = published.personas("believes-AIs-are-not-an-existential-threat-to-humanity")
    assert positive.startswith("You believe that AI systems are very likely to pose")  # swapped, and kept
    assert negative.startswith("You do not believe") and len(set(published.SELECTED)) == 13
    assert table.loc[list(published.SELECTED), "median_llama2-7b"].notna().all()
    table.loc["openness", "mean_llama2-7b"] = 99.0  # what is handed out is a copy
    assert published.datasets().loc["openness", "mean_llama2-7b"] == 1.458


@pytest.mark.parametrize("model", ["llama2-7b", "qwen1.5-14b"])
def test_the_means_over_data_sets_are_those_of_the_digitised_values_for_every_shift(model):
    table = published.shifts().query("model == @model").dropna()
    means = table.groupby(["train", "test"])["mean"].mean()
    for shift in published.tan()["shifts"][1:]:
        stated = published.statistic(f"mean-over-datasets:{shift}", model)
        assert means[tuple(shift.split("->"))] == pytest.approx(stated, abs=0.005)


def test_variance_parts_add_up_and_the_two_digitisations_of_the_variance_agree():
    table = published.datasets().filter(like="llama2-7b").dropna(subset="variance_total_llama2-7b")
    parts = sum(table[f"variance_{part}_llama2-7b"] for part in ("letter", "answer", "unexplained"))
    assert len(table) == 37
    np.testing.assert_allclose(parts, table["variance_total_llama2-7b"], atol=2e-4)
    np.testing.assert_allclose(table["variance_llama2-7b"], table["variance_total_llama2-7b"], atol=0.03)


def test_anti_steerable_shares_are_whole_counts_of_the_test_items():
    table = published.datasets().dropna(subset="anti_steerable_llama2-7b")
    count, worst = table["n_anti_steerable_llama2-7b"], table["anti_steerable_llama2-7b"]
    np.testing.assert_allclose(count / table["n_test"], worst, atol=6e-5)
    assert worst.idxmax() == "myopic-reward" and worst.max() == published.statistic("worst-anti-steerable")
    assert table.loc["myopic-reward", ["n_test", "n_test_also_in_train"]].tolist() == [950, 450]


def test_missing_values_are_nan_where_the_documentation_says_so():
    assert np.isnan(published.statistic("spearman-id-ood", "gemma-2-2b"))
    assert published.statistic("spearman-id-ood") == 0.891
    table = published.datasets()
    assert table.columns.difference(published.FACTS).size == 20
    assert np.isnan(table.loc["corrigible-more-HHH", "mean_llama2-7b"])
    assert np.isnan(table.loc["believes-abortion-should-be-illegal", "mean_qwen1.5-14b"])
    assert np.isnan(table.loc["sycophancy_train", "median_llama2-7b"])
    assert table["mean_llama3.1-70b"].notna().sum() == 31 and table["mean_gemma-2-2b"].notna().sum() == 38
    for model, absent in published.tan()["missing"].items():
        if model != "why":
            assert set(table.index[table[f"mean_{model}"].isna()]) == set(absent)


def test_boxes_mark_exactly_the_b_and_no_groups_as_contaminated():
    boxes = published.boxes()
    assert boxes["dataset"].nunique() == 38 and (boxes["q1"] <= boxes["median"]).all()
    assert (boxes["median"] <= boxes["q3"]).all()
    assert (boxes["contaminated"] == (boxes["group"] == "B and No")).all()
    myopic = boxes.query("dataset == 'myopic-reward'")
    assert list(myopic["positive_answer"]) == ["", ""] and list(myopic["positive_letter"]) == ["A", "B"]
    assert myopic[["q1", "q3"]].to_numpy().tolist() == [[3.271, 4.155], [-1.583, 3.519]]
    # They look like the whole data set, and the clean ones do not.
    boxes = boxes.query("dataset in @published.SELECTED")
    whole = boxes["dataset"].map(published.datasets()["median_llama2-7b"])
    distance = (boxes["median"] - whole).abs()
    assert distance[boxes["contaminated"]].max() < 0.75
    assert distance[boxes["contaminated"]].mean() < 0.25 < distance[~boxes["contaminated"]].mean()


def test_what_mayne_et_al_say_of_their_features_is_what_their_tables_and_figures_say():
    assert published.top_features(published.VECTOR)["feature"].tolist() == [4888, 15603, 12695, 7589, 2350]
    activations = published.top_features(published.ZERO)["activation"].tolist()
    assert activations == [89.06, 35.94, 19.80, 11.84, 10.74]
    assert published.shared_features() == 4 and published.default_component() == (4888, 86.20)
    assert published.signs() == (14004, 3517, -0.82) and published.best_layer() == (14, 26)


@pytest.mark.parametrize(
    ("call", "near"),
    [
        (lambda: published.dataset("believes-not-watched"), "believes-it-is-not-being-watched-by-humans"),
        (lambda: published.personas("Hinduism"), "subscribes-to-Hinduism"),
        (lambda: published.statistic("spearman-odd-id"), "spearman-id-ood"),
        (lambda: published.statistic("spearman-id-ood", "llama-2-7b"), "llama2-7b"),
        (lambda: published.dataset(""), "anti-LGBTQ-rights"),
    ],
)
def test_an_unknown_name_is_refused_with_near_matches(call, near):
    assert near in refused(call, said="which the paper does not have").next_step
    refused(published.top_features, "openness", said=r"published features.*found 'openness'")
