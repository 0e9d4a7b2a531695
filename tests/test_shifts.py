"""Shifts of prompt setting, as tables and in notebooks: against naive loops, scipy, and the numbers of the paper."""

import json
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from conftest import refused
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics.pairwise import cosine_similarity

from companion import page, profiles, published
from companion.page import Run
from companion.profiles import BOOK_FORMATS, load_profile
from companion.tan import experiment, records, tables
from companion.tan.jobs import MEAN
from companion.tan.work import pairwise
from companion.templates import SETTINGS
from steerkit import SteerkitError, mean_interval
from steerkit.formats import FORMATS
from steerkit.steerability import SLOPES

SETS = ("openness", "narcissism", "myopic-reward", "my-own-set")
MODELS = ("llama2-7b", "qwen1.5-14b")


def make_slopes(sets=SETS, items: int = 6, seed: int = 0, vectors=(*SETTINGS, MEAN, "random-00")):
    """OOD SLOPES of random numbers; baselines depend on the setting and the example, not on the vector."""
    rng = np.random.default_rng(seed)
    rows = []
    for name in sets:
        base = rng.normal(size=(len(SETTINGS), items))
        for vector, (s, setting) in product(vectors, enumerate(SETTINGS)):
            for i in range(items):
                row = {"dataset": name, "example_id": f"{name}/{i}", "format": "statement", "vector": vector}
                scores = {"steerability": rng.normal(0.6), "baseline": base[s, i]}
                rows.append(row | scores | {"setting": setting, "layer": 12})
    return pd.DataFrame(rows).reindex(columns=[*SLOPES, "setting"])


def make_vectors(settings=SETTINGS) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    vectors = {name: {s: rng.normal(size=7) for s in settings} for name in SETS}
    return {name: own | {MEAN: sum(own.values()) / len(own)} for name, own in vectors.items()}


def some_shifts(values: dict[str, list[float]], variance: float = 1.0) -> pd.DataFrame:
    """A SHIFTS table from lists of means by 'train->test'."""
    rows = []
    for about, means in ((shift.split("->"), means) for shift, means in values.items()):
        rows += [(f"set-{i}", "m", *about, mean, variance * (i + 1)) for i, mean in enumerate(means)]
    return pd.DataFrame(rows, columns=["dataset", "model", "train", "test", "mean", "variance"])


# The table of shifts


def test_a_row_of_the_table_is_the_mean_variance_and_interval_of_its_examples():
    slopes = make_slopes()
    table = tables.shift_table(slopes, "smollm2-135m")
    assert list(table.columns[:9]) == "dataset model train test mean low high variance n".split()
    assert len(table) == len(SETS) * 7 * 5 and set(table["model"]) == {"smollm2-135m"}
    chosen = "dataset == 'narcissism' and {} == 'SYS_POS' and {} == 'USER_NEG'"
    values = slopes.query(chosen.format("vector", "setting"))["steerability"].to_numpy()
    row = table.query(chosen.format("train", "test")).iloc[0]
    interval = mean_interval(values)
    assert row[["mean", "variance", "n"]].tolist() == pytest.approx([values.mean(), np.var(values), 6])
    assert (row["low"], row["high"]) == (interval.low, interval.high)
    key = ["dataset", "train", "test"]
    mixed = tables.shift_table(slopes.sample(frac=1, random_state=3), "smollm2-135m")
    pd.testing.assert_frame_equal(*(each.sort_values(key, ignore_index=True) for each in (table, mixed)))
    row = tables.shift_table(make_slopes(items=1), "m").iloc[0]  # a single example has no interval
    assert row["n"] == 1 and np.isnan([row["low"], row["high"]]).all() and np.isfinite(row["mean"])


def test_the_interval_counts_the_examples_of_a_group_as_one():
    slopes = make_slopes(("openness",), items=8, vectors=("BASE",))
    pair = slopes["example_id"].str.rpartition("/")[2].astype(int) // 2
    slopes["steerability"] = pair.astype(float)  # both of a pair are equal: singly they would be too sure
    single = tables.shift_table(slopes, "m").iloc[0]
    paired = tables.shift_table(slopes.assign(group=pair), "m").iloc[0]
    assert paired["high"] - paired["low"] > 1.2 * (single["high"] - single["low"])
    assert paired["mean"] == single["mean"]


# Correlations over data sets


