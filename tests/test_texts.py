"""Text or concept: made-up slopes of models and texts whose truth is known, counts by hand, and the records as they are."""

import numpy as np
import pandas as pd
import pytest
from conftest import refused
from scipy.stats import spearmanr
from text_worlds import SETS, made

from companion import published
from companion.profiles import load_profile
from companion.tan import controls, experiment, texts
from companion.tan.ranks import KINDS, WITHIN


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return made()


def within(pairs: pd.DataFrame, pair: str) -> pd.Series:
    return pairs[(pairs["pair"] == pair) & (pairs["sets"] == WITHIN)].iloc[0]


class TestAgreement:
    @pytest.mark.parametrize(("owner", "other"), [("text", (-0.4, 0.4)), ("concept", (0.5, 1.0))])
    def test_whose_the_order_is_shows_between_the_texts_and_not_between_the_models(self, owner, other):
        pairs = texts.agreement(made(owner), texts.PAIRS[:2])
        same, moved = (within(pairs, pair) for pair in texts.PAIRS[:2])
        assert (same["first"], same["second"]) == ("m", "n") and same["low"] > 0.5 and same["p"] < 0.01
        assert (moved["first"], moved["second"]) == ("m", "m (papers' data)")
        assert other[0] < moved["estimate"] < other[1] and (moved["p"] < 0.01) == (owner == "concept")
        assert abs(same["placebo"]) < 0.4 and same["placebo_low"] == same["placebo_high"] == same["placebo"]
        everything = pairs.query("pair == @texts.PAIRS[1] and sets == 'all'")["estimate"].item()
        assert everything > 0.5  # the gap between the kinds makes it, whoever owns the order

    def test_estimates_are_scipys_and_the_published_pairs_are_those_of_their_means(self, table):
        pairs = texts.agreement(table).set_index(["first", "second", "sets"])
        means = table[table["vector"] == "full"].pivot_table("steerability", "dataset", "run")
        theirs = published.datasets().filter(like="mean_")
        every = means.join(theirs.rename(columns=lambda name: name.removeprefix("mean_")))
        kinds = table.drop_duplicates("dataset").set_index("dataset")["kind"]
        for (first, second, sets), row in pairs.iterrows():
            both = every[[first, second]].dropna()
            both = both[kinds[both.index].eq(sets)] if sets in KINDS else both
            assert row["n"] == len(both)
            if sets != WITHIN:
                assert row["estimate"] == pytest.approx(spearmanr(both[first], both[second]).statistic)
        assert len(pairs) == 4 * (1 + 1 + 3 + 3 * 3)
        alone = texts.agreement(None, texts.PAIRS[2:3])
        assert alone["pair"].unique().tolist() == [texts.PAIRS[2]] and alone["ceiling"].isna().all()

    def test_the_ceiling_is_the_root_of_two_reliabilities(self, table):
        known = texts.reliability(table).set_index(["run", "sets"])
        for row in texts.agreement(table, texts.PAIRS[:1]).itertuples():
            ends = known.loc[[("m", row.sets), ("n", row.sets)], "estimate"]
            assert row.ceiling == pytest.approx(np.sqrt(ends.prod())) and 0.5 < row.ceiling < 1

    def test_shuffled_labels_are_the_placebo_where_there_are_some(self):
        given = ["full", "random-00", "shuffled-01", "shuffled-00"]
        assert texts.placebos(given) == ["shuffled-00", "shuffled-01"] and texts.placebos(given[:2]) == []
        pairs = texts.agreement(made(placebo="other-00"), texts.PAIRS[:1])
        assert pairs[["placebo", "placebo_low", "placebo_high"]].isna().all(axis=None)

    @pytest.mark.parametrize("others", [(24, 24), (200, 24)])
    def test_placebos_of_two_models_are_a_control_when_both_trained_on_the_same_pairs(self, table, others):
        pairs = texts.agreement(table, texts.PAIRS[:2])
        again = table.assign(trained=table["run"].map(dict(zip(("m", "n"), others, strict=True))))
        found = texts.agreement(again, texts.PAIRS[:2])
        for pair, known in zip(texts.PAIRS, (len({*others}) == 1, True), strict=False):
            wanted = within(pairs, pair)["placebo"] if known else np.nan
            assert within(found, pair)["placebo"] == pytest.approx(wanted, nan_ok=True)

    def test_one_test_group_in_a_set_is_one_clear_sentence(self, table):
        refused(texts.agreement, table[table["group"] == 0], said=r"two test groups or more in .*; found one")

    def test_sizes_of_placebos_and_slopes_at_zero_are_compared_as_the_vectors_are(self, table):
        """How far placebos move a set on average, whichever way; here half as far as the vector, by the coin's sign."""
        full = table[table["vector"] == "full"]
        coins = (full.assign(steerability=sign * full["steerability"] / 2) for sign in (1, -1, 1))
        named = (each.assign(vector=f"shuffled-{i:02d}") for i, each in enumerate(coins))
        zero = full.assign(vector=texts.AT_ZERO, steerability=-full["steerability"])
        found = texts.agreement(pd.concat([full, zero, *named]), texts.PAIRS[:1])
        assert np.allclose(found["at_zero"], found["estimate"])
        means = full.pivot_table("steerability", "dataset", "run")[["m", "n"]].abs()
        expected = spearmanr(means["m"], means["n"]).statistic
        assert found.loc[found["sets"] == "all", "placebo_size"].item() == pytest.approx(expected)


