"""The claims put to simulated worlds in which they are true and in which they are false, and what is said of them."""

from dataclasses import replace
from functools import partial
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from worlds import KINDS, evidence, sets, shifts

from companion import claims, verdicts
from companion.exhibits import EXHIBITS
from companion.moved import moved as by_set
from companion.profiles import load_profile
from companion.tan.evidence import Evidence
from companion.tan.tables import SAME
from companion.templates import SETTINGS
from companion.verdicts import AGREES, DIFFERS, OPEN, UNSPECIFIC, UNTESTABLE, Trial, Untestable, verdict_of
from steerkit.stats import Interval

COUNT, RUNS = 30, 20
BY_ID = {one.id: one for one in claims.every()}


def spread(rng, centre=1.0, between=0.4):
    return rng.normal(centre, between, COUNT)


def steering(rng, **about):
    return evidence(sets(rng, spread(rng), **about))


def clusters(rng, two):
    found = sets(rng, spread(rng))
    parts = rng.normal(0, 0.1, 24) + np.where(np.arange(24) % 2, 1.0, -1.0)
    return evidence([replace(found[0], slopes=parts if two else rng.normal(0, 1, 24)), *found[1:]])


def by_letter(rng, signs, of_placebos=0.0):
    return evidence(sets(rng, 1.5 * signs, "letter", of_placebos=of_placebos), form="letter")


def as_published(rng, alike):
    means = spread(rng, between=0.5)
    theirs = means + rng.normal(0, 0.2, COUNT) if alike else spread(rng)
    found = evidence(sets(rng, means))
    found.llama = lambda column: pd.Series(theirs, [each.name for each in found.sets])
    return found


def two_models(rng, alike, what="mean"):
    values = np.exp(spread(rng, 0, 0.8))
    other = values if alike else np.exp(spread(rng, 0, 0.8))
    return evidence(sets(rng, values, what), others=(evidence(sets(rng, other, what)),))


def spreads(rng, grows):
    means = np.abs(spread(rng, 1.0, 0.5)) + 0.1
    found = [sets(rng, [mean], items=0.6 * mean if grows else 0.6)[0] for mean in means]
    named = ({"name": f"set-{i:02d}", "kind": KINDS[i % 2]} for i in range(COUNT))
    return evidence([replace(each, **name) for each, name in zip(found, named, strict=True)])


def layered(rng, curve):
    rows = [(f"set-{i:02d}", layer) for i, layer in product(range(COUNT), range(0, 30, 5))]
    table = pd.DataFrame(rows, columns=["dataset", "layer"])
    table["mean"] = [rng.normal(curve(layer), 0.3) for layer in table["layer"]]
    return evidence([], layers=table, n_layers=30)


def ranged(rng, loss):
    found = steering(rng)
    near = np.array([each.slopes.mean() for each in found.sets])
    far = near * (1 - loss + rng.normal(0, 0.02, COUNT))
    found.ranges = pd.DataFrame({0.5: near, 1.5: far}, [each.name for each in found.sets])
    return found


def moved(rng, means, other, others=(), **about):
    found = evidence(sets(rng, np.ones(COUNT)), others=others)
    found.shifts = shifts(rng, means, other, **about)
    return found


def shifted_alike(rng, alike):
    means = spread(rng)
    return moved(rng, means, means if alike else spread(rng))


def varied(rng, alike):
    """Variance of items that is a property of the set, or of the set and setting."""
    table = shifts(rng, np.ones(COUNT), np.ones(COUNT))
    sizes = {name: np.exp(rng.normal(0, 0.8)) for name in table["dataset"].unique()}
    other = {name: np.exp(rng.normal(0, 0.8)) for name in sizes}
    same = table["vector"].eq("BASE") & table["setting"].eq("BASE")
    scale = np.where(same, table["dataset"].map(sizes), table["dataset"].map(sizes if alike else other))
    found = evidence(sets(rng, np.ones(COUNT)))
    found.shifts = table.assign(steerability=1 + scale * rng.normal(size=len(table)))
    return found


def failing(rng, real):
    means = spread(rng, 1.0, 0.2)
    other = means.copy()
    other[0] = -0.5 if real else other[0]
    return moved(rng, means, other)


def failing_together(rng, together):
    means = np.where(np.arange(COUNT) % 2, 1.0, -0.5)
    return moved(rng, means, means if together else rng.permutation(means))


def cosines(rng, depends):
    found, pairs = evidence([]), combinations(sorted(SETTINGS), 2)
    rows = [(f"set-{i:02d}", *pair) for i, pair in product(range(COUNT), pairs)]
    table = pd.DataFrame(rows, columns=["dataset", "first", "second"])
    table["distance"] = rng.uniform(size=len(rows))
    noise = rng.normal(0, 0.1, len(table))
    found.cosines = table.assign(cosine=0.9 - depends * table["distance"] + noise)
    return found


