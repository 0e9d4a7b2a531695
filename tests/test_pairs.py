"""What a data set's pairs say beforehand: the formulas against plain ones, and worlds in which the answers are known."""

import json
import re
from functools import cache
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import refused
from drawn import crowded
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from companion import page, published, registered
from companion.data.ask import examples_of
from companion.data.datasets import load_dataset, names
from companion.figures import pairs as figures
from companion.models import model_of
from companion.profiles import load_profile, override
from companion.tan import (
    backwards,
    coins,
    common,
    experiment,
    pairs,
    predict,
    products,
    screening,
    sizes,
    texts,
)
from steerkit import Vectors, evaluate, extract
from steerkit.prompts import Prompter

WIDTH, COUNT = 24, 16
LABELS = {"a": "Model A", "b": "Model B"}
REGISTERED = ("predict", "backwards", "words-apart", "how-many", "unigram")


def world(
    rng: np.random.Generator, *, spread: float = 0.4, agree: bool = True, words: bool = False
) -> pd.DataFrame:
    """PRODUCTS tables of sets whose pairs point along a direction of the set, the more the stronger.

    With `agree` gradients do too, so that agreement tells steerability, and an item's own part along the direction tells
    its slope; with `words` differences point along the words of their pair instead, and tests move by these alone.
    """
    parts = []
    for number in range(24):
        strength, direction = rng.uniform(0, 2), rng.normal(size=WIDTH) / np.sqrt(WIDTH)
        vocabulary = rng.normal(size=(30, WIDTH)) / np.sqrt(WIDTH)
        chosen = rng.integers(30, size=COUNT)
        own = rng.normal(1, spread, size=(COUNT, 1))
        rows = strength * own * direction + 0.3 * rng.normal(size=(COUNT, WIDTH)) / np.sqrt(WIDTH)
        if words:
            rows = vocabulary[chosen]
        moved = rows if agree or words else rng.normal(size=(COUNT, WIDTH)) / np.sqrt(WIDTH)
        ids = tuple(f"{i:02d}" for i in range(COUNT))
        tests = {one: f"a {w:08d} | b {w:08d}" for one, w in zip(ids, chosen + 100 * number, strict=True)}
        differences = Vectors(ids, (0,), torch.from_numpy(rows[:, None]))
        scores = rng.normal(-4, 1, size=(COUNT, 2))
        last = torch.from_numpy(rng.normal(size=(COUNT, WIDTH)))
        table = products.table(differences, tests, torch.from_numpy(moved), last, scores)
        parts.append(table.assign(dataset=f"s{number:02d}", kind="persona"))
    return pd.concat(parts, ignore_index=True)


@cache
def agreeing() -> pd.DataFrame:
    """A world in which what is known beforehand tells the answer."""
    return world(np.random.default_rng(0))


@cache
def without() -> pd.DataFrame:
    """A world in which it tells nothing."""
    return world(np.random.default_rng(1), agree=False)