@pytest.mark.parametrize("model", MODELS)
def test_correlations_of_the_published_values_are_those_of_the_paper(model):
    rows = published.shifts().query("model == @model")
    table = tables.correlations(rows, draws=20).set_index(["train", "test", "measure"])
    assert set(table["n"]) == {39} and set(table["reason"]) == {""}
    names = {("mean", "spearman"): "", ("mean", "pearson"): "", ("variance", "spearman"): "-variance"}
    for shift, ((measure, kind), ending) in product(published.tan()["shifts"][1:], names.items()):
        stated = published.statistic(f"{kind}-id-ood{ending}:{shift}", model)
        assert table.loc[(*shift.split("->"), measure), kind] == pytest.approx(stated, abs=0.005)


def test_the_correlations_of_variances_that_the_paper_states_are_reproduced():
    table = tables.correlations(published.shifts(), draws=10)
    for model, stated in zip(MODELS, (0.536, 0.341), strict=True):
        row = table.query(f"model == '{model}' and train == 'SYS_POS' and measure == 'variance'")
        assert row["spearman"].item() == pytest.approx(stated, abs=0.005)
    gap = table[table["n"] == 0]  # models of which nothing is published
    assert set(gap["reason"]) == {"not measured"} and gap["spearman"].isna().all()
    assert set(table.loc[table["n"] > 0, "model"]) == {*MODELS, "gemma-2-2b"}


def test_correlations_agree_with_scipy_and_their_intervals_with_a_loop():
    x, y = np.random.default_rng(4).normal(size=(2, 9))
    values = {"BASE->BASE": list(x)} | {"->".join(s): list(y) for s in tables.MOVED}
    row = tables.correlations(some_shifts(values), draws=100, seed=5).iloc[0]
    picks = np.random.default_rng(5).integers(9, size=(9, 100)).T
    for name, statistic in (("spearman", spearmanr), ("pearson", pearsonr)):
        assert row[name] == pytest.approx(statistic(x, y).statistic)
        expected = np.quantile([statistic(x[pick], y[pick]).statistic for pick in picks], [0.025, 0.975])
        assert row[[f"{name}_low", f"{name}_high"]].tolist() == pytest.approx(list(expected))


def test_a_constant_side_gives_nan_with_the_reason():
    values = {"BASE->BASE": [0.1, 0.2, 0.3], "BASE->USER_NEG": [0.1] * 3}
    table = tables.correlations(some_shifts(values, variance=0.0), draws=20)
    mean, variance = (table[(table["measure"] == m) & (table["n"] == 3)].iloc[0] for m in tables.MEASURES)
    assert mean["reason"] == "second side constant" and np.isnan(mean["pearson"])
    assert variance["reason"] == "first and second side constant" and np.isnan(variance["spearman_low"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"BASE->BASE": [0.1, 0.2], "BASE->USER_NEG": [0.1, 0.3]}, "or more.*found 2 with means"),
        ({"BASE->BASE": [0.1, 0.2, 0.3]}, "found only BASE->BASE"),
        ({"BASE->BASE": [0.1, 0.2, np.inf], "BASE->USER_NEG": [1.0, 2.0, 3.0]}, "1 infinite rows"),
    ],
)
def test_too_few_data_sets_or_shifts_are_refused(values, message):
    refused(tables.correlations, some_shifts(values), said=message)
    rows = published.shifts()
    with pytest.raises(SteerkitError, match=r"repeated.*rename one of the models"):
        tables.correlations(pd.concat([rows, rows.query("model == 'gemma-2-2b'").assign(n=9)]))


# Between models


@pytest.mark.parametrize(
    ("models", "setting", "name", "sets"),
    [
        (3, tables.SAME, "spearman-matrix-id", 38),
        (3, ("SYS_POS", "USER_NEG"), "spearman-matrix-ood", 38),
        (4, tables.SAME, "spearman-matrix-id-31", 31),
        (2, tables.SAME, "spearman-models-id", 38),
        (2, ("SYS_POS", "USER_NEG"), "spearman-models-ood", 38),
    ],
)
def test_the_correlations_between_models_of_the_paper_are_reproduced(models, setting, name, sets):
    names = list(published.tan()["models"])[:models]
    table = tables.between_models(published.shifts().query("model in @names"), *setting, draws=200)
    assert list(zip(table["first"], table["second"], strict=True)) == list(combinations(names, 2))
    assert set(table["n"]) == {sets}
    for _, row in table.iterrows():
        stated = published.statistic(name, f"{row['first']}/{row['second']}")
        assert row["spearman"] == pytest.approx(stated, abs=0.01 if models > 2 else 0.0005)
        assert row["low"] < stated < row["high"]