def two_shifted(rng, alike):
    means = spread(rng)
    return moved(rng, means, means, others=(moved(rng, *[means if alike else spread(rng)] * 2),))


def either(world, *how):
    """The world in which what it is about is so, and the one in which it is not."""
    return lambda rng: world(rng, True, *how), lambda rng: world(rng, False, *how)


def held(values, **about):
    """A world of sets with these means."""
    return lambda rng: evidence(sets(rng, values, **about))


def under(other, **about):
    """A world of sets with mean 1 in distribution, and these means under a shift."""
    return lambda rng: moved(rng, ONES, other, **about)


def peaked(width):
    return lambda rng: layered(rng, lambda layer: 1 - abs(layer - 15) / width)


ONES, EVERY_SIDE = np.ones(COUNT), np.where(np.arange(COUNT) % 2, 1.0, -1.0)
MANY = held(0.6 * ONES, items=1.0)
# By claim: a world in which it is true, and one in which it is false.
WORLDS = {
    "mean-positive": (steering, held(0 * ONES)),
    "beats-shuffled-labels": (steering, held(0 * ONES, training=0.2)),
    "varies-across-datasets": (lambda rng: held(spread(rng, between=0.6))(rng), held(ONES)),
    "anti-steerable": (MANY, held(0.6 * ONES, items=0.01)),
    "backwards-whichever-pairs": (MANY, held(0.6 * ONES, items=0.01, training=0.3)),
    "bias-explains-variance": (lambda rng: by_letter(rng, ONES), lambda rng: by_letter(rng, 0 * ONES)),
    "two-clusters": either(clusters),
    "letter-bias-has-a-direction-of-its-own": tuple(partial(by_letter, signs=s) for s in (EVERY_SIDE, ONES)),
    "dataset-property": either(as_published),
    "models-agree-in-distribution": either(two_models),
    "models-agree-on-variance": either(two_models, "items"),
    "variance-grows-with-the-mean": either(spreads),
    "middle-layers-steer-best": (peaked(20), lambda rng: layered(rng, lambda layer: 0.5)),
    "one-layer-serves-most-sets": (peaked(10), lambda rng: layered(rng, lambda layer: 0.5)),
    "wider-ranges-flatten-slopes": (lambda rng: ranged(rng, 0.2), lambda rng: ranged(rng, 0.0)),
    "other-directions-are-no-better": (steering, lambda rng: steering(rng, gain=0.3)),
    "id-and-ood-correlate": either(shifted_alike),
    "variances-correlate": either(varied),
    "ood-is-weaker": (under(0.7 * ONES), lambda rng: moved(rng, ONES, spread(rng, 1.0, 0.1))),
    "some-sets-fail": either(failing),
    "failing-in-distribution-means-failing-out-of-it": either(failing_together),
    "prompts-explain-failures": (under(ONES, depends=0.2), under(0.5 * ONES)),
    "steering-is-worst-where-it-is-needed": (under(ONES, needed=0.2), under(0.5 * ONES)),
    "distant-settings-have-other-vectors": (lambda rng: cosines(rng, 0.5), lambda rng: cosines(rng, 0.0)),
    "models-agree-out-of-distribution": either(two_shifted),
}
BY_ALGEBRA = {"bias-is-not-mended-by-calibration"}


def test_every_claim_of_the_first_paper_has_a_true_and_a_false_world():
    assert set(WORLDS) | BY_ALGEBRA == set(BY_ID)


@pytest.mark.parametrize("name", WORLDS)
def test_a_judge_finds_a_true_claim_four_times_in_five_and_a_false_one_once_in_ten_at_most(name):
    rng, one = np.random.default_rng(7), BY_ID[name]
    said = []
    for world in WORLDS[name]:
        trials = [one.judge(world(rng)) for _ in range(RUNS)]
        assert all(isinstance(trial, Trial) for trial in trials)
        said.append([verdict_of(trial.effect, trial.least, trial.none) for trial in trials])
    assert said[0].count(AGREES) >= 0.8 * RUNS and said[1].count(AGREES) <= 0.1 * RUNS


@pytest.mark.parametrize("name", WORLDS)
def test_the_false_world_a_claim_makes_of_its_own_numbers_is_seldom_called_true(name):
    """Also where the claim is true: the world is made without what the claim is about."""
    rng, one = np.random.default_rng(3), BY_ID[name]
    for world in WORLDS[name][: 1 if name == "other-directions-are-no-better" else 2]:
        # 0.1 and a standard error and a half.
        assert verdicts.false_worlds(one.judge(world(rng)), worlds=20)[0] <= 0.2