class TestItems:
    def test_correlation_and_joint_rate_are_those_counted_by_hand(self, table):
        row = texts.shared_items(table).iloc[0]
        full = table[(table["vector"] == "full") & (table["source"] == "bundled")]
        wide = full.pivot(index=["dataset", "example_id"], columns="run", values="steerability")
        each = [spearmanr(part["m"], part["n"]).statistic for _, part in wide.groupby("dataset")]
        assert row["n"] == 40 * 8 and row["estimate"] == pytest.approx(np.mean(each)) and row["low"] > 0.4
        negative = wide <= 0
        chance = np.mean([part["m"].mean() * part["n"].mean() for _, part in negative.groupby("dataset")])
        assert row[["joint", "chance"]].tolist() == pytest.approx([negative.all(axis=1).mean(), chance])
        assert row["joint_low"] < row["joint"] < row["joint_high"] and row["joint_p"] < 0.01
        assert abs(row["placebo"]) < 0.2 and abs(row["joint_placebo"] - row["chance_placebo"]) < 0.05

    def test_items_that_the_models_do_not_share_are_no_finding(self, table):
        rng = np.random.default_rng(3)
        apart = table.assign(steerability=rng.normal(size=len(table)))
        row = texts.shared_items(apart).iloc[0]
        assert row["p"] > 0.05 and row["joint_p"] > 0.05 and row["low"] < 0 < row["high"]
        assert texts.shared_items(table[table["run"] == "m"]).empty


class TestDisjoint:
    @pytest.mark.parametrize("signal", [0.0, 2.0])
    def test_items_that_share_their_noise_agree_and_halves_only_where_sets_differ(self, monkeypatch, signal):
        rng, rows = np.random.default_rng(0), []
        for name in SETS:
            level = signal * rng.normal()
            for i in range(8):
                item = level + rng.normal()
                for pair in (("BASE", "BASE"), ("BASE", "USER_NEG"), ("MEAN", "BASE")):
                    rows.append((name, f"{name}/{i}", f"{name}/{i}", *pair, item + 0.1 * rng.normal()))
        columns = ["dataset", "group", "example_id", "vector", "setting", "steerability"]
        monkeypatch.setattr(experiment, "shift_slopes", lambda *_: pd.DataFrame(rows, columns=columns))
        found = texts.disjoint(load_profile("laptop-full"), "letter")
        assert found[["train", "test"]].to_numpy().tolist() == [["BASE", "USER_NEG"]]
        row = found.iloc[0]
        assert row["shared"] > 0.9 and (row["low"] > 0) == (signal > 0) and (row["p"] < 0.05) == (signal > 0)
        assert row["estimate"] == pytest.approx(row["ceiling"], abs=0.1)
        assert (row["estimate"] > 0.6) == (signal > 0)


@pytest.fixture(scope="module")
def both(table) -> pd.DataFrame:
    """Items whose score is the slope of the vector but for some noise; every fourth begins with Yes and No."""
    items = table[table["vector"] == "full"][["run", "dataset", "example_id", "group", "steerability"]]
    rng, last = np.random.default_rng(0), items["group"] % 4 == 3
    items["score"] = items["steerability"] + 0.3 * rng.normal(size=len(items))
    items["told"] = rng.random(len(items))
    items = items.assign(yes_no=last, short=False, ratio=1.0, words=4, other_words=2)
    return controls.with_items(table, items.drop(columns=["group", "steerability"]))