class TestMatrices:
    """The numbers of one set against plain formulas over its vectors."""

    def test_products_are_those_of_the_vectors(self):
        rng = np.random.default_rng(0)
        rows, near, last = (rng.normal(size=(4, 3)) for _ in range(3))
        differences = Vectors(tuple("abcd"), (0,), torch.from_numpy(rows[:, None]))
        tests = dict.fromkeys("cb", "x | y")
        of_two = [torch.from_numpy(each[[2, 1]]) for each in (near, last)]
        found = products.table(differences, tests, *of_two, np.array([[-1.0, -2.0], [-3.0, -4.0]]))
        one = found[(found["example_id"] == "b") & (found["by_id"] == "d")].iloc[0]
        expected = [near[1] @ rows[3], last[1] @ rows[3], rows[1] @ rows[3], -3, -4]
        assert one[[*products.MATRICES, *products.SIDES]].tolist() == pytest.approx(expected)

    def test_projection_agreement_and_norm_are_those_of_the_vectors(self):
        rows = np.random.default_rng(2).normal(1, 1, size=(6, 5))
        product = rows @ rows.T
        rest = [np.delete(rows, i, 0).mean(axis=0) for i in range(6)]
        expected = [row @ mean / np.linalg.norm(mean) for row, mean in zip(rows, rest, strict=True)]
        assert pairs.projections(product) == pytest.approx(expected)
        units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        cosines = [units[i] @ units[j] for i, j in permutations(range(6), 2)]
        assert pairs.agreement(product) == pytest.approx(np.mean(cosines))

    def test_what_is_known_of_training_pairs_is_of_their_vector(self):
        [each] = [one for one in pairs.sets(agreeing()) if one.dataset == "s03"]
        train = np.arange(0, COUNT, 2)
        known = predict.known(each, train)
        part = each.product[np.ix_(train, train)]
        assert known["norm"] == pytest.approx(np.sqrt(part.mean()))
        along = pairs.projections(part)
        assert known["separation"] == pytest.approx(along.mean() / along.std(ddof=1))

    def test_bags_count_words_and_do_not_show_them(self):
        item = load_dataset("openness").items[0]
        bag = products.bag((item, item))
        assert "|" in bag and not any(len(word) not in (1, 2, 3, 8) for word in bag.split())
        assert bag == products.bag((item, item))


class TestPredict:
    """The league and its verdict, where agreement tells and where nothing does."""

    def test_in_a_world_of_agreement_it_is_found(self):
        league = predict.league(predict.halvings(agreeing()))
        rows = league[league["given"] == ""].set_index("predictor")
        assert rows.loc["agreement", "low"] > 0.4 and rows.loc["agreement", "holm"] < 0.05
        assert rows.loc["measured", "estimate"] > 0.9 and np.isnan(rows.loc["measured", "holm"])
        assert abs(rows.loc["surprise", "estimate"]) < 0.5
        nothing = predict.league(predict.halvings(without()))
        assert predict.verdict("agreement", {"a": nothing}) == "none"

    def test_the_choice_is_by_the_mean_over_models_given_the_norm_and_no_rival_is_chosen(self):
        both = ("margin", 0.1), ("surprise", 0.3)
        rows = [(name, given, one) for given in ("", "norm") for name, one in both]
        rows += [("words", "norm", 0.9), ("measured", "norm", 0.9), ("margin", "", 0.9)]
        one = pd.DataFrame(rows, columns=["predictor", "given", "estimate"])
        other = one.assign(estimate=one["estimate"].where(one["predictor"] != "margin", 0.6))
        assert predict.choice({"a": one}) == "surprise" and predict.choice({"a": one, "b": other}) == "margin"

    def test_published_values_judge_each_predictor_within_kinds(self):
        theirs = published.datasets()["mean_gemma-2-2b"].dropna()
        sets = [name for name in theirs.index if texts.kind_of(name, "bundled") == "persona"]
        rng = np.random.default_rng(0)
        known = pd.DataFrame(rng.normal(size=(len(sets), len(predict.KNOWN))), sets, predict.KNOWN)
        known["agreement"] = theirs[sets] ** 3  # the same order
        rows = pd.concat([known.assign(halving=h, kind="persona") for h in range(2)])
        found = predict.judged_by_published(rows.rename_axis("dataset").reset_index())
        found = found[found["published"] == "gemma-2-2b"].set_index("predictor")
        assert found.loc["agreement", "estimate"] == pytest.approx(1)
        assert found.loc["agreement", "holm"] < 0.01
        by_hand = spearmanr(known["margin"], theirs[sets]).statistic
        assert found.loc["margin", "estimate"] == pytest.approx(by_hand) and found["holm"].notna().sum() == 6

    @pytest.mark.parametrize(
        ("low", "estimate", "said"),
        [(0.1, 0.6, "good enough"), (0.1, 0.4, "goes with it"), (-0.1, 0.6, "none")],
    )
    def test_the_verdict_takes_all_three_intervals_and_the_line(self, low, estimate, said):
        rows = pd.DataFrame({"predictor": "agreement", "given": ["", *predict.CONTROLS]})
        rows, sound = rows.assign(low=low, estimate=estimate), rows.assign(low=0.2, estimate=0.9)
        assert predict.verdict("agreement", {"a": rows, "b": sound}) == said