@pytest.mark.parametrize(
    ("estimate", "low", "high", "said"),
    [
        (0.5, 0.2, 0.8, AGREES),
        (0.2, 0.1, 0.25, DIFFERS),  # something, and too little of it
        (0.2, 0.1, 0.6, OPEN),
        (0.5, -0.1, 1.1, OPEN),
        (-0.4, -0.6, -0.2, DIFFERS),
    ],
)
def test_a_verdict_follows_from_the_interval_and_the_least_effect(estimate, low, high, said):
    assert verdict_of(Interval(estimate, low, high), least=0.3) == said


def a_claim(trial, **about):
    made: list[verdicts.Claim] = []

    @verdicts.claim(made, "tan-fig-1", **about)
    def water_is_wet(evidence):
        """Water is wet, whatever
        is poured.

        Rule: {COUNT} glasses of water
        or more
        False world: a desert
        """
        return trial

    return made[0]


def test_a_rule_that_passes_false_worlds_is_no_verdict():
    effect, worlds = Interval(1.0, 0.9, 1.1), ((0, -1, 1), (1, 0.9, 1.1), (0.6, 0.5, 0.7))
    draws = (lambda rng, world=world: Interval(*world) for world in worlds)
    never, always, less = (Trial("wet", "wet {}", effect, 0.5, draw) for draw in draws)

    def judged(trial, failure=""):
        return verdicts.judged(a_claim(trial), None, "letter", "tiny", failure)

    def where_false(row):
        return verdicts.shown(verdicts.frame([row]))["where false"].item()

    row = judged(never)
    assert (row["id"], row["statement"]) == ("water-is-wet", "Water is wet, whatever is poured.")
    assert (row["rule"], row["false_world"]) == ("30 glasses of water or more", "a desert")
    assert (row["verdict"], row["false_agree"], row["ours"]) == (AGREES, 0, "wet 1.00 [0.90, 1.10]")
    assert row["false_effect"] == row["false_most"] == 0 and where_false(row) == "0.00 (0.00)"
    assert row["detectable"] == pytest.approx(2.8 * 0.2 / 3.92)
    row = judged(always)
    assert (row["verdict"], row["false_agree"]) == (UNSPECIFIC, 1)
    row = judged(less)
    assert (row["verdict"], row["false_agree"], row["false_most"]) == (UNSPECIFIC, 1, 0.6)
    row = judged(replace(less, alike=Interval(0.5, 0.4, 0.6)))
    assert (row["verdict"], row["effect"], row["alike"]) == (UNSPECIFIC, 1.0, 0.5)  # like is set beside like
    assert where_false(row) == "0.60 (0.60); at zero 0.50"
    few = Interval(0, -1, 1), Interval(1.2, -1, 3)  # none meets the rule, and most have as large an effect
    row = judged(Trial("wet", "wet {}", effect, 0.5, lambda rng: few[int(rng.random() < 0.7)]))
    assert (row["verdict"], row["false_agree"]) == (UNSPECIFIC, 0)
    row = judged(never, failure="steering fails")
    assert (row["verdict"], row["ours"], where_false(row)) == (UNTESTABLE, "steering fails", "")
    assert list(verdicts.frame([row])) == verdicts.COLUMNS


OF_ONE_SIDE, OF_EITHER = "bias-explains-variance", "letter-bias-has-a-direction-of-its-own"


@pytest.mark.parametrize(("name", "signs"), [(OF_ONE_SIDE, ONES), (OF_EITHER, EVERY_SIDE)])
def test_a_bias_that_placebos_have_as_well_is_not_specific(name, signs):
    alone, shared = (by_letter(np.random.default_rng(0), signs, of_placebos=size) for size in (0.0, 1.5))
    said = [verdicts.judged(BY_ID[name], each, "letter", "tiny", worlds=20) for each in (alone, shared)]
    assert [row["verdict"] for row in said] == [AGREES, UNSPECIFIC]


def sized(found):
    """The same run with label-shuffled vectors that move each data set as far as its vector, one way or the other."""
    ways = np.where(np.arange(99) % 2, 1.0, -1.0)[:, None]
    beside = [each.beside | {"shuffled": ways * each.slopes} for each in found.sets]
    found.sets = [replace(each, beside=some) for each, some in zip(found.sets, beside, strict=True)]
    return found