def test_models_without_the_shift_are_left_out_and_fewer_than_two_or_three_common_sets_refused():
    rows = published.shifts()
    table = tables.between_models(rows, "SYS_POS", "USER_NEG", draws=10)
    assert table.attrs["left_out"] == ["llama3.1-70b"] and len(table) == 3
    with pytest.raises(SteerkitError, match=r"two models or more.*found 1 \(gemma-2-2b\)"):
        tables.between_models(rows.query("model == 'gemma-2-2b'"), "BASE", "BASE")
    refused(tables.between_models, rows, "USER_POS", "USER_POS", said=r"found 0 \(none\)")
    other = some_shifts({"BASE->BASE": [1.0, 2.0, 3.0]})
    with pytest.raises(SteerkitError, match="on 0"):
        tables.between_models(pd.concat([other, rows.query("model == 'gemma-2-2b'")]), "BASE", "BASE")


# Relative steerability


def naive_relative(slopes: pd.DataFrame, minimum: float) -> tuple[dict, int]:
    """Straight from the definition, one number at a time."""
    found, dropped = {}, 0
    parts = slopes.sort_values("example_id").groupby(["dataset", "vector", "setting"])
    cells = dict(iter(parts))
    for name, a, b in product(SETS, SETTINGS, SETTINGS):
        own = cells[name, b, b]["steerability"].to_numpy().mean()
        if own <= minimum:
            dropped += 1
            continue
        before, after = (cells[name, a, setting]["baseline"].to_numpy() for setting in (a, b))
        changes = np.abs(before - after)
        ratio = cells[name, a, b]["steerability"].to_numpy().mean() / abs(own)
        found[name, a, b] = (ratio, changes.mean(), own, a == b)
    return found, dropped


@pytest.mark.parametrize("minimum", [0.25, 0.7])
def test_relative_steerability_is_that_of_a_naive_loop(minimum):
    slopes = make_slopes()
    expected, dropped = naive_relative(slopes, minimum)
    table = tables.relative(slopes.sample(frac=1, random_state=1), "m", minimum)
    assert dropped > 0 and len(table) == len(expected) == 100 - dropped
    for _, row in table.iterrows():
        values = row[["relative", "distance", "own", "diagonal"]].tolist()
        assert values == pytest.approx(expected[row["dataset"], row["train"], row["test"]])
    diagonal = table[table["diagonal"]]
    assert (diagonal["relative"] == 1).all() and (diagonal["distance"] == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s[(s["vector"] != "SYS_NEG")], "none for SYS_NEG"),
        (lambda s: s.assign(baseline=np.nan), "6 examples or more without in"),
        (lambda s: s[s["example_id"].ne("openness/2") | s["setting"].ne("BASE")], "1 examples or more"),
        (lambda s: s[s["setting"] != "BASE"], "more without in BASE"),
        (lambda s: s[s["vector"] == "MEAN"], "none for any of them"),
    ],
)
def test_relative_steerability_without_its_parts_is_refused(change, message):
    refused(tables.relative, change(make_slopes()), "m", said=message)


# Cosines


@pytest.mark.parametrize("settings", [SETTINGS, tuple(s for s in SETTINGS if not s.startswith("SYS"))])
def test_cosines_and_distances_are_those_of_a_naive_loop(settings):
    """A model without system settings has the mean of the others."""
    slopes, vectors = make_slopes(), make_vectors(settings=settings)
    slopes = slopes[slopes["setting"].isin(settings)]
    vectors["openness"]["random-00"] = np.ones(7)  # is left out
    table = tables.cosines({name: pairwise(own) for name, own in vectors.items()}, slopes, "m")
    assert len(table) == len(SETS) * len(list(combinations([*settings, MEAN], 2)))
    for _, row in table.iterrows():
        own = vectors[row["dataset"]]
        cosine = cosine_similarity([own[row["first"]]], [own[row["second"]]]).item()
        level = slopes[slopes["dataset"] == row["dataset"]].groupby("setting")["baseline"].mean()
        level["MEAN"] = level.mean()
        expected = [cosine, abs(level[row["first"]] - level[row["second"]])]
        assert row[["cosine", "distance"]].tolist() == pytest.approx(expected)
    with pytest.raises(SteerkitError, match="every example of elsewhere"):
        tables.cosines({"elsewhere": pairwise({"BASE": np.ones(3), "MEAN": np.ones(3)})}, slopes, "m")


# Over profiles, and in a notebook