class TestBackwards:
    """Items that go backwards in sets never seen."""

    def test_in_a_world_where_their_own_difference_tells_they_are_found(self):
        worlds = (world(np.random.default_rng(seed), spread=1.2) for seed in (3, 4))
        first, second = map(backwards.features, worlds)
        found = backwards.judged(first, second, second).set_index("features")
        assert found.loc["all", "low"] > 0.65 and found.loc["cosine", "area"] > 0.8
        assert found.loc["slopes of the other model", "area"] == pytest.approx(1)  # it is the same one
        assert found.loc["margin", "area"] < 0.65 and (found["null_most"] < 0.6).all()
        assert backwards.verdicts([found.reset_index()]) == {"predictable": True, "more than words": True}

    def test_areas_are_those_of_scikit_learn(self):
        items = backwards.features(world(np.random.default_rng(3), spread=1.2))
        found = backwards.areas(items["cosine"].round(1).to_numpy(), items)
        for name, area in found["area"].items():
            part = items[items["dataset"] == name]
            assert area == pytest.approx(roc_auc_score(part["backwards"], part["cosine"].round(1)))

    def test_calibration_is_by_tenths_of_all_items(self):
        items = pd.DataFrame({"backwards": [False] * 50 + [True] * 50})
        found = backwards.calibration(np.linspace(0, 1, 100), items)
        assert found["n"].tolist() == [10] * 10 and found["observed"].tolist() == [0] * 5 + [1] * 5

    def test_sets_that_go_one_way_alone_are_refused(self):
        items = backwards.features(agreeing()).assign(backwards=False)
        refused(backwards.fit, items, said="items that go forwards and some that go backwards")


class TestCommon:
    """What is left without common words."""

    def test_where_words_carry_all_nothing_is_left(self):
        every, content = common.compared([world(np.random.default_rng(5), words=True)])
        table = common.kept(common.slopes(every[0], content))
        assert table["high"].item() < 0.3 and common.verdict([table]) == "words"
        assert 0.6 < table["drawn"].item() < 1.4

    def test_where_they_carry_nothing_all_is_left(self):
        every, content = common.compared([agreeing()])
        table = common.kept(common.slopes(every[0], content))
        assert 0.9 < table["kept"].item() < 1.1 and common.verdict([table]) == "more than words"

    def test_a_word_of_many_pairs_or_few_letters_is_no_content_word(self):
        [every], content = common.compared([agreeing()])
        assert "a" not in content and all(len(word) == 8 for word in content)
        often = [[("00000000 00000001", "b")], [("00000000", "b")]] * 10
        about = "s", "persona", ("i",), *[np.eye(1)] * 3, *[np.ones(1)] * 2
        found = [pairs.Pairs(*about, one) for one in often]
        assert common.content_words(found) == set()
        assert common.in_common(every[0], content).diagonal().max() == 1