def sized_by_setting(found):
    """Likewise over prompt settings; all of them far enough to have one direction."""
    every = found.shifts[["dataset", "example_id", "vector", "setting"]]
    far = 9 + found.shifts["steerability"]
    drawn = [every.assign(slope=way * far, labels=f"shuffled-{i:02d}") for i, way in enumerate((1, -1, 1))]
    found.unlabelled = pd.concat([every.assign(slope=far, labels="full"), *drawn])
    return found.unlabelled


@pytest.mark.parametrize(
    ("name", "world"),
    [
        ("dataset-property", as_published),
        ("models-agree-in-distribution", two_models),
        ("id-and-ood-correlate", shifted_alike),
        ("variances-correlate", varied),
        ("models-agree-out-of-distribution", two_shifted),
    ],
)
def test_an_order_that_vectors_without_labels_have_as_well_is_not_specific(name, world):
    """Data sets that any vector moves far, and others that none does: no order of what the labels are about."""
    alone, found = (world(np.random.default_rng(0), True) for _ in range(2))
    said = [verdicts.judged(BY_ID[name], alone, "statement", "tiny", worlds=40)["verdict"]]
    for run in (found, *found.others):
        (sized_by_setting if hasattr(run, "shifts") else sized)(run)
    row = verdicts.judged(BY_ID[name], found, "statement", "tiny", worlds=40)
    assert [*said, row["verdict"]] == [AGREES, UNSPECIFIC] and row["false_agree"] == 1


def test_failing_that_vectors_without_labels_do_as_well_is_not_specific():
    found = failing_together(np.random.default_rng(0), True)
    fails = found.shifts.groupby("dataset")["steerability"].transform("mean") < 0
    sized_by_setting(found)["slope"] = np.tile(np.where(fails, 0.001, 1.0), 4)
    one = BY_ID["failing-in-distribution-means-failing-out-of-it"]
    row = verdicts.judged(one, found, "statement", "tiny", worlds=20)
    assert (row["verdict"], row["false_agree"]) == (UNSPECIFIC, 1)


@pytest.mark.parametrize(("kept", "verdict"), [(0.3, UNSPECIFIC), (1.0, AGREES)])
def test_a_loss_that_vectors_without_labels_have_as_well_is_not_specific(kept, verdict):
    found = WORLDS["ood-is-weaker"][0](np.random.default_rng(0))
    off = "vector != 'USER_NEG' and setting == 'USER_NEG'"
    drawn = sized_by_setting(found).reset_index(drop=True)
    drawn.loc[(drawn["labels"] != "full") & drawn.index.isin(drawn.query(off).index), "slope"] *= kept
    full = found.shifts["steerability"].to_numpy()
    found.unlabelled = drawn.assign(slope=drawn["slope"].where(drawn["labels"] != "full", np.tile(full, 4)))
    row = verdicts.judged(BY_ID["ood-is-weaker"], found, "statement", "tiny", worlds=20)
    assert row["verdict"] == verdict and row["false_effect"] == pytest.approx(1 - kept, abs=0.1)


def test_the_direction_of_a_vector_without_labels_is_told_by_items_that_are_not_measured():
    found = shifted_alike(np.random.default_rng(0), True)
    sized_by_setting(found)
    one = by_set(found)[0]
    split = np.where(one.halves, 1.0, -1.0)[:1]  # up on one half of the items, down on the other
    one = replace(one, halves=one.halves[:1], shuffled=dict.fromkeys(one.shuffled, split))
    told, apart = (one.unlabelled(np.random.default_rng(0), apart=apart) for apart in (False, True))
    assert (apart.slopes[SAME] < 0).all() and len(told.slopes[SAME]) == 24


@pytest.mark.parametrize(("alike", "verdict"), [(True, UNSPECIFIC), (False, AGREES)])
def test_cosines_that_vectors_without_labels_have_as_well_are_not_specific(alike, verdict):
    rng = np.random.default_rng(0)
    found = cosines(rng, 0.5)
    index = found.cosines.set_index(["dataset", "first", "second"])["cosine"]
    drawn = {i: index if alike else rng.permutation(index) for i in range(3)}
    found.unlabelled_cosines = pd.DataFrame(drawn, index.index)
    one = BY_ID["distant-settings-have-other-vectors"]
    assert verdicts.judged(one, found, "statement", "tiny", worlds=20)["verdict"] == verdict