@pytest.fixture
def three(monkeypatch):
    """Three profiles with random slopes of six data sets of the paper, each with a manifest of its own."""
    sets = tuple(published.datasets().index[:6])

    def slopes(settings, answer_format):
        table = make_slopes(sets, vectors=(*SETTINGS, MEAN), seed=settings.seed).assign(format=answer_format)
        table.attrs = {"manifests": [{"name": f"{settings.model}-{answer_format}"}]}
        return table

    monkeypatch.setattr(experiment, "shift_slopes", slopes)
    return [replace(load_profile("smoke"), profile=f"p{i}", model=f"m{i}", seed=i) for i in range(3)]


def names(manifests: list[dict]) -> list[str]:
    return [manifest["name"] for manifest in manifests]


def test_there_are_no_rows_where_nothing_steers_more_than_the_minimum(three):
    slopes = experiment.shift_slopes(three[0], "letter").query("vector == setting")
    largest = slopes.groupby(["dataset", "setting"])["steerability"].mean().max()
    table, manifests = tables.relative_of(three[0], "letter", largest)
    assert table.empty and "diagonal" in table and names(manifests) == ["m0-letter"]
    assert len(tables.relative_of(three[0], "letter", largest - 1e-9)[0]) == 5


def test_profiles_stand_one_below_the_other_and_published_rows_last_without_a_manifest(three):
    table, manifests = tables.over_models(three, "letter")
    assert list(table["model"].unique()) == ["m0", "m1", "m2"] and len(table) == 3 * 6 * 6 * 5
    assert list(table.index) == list(range(len(table)))
    assert names(manifests) == ["m0-letter", "m1-letter", "m2-letter"]
    alone = tables.shifts_of(three[1], "letter")[0]
    pd.testing.assert_frame_equal(table[table["model"] == "m1"].reset_index(drop=True), alone)
    table, manifests = tables.with_published(three[:1], "letter")
    assert list(table["model"].unique()) == ["m0", *MODELS, "gemma-2-2b"]
    assert names(manifests) == ["m0-letter"]
    ours, theirs = (rows[rows["model"] == "qwen1.5-14b"] for rows in (table, published.shifts()))
    assert ours["mean"].to_numpy() == pytest.approx(theirs["mean"].to_numpy(), nan_ok=True)


def test_correlations_of_every_profile_and_format_stand_above_the_papers_own(three):
    table, manifests = tables.all_correlations({"statement": three[:1], "letter": three[1:2]})
    per_model = 2 * len(tables.MOVED)  # means and variances
    counts = {"statement": per_model, "letter": per_model, "letter, published": 2 * per_model}
    assert table["format"].value_counts(sort=False).to_dict() == counts
    assert table["format"].unique().tolist() == list(counts)
    assert names(manifests) == ["m0-statement", "m1-letter"]
    wide = tables.over_models(three[1:2], "letter")[0].set_index(["train", "test", "dataset"]).sort_index()
    for row in table[table["format"] == "letter"].to_dict("records"):
        x, y = (wide.loc[shift, row["measure"]] for shift in (tables.SAME, (row["train"], row["test"])))
        assert row["n"] == 6
        assert row["spearman"] == pytest.approx(spearmanr(x, y.reindex(x.index)).statistic, abs=5.1e-4)
        assert row["pearson"] == pytest.approx(pearsonr(x, y.reindex(x.index)).statistic, abs=5.1e-4)


def test_models_are_set_side_by_side_where_they_have_read_one_text():
    runs = [load_profile(name) for name in ("laptop-full", "laptop-full-gemma", "laptop-papers-qwen")]
    assert tables.on_one_text(runs) == [("smollm2-135m", "gemma3-270m")]