class TestControls:
    def test_words_that_are_the_slopes_explain_them_and_not_the_placebos(self, both):
        found = controls.baseline(both).set_index(["run", "level", "measure"])
        for level in (f"order of sets, {WITHIN}", "items of a set"):
            assert found.loc[("m", level, "score"), "low"] > 0.8
            assert abs(found.loc[("m", level, "score"), "placebo"]) < 0.4
        full = both[(both["vector"] == "full") & (both["run"] == "m")].groupby("dataset")
        each = [spearmanr(part["score"], part["steerability"]).statistic for _, part in full]
        assert found.loc[("m", "items of a set", "score"), "estimate"] == pytest.approx(np.mean(each))
        held = within(texts.agreement(both, texts.PAIRS[:1]), texts.PAIRS[0])
        assert held["given_words"] < 0.4 < held["estimate"]  # what they share is in this world's words
        items = texts.shared_items(both).iloc[0]
        assert items["given_words"] < items["estimate"] - 0.2

    def test_each_control_keeps_its_items_and_drops_sets_with_too_few(self, both):
        few = both["dataset"].eq(SETS[0]) & (both["group"] > 1)
        found = controls.controlled(both.assign(yes_no=both["yes_no"] | few))
        found = found.set_index(["control", "finding", "first"])
        assert len(found) == len(controls.CONTROLS) * 3
        order, items = ("same text, two models", "m"), ("anti-steerable items, two models", "m")
        assert found.loc[("all pairs", *order), "n"] == 40 and found.loc[("all pairs", *items), "n"] == 320
        without = "options that do not begin with Yes and No"
        assert found.loc[(without, *order), "n"] == 39 and found.loc[(without, *items), "n"] == 39 * 6
        levels = controls.levels(both).set_index(["run", "kind"]).loc[("m", "choice")]
        kept = both.query("run == 'm' and kind == 'choice' and vector == 'full' and not yes_no")
        assert levels[without] == pytest.approx(kept["steerability"].mean())
        assert levels[f"{without}: items"] == len(kept)
        before, one = both.iloc[0], controls.summed(both).iloc[0]
        whole = 4 * before["matching_slope"] - 2 * before["not_matching_slope"]
        assert one["steerability"] == pytest.approx(whole)

    def test_every_property_is_tested_against_every_model_and_corrected_for_all(self):
        theirs = published.datasets()["mean_llama2-7b"].to_numpy()
        sets = pd.DataFrame({"noise": np.arange(40.0) % 7, "it": theirs}, SETS)
        found = controls.predictors(sets).set_index(["property", "model"])
        assert len(found) == 6 and found.loc[("it", "llama2-7b"), ["estimate", "n"]].tolist() == [1, 39]
        assert (found["holm"] >= found["p"]).all()
        assert found["holm"].min() == pytest.approx(6 * found["p"].min())


class TestRecords:
    def test_runs_are_joined_by_the_same_models_on_other_texts_in_their_order(self):
        runs = [load_profile(name, recorded=True) for name in ("laptop-full-gemma", "laptop-full")]
        found = [run.profile for run in texts.with_other_texts(runs)]
        assert found == ["laptop-full-gemma", "laptop-full", "laptop-papers-gemma", "laptop-papers"]
        smoke, own = load_profile("smoke"), load_profile("laptop")
        assert texts.with_other_texts([smoke]) == [smoke]
        assert [run.profile for run in texts.with_other_texts([own])] == ["laptop", "laptop-papers"]
        refused(texts.read, [smoke, smoke], said="different models, or of different data; found tiny, tiny")

    def test_slopes_come_with_run_kind_and_group(self, smoke):
        every, expected = texts.read([smoke.settings]), experiment.slopes(smoke.settings, "statement")
        found = every[every["vector"] == "full"]
        assert every["vector"].nunique() == 2 + 20 + 99 and found.attrs == every.attrs
        assert np.array_equal(found["steerability"], expected["steerability"]) and found.attrs["manifests"]
        assert set(found["run"]) == {"tiny"} and found.groupby("dataset")["kind"].nunique().eq(1).all()
        assert found["kind"].eq("choice").equals(found["dataset"].eq("myopic-reward"))
        grid = experiment.grid(smoke.settings, "statement")
        part = found.query("dataset == 'openness'")
        groups = experiment.groups(smoke.settings, grid, "openness", part["example_id"])
        assert part["group"].tolist() == groups


@pytest.mark.parametrize("own", [0.0, 3.0])
def test_items_that_two_models_share_do_not_make_them_agree_on_disjoint_ones(own):
    """Sets alike but for the items that both models read: full agreement on these, and none on items of their own."""
    rng = np.random.default_rng(0)
    index = [(f"s{i:02d}", j) for i in range(20) for j in range(8)]
    slopes = own * np.repeat(rng.normal(size=20), 8) + rng.normal(size=160)
    one = pd.DataFrame(index, columns=["dataset", "group"]).assign(steerability=slopes)
    one["example_id"] = one["dataset"] + "/" + one["group"].astype(str)
    full = pd.concat([one.assign(run=run) for run in ("a", "b")])
    strata = pd.Series("persona", sorted(one["dataset"].unique()))
    found = texts._on_disjoint_items(full, ("a", "b"), strata)
    assert found["disjoint"] == pytest.approx(found["disjoint_ceiling"], abs=0.3)
    assert found["disjoint"] > 0.8 if own else abs(found["disjoint"]) < 0.4