class TestSizes:
    """Variance components of slopes over tests and training pairs."""

    def test_components_are_those_of_the_world(self):
        rng, found = np.random.default_rng(0), []
        for _ in range(400):
            test, train = rng.normal(0, 1, (12, 1)), rng.normal(0, 2, (1, 12))
            train = train + 0.5 * test.T  # a pair that is easy as a test trains well too
            found.append(sizes.components(1.5 + test + train + rng.normal(0, 3, (12, 12))))
        mean = pd.DataFrame(found).mean()
        expected = {"training": 4.25, "test": 1, "rest": 9, "square": 2.25}
        assert mean[[*expected]].tolist() == pytest.approx([*expected.values()], abs=0.25)

    def test_components_are_the_means_of_all_products(self):
        slope = np.random.default_rng(1).normal(size=(5, 5))
        cells = [*permutations(range(5), 2)]
        kinds: dict[tuple[bool, bool], list[float]] = {}
        for i, j in cells:
            for k, m in cells:
                if i == k or j == m or not {i, j} & {k, m}:
                    kinds.setdefault((i == k, j == m), []).append(slope[i, j] * slope[k, m])
        mean = {key: np.mean(each) for key, each in kinds.items()}
        found = sizes.components(slope)
        assert found["square"] == pytest.approx(mean[False, False])
        assert found["test"] == pytest.approx(mean[True, False] - mean[False, False])
        assert found["training"] == pytest.approx(mean[False, True] - mean[False, False])
        assert sum(found.values()) == pytest.approx(mean[True, True])

    def test_quarters_show_the_error_that_the_components_say(self):
        found = sizes.of_sets(agreeing())
        assert sizes.check(found, COUNT // 4) == pytest.approx(1, abs=0.2)
        table = sizes.reliability(found)
        same = table[table["train"] == table["test"]].set_index("train")["reliability"]
        assert same.is_monotonic_increasing and 0 < same.iloc[0] < same.iloc[-1] < 1
        assert sizes.enough([table]) == same.index[same > 0.9].min()

    def test_shares_are_surer_with_more_pairs(self):
        found = sizes.shares(agreeing(), (3, 5, 8))
        assert found["error"].is_monotonic_decreasing and (found["error"] >= found["error_all"]).all()
        refused(sizes.shares, agreeing(), (COUNT,), said="pairs in s00")


@pytest.mark.parametrize("name", REGISTERED)
def test_registrations_say_what_would_refute_them(name):
    about = registered.read(name)
    assert {"question", "known beforehand", "data", "statistics", "verdict", "refuted if"} <= set(about)


def test_the_sets_kept_apart_are_none_of_the_forty():
    assert len(names("apart")) == 60 and not set(names("apart")) & set(names("tan"))


def test_pairs_that_a_word_tells_apart_are_left_out():
    found = products.pairs_of("openness", "bundled")
    assert len(found) == len({first.id for first, _ in found}) <= products.PAIRS
    assert found == products.pairs_of.__wrapped__("openness", "bundled")


class TestScreen:
    """`steerkit screen`: what is measured on a set's own pairs."""

    def test_a_set_that_steers_is_told_from_one_that_does_not(self):
        sound = max(pairs.sets(agreeing()), key=lambda one: one.slope.mean())
        found = screening.screened(sound)
        assert found["low"] > found["shuffled"] and found["p"] == 0.01 and found["pairs"] == COUNT
        assert found["steerability"] == pytest.approx(pairs.by_others(sound.slope).mean())
        lows = [screening.screened(one)["low"] for one in pairs.sets(without())]
        assert np.mean(np.array(lows) > 0) <= 0.1

    def test_intervals_hold_training_and_test_noise(self):
        """Two-way noise around 1: the interval covers it about as often as it says."""
        rng, hits = np.random.default_rng(0), 0
        for _ in range(200):
            by_test, by_train = (rng.normal(0, 1, shape) for shape in ((COUNT, 1), (1, COUNT)))
            slope = 1 + by_test + by_train + rng.normal(0, 1, (COUNT, COUNT))
            ids, none = tuple(map(str, range(COUNT))), np.ones(COUNT)
            one = pairs.Pairs("s", "persona", ids, slope, slope, slope @ slope.T, none, none, [])
            found = screening.screened(one)
            hits += found["low"] < 1 < found["high"]
        assert 0.9 < hits / 200 <= 0.99

    def test_the_slope_is_that_of_steering_without_the_pair(self):
        """Against the grid: the vector of all other pairs, at a small multiplier, on the pair left out."""
        model = model_of("tiny")
        dataset = load_dataset("openness")
        prompter = Prompter(model.tokenizer, model.template)
        examples = examples_of(prompter, dataset, range(16), "statement", 0)
        found = screening.of_examples(model, examples, [1])[1]
        for i in (0, len(examples) - 1):
            rest = [one for j, one in enumerate(examples) if j != i]
            vector = extract(model, rest, [1])
            scores = evaluate(model, [examples[i]], vector, [-0.01, 0.01]).propensity.ravel()
            slope = (scores[1] - scores[0]).item() / 0.02
            assert pairs.by_others(found.slope)[i] == pytest.approx(slope, abs=1e-4)

    def test_the_command_says_it_by_layer(self, steerkit):
        asked = ("screen", "--model", "tiny", "--data", "openness")
        code, screen, _ = steerkit(*asked, "--layers", "0,1", "--json")
        rows = json.loads(screen)
        assert code == 0 and [row["layer"] for row in rows] == [0, 1] and rows[0]["pairs"] == 60
        code, screen, _ = steerkit(*asked, "--format", "letter", "--most", "8")
        assert code == 0 and "steerability" in screen and "layer 2" in screen
        code, _, said = steerkit(*asked, "--most", "5")
        assert code == 1 and "6 pairs or more" in said


class TestFigures:
    """What is drawn, and what its words say."""

    def drawn(self, name: str):
        """A figure of two models."""
        tables = {
            "league": lambda: pd.concat(
                predict.league(predict.halvings(agreeing())).assign(sets=which)
                for which in (figures.APART, figures.FORTY)
            ),
            "areas": lambda: backwards.judged(
                *[backwards.features(world(np.random.default_rng(s), spread=1.2)) for s in (3, 4)]
            ),
            "calibration": lambda: pd.DataFrame({"predicted": [0.1, 0.6], "observed": [0.2, 0.5]}),
            "dose": lambda: pd.DataFrame({"common": [0, 1], "share": [0.8, 1.1], "sets": figures.APART}),
            "reliability": lambda: sizes.reliability(sizes.of_sets(agreeing())),
        }
        one = tables[name]()
        table = pd.concat([one.assign(model=model) for model in LABELS], ignore_index=True)
        return getattr(figures, name)(table, LABELS, *((1,) if name == "dose" else ()))

    @pytest.mark.parametrize("name", ["league", "areas", "calibration", "dose", "reliability"])
    def test_every_figure_names_both_models_and_a_number_of_each(self, name):
        found = self.drawn(name)
        for label in LABELS.values():
            assert re.search(rf"{label}[^;.]* -?\d\.\d\d", found.alt)
        assert len(found.table) and found.figure.axes and crowded(found.figure) == []


def test_a_table_of_products_has_every_pair_with_every_other(own_folders):
    settings = override(load_profile("smoke"), datasets="openness", layer=1)
    table = experiment.table(settings, "products")
    assert len(table) == products.PAIRS**2 and set(table["kind"]) == {"persona"}
    assert f"{products.PAIRS} pairs drawn of each" in page.manifest_line(settings, table.attrs["manifests"])


class TestCoins:
    """Labels drawn by a coin, and those of which half are exchanged, against vectors made one by one."""

    def test_a_drawn_vector_moves_a_set_as_the_sum_of_its_pairs_without_the_one_that_is_tested(self):
        one, rng = pairs.sets(agreeing())[0], np.random.default_rng(0)
        signs = rng.choice([-1, 1], size=(3, COUNT))
        found, true = coins.moved(one, signs), np.sqrt(one.product.sum())
        for row, mean in zip(signs, found, strict=True):
            tested = [row @ one.slope[i] - row[i] * one.slope[i, i] for i in range(COUNT)]
            assert mean == pytest.approx(
                np.mean(tested) / (COUNT - 1) * true / np.sqrt(row @ one.product @ row)
            )
        assert coins.moved(one, np.ones((1, COUNT)))[0] == pytest.approx(pairs.by_others(one.slope).mean())

    def test_a_coin_leaves_some_of_the_labels_and_half_of_them_exchanged_leave_none(self):
        coin, half = (coins.signs(COUNT, labels) for labels in (coins.COIN, coins.HALF))
        assert (half.sum(axis=1) == 0).all() and np.ptp(coin.sum(axis=1)) > 0
        rows = coins.agreement({"a": agreeing(), "b": agreeing()}).set_index("labels")
        assert rows.loc[coins.COIN, "kept"] > 0.3 and rows.loc[coins.HALF, "kept"] == 0
        assert rows.loc[coins.HALF, "size"] < rows.loc[coins.COIN, "size"] < 1
        assert np.allclose(rows[["vector", "agree", "size_agree"]], 1)  # of a model with itself