class TestRun:
    """What a notebook's parameters come to."""

    def run(self, profile: str = "smoke", folder=None) -> Run:
        return Run("tan-fig-5", load_profile(profile), folder)

    def test_formats_have_two_short_names_and_may_be_joined(self):
        expected = {"both": BOOK_FORMATS, "all": tuple(FORMATS), "yes-no,letter": ("yes-no", "letter")}
        assert {given: self.run().formats(given) for given in expected} == expected
        for given in ("letter,prose", "letter,"):
            refused(self.run().formats, given, said="an answer format")

    def test_where_none_is_named_the_profile_says_which(self):
        assert self.run().formats("") == BOOK_FORMATS and self.run().formats("", ("letter",)) == ("letter",)
        laptop = self.run("laptop")
        assert laptop.formats("") == ("statement",) and laptop.formats("", ("letter",)) == ()
        assert laptop.formats("letter") == laptop.formats("letter", ("statement",)) == ("letter",)

    @pytest.mark.parametrize("given", ["both", "prose"])
    def test_the_profile_published_runs_nothing(self, given):
        run = self.run("published")
        assert run.published and run.formats(given) == () and not self.run().published
        assert run.by_format("", "shift", given) == {}

    def test_a_model_has_a_tab_in_the_formats_of_its_profile_and_in_any_that_is_named(self):
        laptop = self.run("laptop")
        found = laptop.by_format("", "shift", "").items()
        names = {form: [one.profile for one in runs] for form, runs in found}
        assert names == {
            "statement": ["laptop-papers", "laptop-papers-gemma", "laptop-full", "laptop-full-gemma"],
            "letter": ["laptop-papers-qwen"],
        }
        [letter] = laptop.by_format("", "shift", "letter").values()
        assert {one.profile for one in letter} == {"laptop-papers-qwen", "laptop-full", "laptop-full-gemma"}
        assert list(laptop.by_format("", "shift", "", ("letter",))) == ["letter"]
        [one] = laptop.by_format("laptop-full", "shift", "").values()  # a profile named: in its own formats
        assert [each.profile for each in one] == ["laptop-full"]

    def test_records_stand_beside_a_run_as_its_profile_says_it_and_on_its_data_sets(self):
        run = self.run("laptop")
        found = [(one.profile, form, one.datasets) for one, form in page.each(run.with_records("grid", ""))]
        sets, beside = (
            run.settings.datasets,
            [f"laptop-{name}" for name in ("papers-qwen", "papers", "papers-gemma", "full-gemma")],
        )
        wanted = [(name, "statement") for name in ("laptop", *beside)] + [("laptop-papers-qwen", "letter")]
        assert found == [(*one, sets) for one in wanted]
        [letter] = run.with_records("grid", "", ("letter",))["letter"]
        assert letter.profile == "laptop-papers-qwen"
        sweeps = run.with_records("sweep", "")  # which have data sets of their own
        papers = load_profile("laptop-papers-qwen", recorded=True)
        assert sweeps == {"statement": [run.settings, papers], "letter": [papers]}
        alone = Run("tan-fig-1", load_profile("laptop", layer=3), None)
        assert alone.with_records("grid", "") == {"statement": [alone.settings]}
        assert self.run("published").with_records("grid", "") == {}

    def test_no_record_stands_beside_a_run_on_sets_that_it_lacks(self, tmp_path, monkeypatch):
        for path in profiles.folder().glob("laptop*.yaml"):
            changed = path.read_text().replace("datasets: selected    #", "datasets: apart  #")
            (tmp_path / path.name).write_text(changed)
        monkeypatch.setenv("STEERKIT_PROFILES", str(tmp_path))
        run = self.run("laptop")
        assert run.with_records("grid", "") == {"statement": [run.settings]}

    def test_a_profile_that_is_shown_in_a_format_is_computed_where_no_record_of_it_is(self):
        own = replace(load_profile("laptop"), formats=("letter",), compared=("laptop-full",))
        found = records.by_format(own, "shift")
        assert [(one.profile, one.recorded) for one in found["letter"]] == [("laptop", False)]
        assert [one.profile for one in found["statement"]] == ["laptop-full"]

    def test_a_model_is_named_with_the_data_when_they_are_the_papers(self):
        plain, papers = (load_profile("laptop", source=source) for source in ("bundled", "papers"))
        assert self.run().model_label == "tiny random model"
        assert Run("x", papers, None).model_label == "SmolLM2-135M-Instruct on the papers' data"
        named = tables.name_of(plain), tables.name_of(papers)
        assert named == ("smollm2-135m", "smollm2-135m (papers' data)")

    def test_a_gap_says_in_the_place_of_a_figure_why_there_is_none(self, smoke, own_folders, capsys):
        _, manifests = tables.relative_of(smoke.settings, "letter", 1e9)
        self.run(folder=own_folders).show_gap("letter", "Nothing steers more than <1e9>.", manifests)
        frame = pd.read_csv(own_folders / "tan-fig-5-letter.csv")
        assert frame.to_dict("list") == {"no figure, because": ["Nothing steers more than <1e9>."]}
        about = json.loads((own_folders / "tan-fig-5-letter.json").read_text())
        assert about["caption"] == "Nothing steers more than &lt;1e9>." and about["alt"] == ""
        assert len(about["artefacts"]) == 3 and about["profile"] == "smoke" and "smoke" in about["line"]
        assert not list(own_folders.glob("*.png"))