def test_an_order_that_holds_within_kinds_alone_or_between_them_alone_is_none():
    """Two kinds that trade places; and two kinds with a gap between them and no order within."""
    rng, one = np.random.default_rng(0), BY_ID["dataset-property"]
    gap, inside = 2 * (np.arange(COUNT) % 2), rng.normal(0, 0.3, COUNT)
    for theirs, mine in ((inside + gap, inside - gap), (rng.permutation(inside) + gap, inside + gap)):
        found = evidence(sets(rng, mine))
        published = pd.Series(theirs, [each.name for each in found.sets])
        found.llama = lambda column, published=published: published
        trial = one.judge(found)
        assert verdict_of(trial.effect, trial.least, trial.none) != AGREES


def test_other_texts_under_the_same_names_do_not_decide_on_the_published_order():
    found = as_published(np.random.default_rng(0), True)
    found.settings.source = "bundled"
    assert isinstance(BY_ID["dataset-property"].judge(found), Untestable)


def test_steering_that_stays_as_strong_in_late_layers_has_no_peak_in_the_middle():
    one = BY_ID["middle-layers-steer-best"]
    trial = one.judge(layered(np.random.default_rng(0), lambda layer: min(layer, 15) / 15))
    assert verdict_of(trial.effect, trial.least, trial.none) != AGREES


def test_what_no_shift_can_lower_is_not_testable():
    """Noise of items that drowns the sets: two halves in one and the same setting do not agree."""
    rng, one = np.random.default_rng(0), BY_ID["id-and-ood-correlate"]
    found = one.judge(moved(rng, ONES, ONES))
    assert isinstance(found, Untestable) and "two halves in distribution agree at" in found.reason


def test_to_find_none_among_few_sets_does_not_say_that_there_is_none():
    for name in ("two-clusters", "some-sets-fail"):
        trial = BY_ID[name].judge(WORLDS[name][1](np.random.default_rng(1)))
        assert verdict_of(trial.effect, trial.least, trial.none) == OPEN and "0 of" in trial.ours


def test_nothing_that_presupposes_steering_is_judged_where_steering_fails():
    """Letters in small models: slopes a thousandth of the spread of unsteered propensities."""

    def run(mean):
        table = [(f"set-{i}", mean, propensity) for i in range(8) for propensity in (-1.0, 0.0, 1.0)]
        found = Evidence(load_profile("smoke"), "letter")
        found.__dict__["slopes"] = pd.DataFrame(table, columns=["dataset", "steerability", "baseline"])
        return found

    assert run(0.5).failure() == ""
    assert run(0.001).failure().startswith("steering fails: tiny moves by 0.001")


def test_few_data_sets_are_not_judged_and_the_reason_is_said():
    rng = np.random.default_rng(0)
    for one in claims.CLAIMS:
        if one.id in ("mean-positive", "beats-shuffled-labels", "varies-across-datasets", "dataset-property"):
            found = one.judge(evidence(sets(rng, [1.0, 1.0, 1.0])))
            assert isinstance(found, Untestable) and found.reason == "only 3 data sets"


def test_every_claim_of_both_papers_names_an_exhibit_and_comes_once():
    from companion import claims_mayne

    both = [*claims.every(), *claims_mayne.CLAIMS]
    assert len({claim.id for claim in both}) == len(both)
    assert {claim.exhibit for claim in both} <= set(EXHIBITS)


@pytest.mark.parametrize("form", ["statement", "letter"])
@pytest.mark.parametrize("stage", ["placebo", "shift", "sweep"])
def test_a_committed_record_has_all_that_the_claims_judged_on_it_ask_for(form, stage):
    """A run may have a record of prompt settings and none of placebos: what a book on a laptop is built from."""
    every = claims.evidence(load_profile("laptop"), "", stage).get(form, [])
    runs = [run for run in every if run.settings.recorded]
    for one in claims.every():
        if claims._stage(one) == stage:
            for run in claims._together(runs) if one.across else runs:
                assert isinstance(one.judge(run), Trial | Untestable) and isinstance(run.failure(), str)


def test_every_two_models_on_one_text_are_compared():
    names = ("laptop-papers-qwen", "laptop-papers", "laptop-papers-gemma", "laptop-full", "laptop-full-gemma")
    runs = [Evidence(load_profile(name, recorded=True), "statement") for name in names]
    pairs = [(one, *one.others) for one in claims._together(runs)]
    found = [tuple(each.settings.profile for each in pair) for pair in pairs]
    assert found == [*combinations(names[:3], 2), names[3:]]
    assert claims._together(runs[::3]) == [runs[0]]  # each on a text of its own


def test_files_of_ones_own_have_no_claims_over_prompt_settings(caplog):
    """Their concept has no persona sentences; the other claims are judged on them."""
    settings = replace(load_profile("smoke"), datasets=("mine.jsonl",))
    assert claims.evidence(settings, "statement", "shift") == {}
    assert "mine.jsonl: no persona sentences" in caplog.text
