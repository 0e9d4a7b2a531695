"""The control without a model: counts against scikit-learn, flags against plain texts, and texts that are not here."""

import json

import numpy as np
import pytest
from conftest import refused
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB

from companion.data import datasets
from companion.profiles import load_profile
from companion.tan import experiment, words
from steerkit.errors import SteerkitError

FIELDS = ("answer_matching_behavior", "answer_not_matching_behavior")
SETTINGS = load_profile("laptop-full", datasets="openness,myopic-reward")


@pytest.fixture(params=SETTINGS.datasets)
def sides(request):
    """Training and test texts of a bundled set, and scikit-learn's classifier of the training texts."""
    train, test = words.pairs_of(SETTINGS, request.param)
    counts = CountVectorizer(tokenizer=words.words, token_pattern=None)
    known = counts.fit_transform([text for pair in train.values() for text in pair])
    bayes = MultinomialNB(alpha=0.5).fit(known, [1, 0] * len(train))
    return train, test, counts, bayes


def test_log_odds_are_those_of_scikit_learn(sides):
    train, _, counts, bayes = sides
    odds, expected = words.log_odds(train.values()), bayes.feature_log_prob_[1] - bayes.feature_log_prob_[0]
    assert np.allclose([odds[word] for word in counts.get_feature_names_out()], expected)
    assert len(odds) == len(expected) > 100


def test_scores_are_means_of_log_odds_and_told_is_the_accuracy_of_naive_bayes(sides):
    train, test, counts, bayes = sides
    found = words.describe(test.values(), words.log_odds(train.values()))
    texts = [counts.transform([pair[side] for pair in test.values()]) for side in (0, 1)]
    right = (bayes.predict(texts[0]) == 1) + (bayes.predict(texts[1]) == 0).astype(float)
    assert np.array_equal(found["told"], right / 2) and set(found["told"]) == {0, 0.5, 1}
    odds = bayes.feature_log_prob_[1] - bayes.feature_log_prob_[0]
    sizes = found[["words", "other_words"]].to_numpy()
    means = [texts[side] @ odds / sizes[:, side] for side in (0, 1)]
    assert np.allclose(found["score"], means[0] - means[1])


def test_an_item_says_whether_it_is_short_and_whether_it_begins_with_yes_and_no():
    pairs = [("Yes.", "No, never at all."), ("Yes, I would do it", "I would not do it"), ("", "two words")]
    found = words.describe(pairs, {"yes": 1.0, "no": -1.0})
    assert found["short"].tolist() == [True, False, True] and found["yes_no"].tolist() == [True, False, False]
    assert found["words"].tolist() == [1, 5, 1] and found["ratio"].tolist() == [4, 1, 2]
    assert found["score"].tolist() == [1.25, 0.2, 0] and found["told"].tolist() == [1, 1, 0.5]
    assert words.words("don’t DON'T") == ["don't"] * 2
    refused(words.log_odds, [("", "...")], said="training texts with words; found none")


def test_items_are_the_test_items_of_the_grid(smoke):
    found = words.items(smoke.settings)
    rows = experiment.slopes(smoke.settings, "statement").query("vector == 'full'")
    both = found.merge(rows, on=["dataset", "example_id"], how="outer", indicator=True)
    assert (both["_merge"] == "both").all() and set(found["run"]) == {"tiny"}


def test_properties_of_options_are_those_of_all_questions_of_the_choice_sets():
    found = words.options(load_profile("laptop-full", datasets="openness,myopic-reward,coordinate-itself"))
    assert list(found.index) == ["myopic-reward", "coordinate-itself"]
    train, test = words.pairs_of(SETTINGS, "myopic-reward", limited=False)
    told = words.describe(test.values(), words.log_odds(train.values()))["told"].mean()
    assert found.loc["myopic-reward", "told"] == told and len(train) == 24 and len(test) == 30
    options = [[t for _, t in item.options] for item in datasets.load_dataset("coordinate-itself").items[::2]]
    begins = [all(text.startswith(("Yes", "No")) for text in each) for each in options]
    assert found.loc["coordinate-itself", "yes_no"] == pytest.approx(np.mean(begins))


def test_texts_that_are_not_here_are_named_and_not_fetched(own_folders, monkeypatch):
    monkeypatch.delenv(datasets.DATA_DIR_VARIABLE, raising=False)
    monkeypatch.setattr(datasets, "_fetched", lambda source: pytest.fail("something was fetched"))
    papers = load_profile("laptop-papers", datasets="openness")
    assert words.here(SETTINGS) and not words.here(papers)
    refused(words.items, papers, said=r"the data set openness at .*; found no readable file there")


def test_a_set_of_one_class_is_one_clear_sentence(tmp_path):
    answers = {FIELDS[0]: " Yes", FIELDS[1]: " No"}
    rows = [{"question": f"q {i}", "statement": f"s {i}", **answers} for i in range(9)]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(SteerkitError, match="a matching and a not matching statement; found 3 items without"):
        words.items(load_profile("laptop-full", datasets=str(path)))
