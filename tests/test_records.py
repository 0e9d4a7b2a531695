"""Records: what is committed is what was computed, what is damaged is refused, and an audit finds a wrong number."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import command_line, refused

from companion import models
from companion import store as artifacts
from companion.data.datasets import load_dataset
from companion.data.splits import groups_of
from companion.page import Run
from companion.profiles import load_profile, override
from companion.tan import experiment, jobs, records, work
from companion.tan.records import SIDES, TOLERANCE
from steerkit.errors import SteerkitError

BOTH = [(stage, form) for stage in ("grid", "shift") for form in ("statement", "letter")]
TABLE = {"grid": experiment.grid, "shift": experiment.shift}
NAME = "openness"
PAPERS = ("authors", "leak")  # stages that need the papers' data


@pytest.fixture(scope="module")
def written(smoke_store, tmp_path_factory) -> Path:
    """Records of every finished table of `smoke`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEERKIT_ARTIFACTS", str(smoke_store.folder))
        patch.setattr(records, "FOLDER", tmp_path_factory.mktemp("written") / "records")
        for stage, form in BOTH:
            records.write(smoke_store.settings, stage, form, TABLE[stage](smoke_store.settings, form))
        return records.FOLDER


@pytest.fixture
def smoke_records(smoke, written, own_folders, monkeypatch):
    """Settings of `smoke`, and its records in a folder of this test."""
    monkeypatch.setattr(records, "FOLDER", shutil.copytree(written, own_folders / "records"))
    only_again(monkeypatch)
    return smoke.settings


def only_again(monkeypatch) -> None:
    """Whole tables are there; only examples are computed again."""
    compute = work.compute

    def again(job, progress=None, ids=()):
        assert ids, "computed although the table is there"
        return compute(job, progress, ids)

    monkeypatch.setattr(work, "compute", again)


def rewritten(settings, stage: str, form: str, change) -> None:
    """Replace a record by what `change` makes of its table, as float32 and with its manifest, as a record is."""
    path = records.path_of(settings.profile, stage, form)
    table = artifacts.read_table(path)
    artifacts.write_table(path, change(table), table.attrs["manifest"])


def audit(settings, stage: str, form: str, seed: int = 0) -> dict:
    """An audit of every example of one data set."""
    one_set = override(settings, datasets=NAME)
    return records.audit(one_set, stage, form, np.random.default_rng(seed), examples_each=99)


class TestRoundTrip:
    @pytest.mark.parametrize(("stage", "form"), BOTH)
    def test_nothing_but_the_rounding_to_float32_is_lost(self, smoke_records, stage, form):
        table, back = TABLE[stage](smoke_records, form), records.read(smoke_records, stage, form)
        labels = [column for column in table.columns if column not in (*SIDES, "propensity")]
        assert set(back.columns) == {*table.columns, "group"} and len(back) == len(table)
        for name, part in back.groupby("dataset"):
            assert part["group"].tolist() == groups_of(load_dataset(name), part["example_id"])
        assert (back[labels].to_numpy() == table[labels].to_numpy()).all()
        for side in SIDES:
            rounded = table[side].to_numpy().astype(np.float32).astype(np.float64)
            assert back[side].dtype == np.float64 and (back[side] == rounded).all()
            # A logit is a float32 already; a mean over tokens is not, and would tell if it were kept in full.
            assert (back[side] != table[side]).any() == (form == "statement")
        assert (back["propensity"] == back["matching"] - back["not_matching"]).all()
        assert np.abs(back["propensity"] - table["propensity"]).max() < 1e-5

    def test_a_record_of_placebos_is_read_and_computed_again(self, smoke_records):
        table = experiment.placebo(smoke_records, "statement")
        records.write(smoke_records, "placebo", "statement", table)
        back = records.read(smoke_records, "placebo", "statement")
        assert np.array_equal(back["slope"], table["slope"].to_numpy().astype(np.float32).astype(float))
        dose = back.attrs["manifests"][0]["dose"]
        resampled = [f"resample-{i:02d}" for i in range(20)]
        assert dose["kl"]["full"] > 0 < dose["residual_norm"]
        assert dose["norm"].keys() == {"full", "pca", "logistic", *resampled}
        found = audit(smoke_records, "placebo", "statement")
        assert found["agrees"] and found["cells"] == 6 * table["vector"].nunique()
        rewritten(smoke_records, "placebo", "statement", lambda kept: kept.assign(slope=kept["slope"] + 0.1))
        assert not audit(smoke_records, "placebo", "statement")["agrees"]

    def test_a_record_says_how_it_was_made_and_keeps_the_manifests_of_its_parts(self, smoke_records):
        about = records.read(smoke_records, "shift", "letter").attrs["record"]
        manifests = experiment.shift(smoke_records, "letter").attrs["manifests"]
        assert about["command"] == "steerkit record smoke --stage shift --format letter"
        assert about["settings"]["model"] == "tiny" and about["settings"]["shift"]["test"] == 2
        assert [m["key"] for m in about["manifests"]] == [m["key"] for m in manifests]
        assert about["seconds"] == pytest.approx(sum(m["seconds"] for m in manifests), abs=0.06)
        table = records.read(override(smoke_records, datasets=NAME), "grid", "statement")  # fewer data sets
        assert set(table["dataset"]) == {NAME} and list(table.index) == list(range(len(table)))
        assert [m["inputs"]["dataset"] for m in table.attrs["manifests"]] == [NAME]

    @pytest.mark.parametrize("form", ["statement", "letter"])
    def test_a_record_gives_the_slopes_of_the_run(self, smoke_records, form, monkeypatch):
        asked = (experiment.slopes, experiment.shift_slopes)
        ran = [slopes(smoke_records, form) for slopes in asked]
        recorded = replace(smoke_records, recorded=True)
        monkeypatch.setattr(work, "model_of", lambda *_: pytest.fail("loaded"))
        monkeypatch.setenv("STEERKIT_ARTIFACTS", str(artifacts.artifacts_dir().parent / "empty"))
        for one, slopes in zip(ran, asked, strict=True):
            other = slopes(recorded, form)
            keys = one.columns.intersection("dataset example_id vector setting group layer".split())
            assert (one[keys].to_numpy() == other[keys].to_numpy()).all()
            assert np.abs(one["steerability"] - other["steerability"]).max() < 1e-5
        assert experiment.pending(recorded, form, "grid") == []

    def test_available_names_every_record_and_none_where_there_is_no_folder(self, smoke_records, monkeypatch):
        assert records.available() == sorted(f"smoke/{stage}-{form}" for stage, form in BOTH)
        monkeypatch.setattr(records, "FOLDER", records.FOLDER / "nowhere")
        assert records.available() == []


class TestRefused:
    def test_a_record_that_is_not_there_is_one_message_that_names_those_that_are(self, smoke_records):
        with pytest.raises(SteerkitError, match=r"for grid, yes-no at .*grid-yes-no\.parquet") as error:
            records.read(smoke_records, "grid", "yes-no")
        assert error.value.found == "none" and "\n" not in str(error.value)
        assert "smoke/grid-letter" in error.value.next_step
        assert "`steerkit record smoke`" in error.value.next_step

    @pytest.mark.parametrize("damage", ["cut", "flipped", "another file"])
    def test_a_damaged_record_is_refused(self, smoke_records, damage):
        path = records.path_of("smoke", "grid", "letter")
        content, at = path.read_bytes(), 150  # inside the first page of the first column
        flipped = content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]
        damaged = {"cut": content[: len(content) // 2], "flipped": flipped, "another file": b"openness,1\n"}
        path.write_bytes(damaged[damage])
        error = refused(records.read, smoke_records, "grid", "letter", said="found a damaged file")
        assert "\n" not in str(error)

    def test_a_data_set_that_the_record_lacks_is_named(self, smoke_records):
        settings = override(smoke_records, datasets="openness,narcissism,conscientiousness")
        refused(records.read, settings, "grid", "letter", said=r"found no conscientiousness.*recorded=False")


@pytest.mark.parametrize("name", records.available())
def test_every_committed_record_is_read_by_its_own_profile(name):
    profile, _, table = name.partition("/")
    stage, _, form = table.partition("-")
    found = records.read(load_profile(profile, recorded=True), stage, form)
    assert len(found) and found[[*jobs.STAGES[stage].numbers]].notna().all(axis=None)


class TestAudit:
    @pytest.mark.parametrize(("stage", "form"), BOTH)
    def test_an_honest_record_agrees(self, smoke_records, stage, form):
        found = records.audit(smoke_records, stage, form, np.random.default_rng(3))
        assert found["record"] == f"smoke/{stage}-{form}" and found["dataset"] in smoke_records.datasets
        # The vector, or six vectors in five settings; three multipliers.
        assert found["cells"] == 2 * (1 if stage == "grid" else 6 * 5) * 3
        assert len(found["examples"].split(", ")) == 2
        assert found["agrees"] is True and 0 <= found["difference"] < TOLERANCE / 10

    def test_a_record_of_a_sweep_is_read_and_computed_again(self, smoke_records):
        table = experiment.sweep(smoke_records, "letter")
        records.write(smoke_records, "sweep", "letter", table)
        kept = records.read(smoke_records, "sweep", "letter")
        assert kept["layer"].nunique() > 1 and len(kept) == len(table)
        summary = experiment.layer_summary(replace(smoke_records, recorded=True), "letter")
        assert experiment.choose_layer(summary) == experiment.layer_of(smoke_records, "letter")
        found = records.audit(smoke_records, "sweep", "letter", np.random.default_rng(3))
        assert found["agrees"] is True and found["cells"] == 2 * kept["layer"].nunique() * 2

    @pytest.mark.parametrize(
        ("side", "by", "agrees"),
        [
            ("matching", 0.5 * TOLERANCE, True),
            ("not_matching", 2 * TOLERANCE, False),
            ("matching", -1, False),
        ],
    )
    def test_an_altered_cell_is_found_if_off_by_more_than_rounding(self, smoke_records, side, by, agrees):
        def alter(table):
            chosen = table.index[table["dataset"] == NAME]
            table.loc[chosen[4], side] += np.float32(by)
            return table

        rewritten(smoke_records, "grid", "statement", alter)
        found = audit(smoke_records, "grid", "statement")
        assert found["agrees"] is agrees and found["difference"] == pytest.approx(abs(by), abs=1e-4)

    @pytest.mark.parametrize("change", ["blank", "missing", "renamed"])
    def test_a_cell_that_the_run_has_otherwise_is_found(self, smoke_records, change):
        """Without a number, without a row, or of a multiplier that the run does not have."""

        def changed(table):
            mine = table.index[(table["dataset"] == NAME) & (table["multiplier"] == 1.5)]
            if change == "missing":
                return table.drop(mine[2])
            column, value = ("matching", np.nan) if change == "blank" else ("multiplier", 1.25)
            table.loc[mine[:3], column] = value
            return table

        rewritten(smoke_records, "grid", "letter", changed)
        found = audit(smoke_records, "grid", "letter")
        assert found["agrees"] is False and found["difference"] < TOLERANCE

    def test_two_exchanged_settings_of_a_shift_are_found(self, smoke_records):
        ends = {"POS": "NEG", "NEG": "POS"}

        def exchanged(table):
            turned = table["setting"].str.replace("POS|NEG", lambda end: ends[end[0]], regex=True)
            return table.assign(setting=turned)

        rewritten(smoke_records, "shift", "statement", exchanged)
        assert audit(smoke_records, "shift", "statement")["agrees"] is False

    def test_it_computes_where_settings_say_to_read_and_the_seed_chooses(self, smoke_records, monkeypatch):
        asked = []
        monkeypatch.setattr(records, "model_of", lambda name, _: asked.append(name) or models.model_of(name))
        recorded = replace(smoke_records, recorded=True)
        one, same = (records.audit(recorded, "grid", "letter", np.random.default_rng(7)) for _ in range(2))
        assert one["agrees"] and asked == ["tiny"] * 2 and one == same


class TestCommandLine:
    def test_record_keeps_finished_tables_and_audit_reads_them(self, smoke, own_folders, monkeypatch):
        monkeypatch.setattr(records, "FOLDER", own_folders / "records")
        only_again(monkeypatch)
        code, out = command_line("record", "smoke", "--stage", "shift", "--format", "statement")
        assert code == 0
        assert "".join(out.split()) == str(own_folders / "records/smoke/shift-statement.parquet")
        code, out = command_line("audit", "--seed", 0, "--json")
        (row,) = json.loads(out)
        assert code == 0 and row["record"] == "smoke/shift-statement" and row["agrees"] is True

    @pytest.mark.parametrize(
        "stage", [s for s, kind in jobs.STAGES.items() if not kind.usual and s not in PAPERS]
    )
    def test_a_stage_that_no_profile_runs_unasked_is_recorded_and_audited(
        self, stage, smoke, own_folders, monkeypatch
    ):
        monkeypatch.setattr(records, "FOLDER", own_folders / "records")
        code, _ = command_line("record", "smoke", "--stage", stage, "--format", "statement")
        assert code == 0 and records.available() == [f"smoke/{stage}-statement"]
        code, out = command_line("audit", "--seed", 0, "--json")
        (row,) = json.loads(out)
        assert code == 0 and row["agrees"] is True and row["cells"] > 0
        number = jobs.STAGES[stage].numbers[0]
        rewritten(smoke.settings, stage, "statement", lambda kept: kept.assign(**{number: kept[number] + 1}))
        code, out = command_line("audit", "--seed", 0, "--json")
        assert code == 1 and json.loads(out)[0]["agrees"] is False

    def test_a_record_that_cannot_be_audited_costs_the_others_nothing(self, smoke_records, capsys):
        path = records.path_of("smoke", "grid", "letter")
        path.write_bytes(path.read_bytes()[:100])
        code, out = command_line("audit", "--seed", 0, "--json")
        others = [name for name in records.available() if name != "smoke/grid-letter"]
        assert code == 1 and [row["record"] for row in json.loads(out)] == others
        found = r"no way to do that for smoke/grid-letter: a damaged file.* Next: choose"
        assert re.search(found, capsys.readouterr().err)
        assert command_line("audit", "smoke/grid-letter") == (1, "")
        assert "a record of profile smoke for grid, letter" in capsys.readouterr().err

    def test_audit_fails_when_one_of_several_records_is_wrong(self, smoke_records):
        def more(table):
            return table.assign(matching=table["matching"] + np.float32(0.1))

        rewritten(smoke_records, "grid", "letter", more)
        code, out = command_line("audit", "--json")
        verdicts = {row["record"]: row["agrees"] for row in json.loads(out)}
        assert code == 1 and verdicts.pop("smoke/grid-letter") is False
        assert len(verdicts) == 3 and all(verdicts.values())

    def test_an_error_is_one_paragraph_and_leaves_nothing(self, own_folders, monkeypatch, capsys):
        monkeypatch.setattr(records, "FOLDER", own_folders / "records")
        wrong = {"record desk": "a profile", "audit smoke/grid-prose": "records to audit"}
        for arguments, expected in wrong.items():
            assert command_line(*arguments.split()) == (1, "") and not records.FOLDER.exists()
            err = capsys.readouterr().err
            assert err.startswith(f"Expected {expected}") and err.count("\n") == 1


class TestCompared:
    """Which profiles a figure over several models shows."""

    RUN = Run("tan-fig-6", load_profile("smoke"), None)

    def test_a_profile_with_all_records_is_read_and_the_run_itself_is_computed(self, smoke_records):
        path = records.path_of("smoke-gemma", "shift", "letter")
        path.parent.mkdir()
        path.write_bytes(b"")
        [shown] = self.RUN.by_format("", "shift", "letter").values()
        found = [(s.profile, s.model, s.recorded) for s in shown]
        # The first has a record too, but is the run itself.
        assert found == [("smoke", "tiny", False), ("smoke-gemma", "tiny-gemma3", True)]
        assert not self.RUN.by_format("smoke-gemma", "grid", "letter")["letter"][0].recorded
        found = self.RUN.by_format("smoke-gemma", "shift", "letter,statement")  # one by one
        assert {form: one.recorded for form, (one,) in found.items()} == {"letter": True, "statement": False}
        refused(self.RUN.by_format, "smoke,desk", "grid", "letter", said="a profile")

    @pytest.mark.parametrize(
        ("names", "compared", "expected"),
        [
            (" laptop-gemma , smoke", ("smoke-gemma",), ["laptop-gemma", "smoke"]),  # names given come first
            ("", (), ["smoke"]),
            # A long profile without a record is run only when it is named.
            ("", ("laptop-full", "smoke-gemma"), ["smoke-gemma", "smoke"]),  # the run's own model comes along
            ("laptop-full", ("laptop-full", "smoke-gemma"), ["laptop-full"]),
            ("", ("laptop-full",), ["smoke"]),
        ],
    )
    def test_they_are_those_named_else_those_of_the_profile(self, smoke_records, names, compared, expected):
        run = replace(self.RUN, settings=replace(self.RUN.settings, compared=compared))
        assert [one.profile for one in run.by_format(names, "grid", "letter")["letter"]] == expected


class TestExtended:
    def test_a_record_keeps_what_it_has_and_only_the_rest_is_computed(self, smoke, own_folders, monkeypatch):
        from companion.cli import progress

        settings = override(smoke.settings, others=smoke.settings.datasets, layer=1)
        computed = []
        monkeypatch.setattr(records, "FOLDER", own_folders / "records")
        monkeypatch.setattr(progress, "compute", lambda asked, *_: computed.append(asked.datasets))
        first, *rest = settings.datasets
        for stage in ("grid", "placebo"):
            progress.record_all(replace(settings, datasets=(first,)), stage, ("letter",))
            progress.record_all(settings, stage, ("letter",))
            progress.record_all(settings, stage, ("letter",))
            alone = (replace(settings, datasets=(name,)) for name in settings.datasets)
            apart = [experiment.table(one, stage, "letter") for one in alone]
            found = records.read(settings, stage, "letter")
            assert found["dataset"].unique().tolist() == [first, *rest]
            number = "slope" if stage == "placebo" else "matching"
            assert np.allclose(found[number], pd.concat(apart)[number], atol=1e-5)
            wanted = [each.attrs["manifests"][0]["key"] for each in apart]
            assert [made["key"] for made in found.attrs["manifests"]] == wanted
        assert computed == 2 * [(first,), tuple(rest)]

    def test_a_data_set_recorded_under_other_settings_is_computed_again(self, smoke_records):
        layer = experiment.layer_of(smoke_records, "letter")
        same = override(smoke_records, layer=layer)
        assert records.done(same, "grid", "letter") == list(same.datasets)
        assert records.done(override(same, layer=layer + 1), "grid", "letter") == []
        assert records.done(replace(same, seed=1), "grid", "letter") == []
        assert records.without(smoke_records, "grid", smoke_records.datasets) is None

    def test_a_grid_over_prompt_settings_may_have_data_sets_of_its_own(self, smoke_records):
        first, second = smoke_records.datasets[:2]
        own = replace(smoke_records, shift=replace(smoke_records.shift, datasets=(first, second)))
        assert tuple(experiment.shift(own, "letter")["dataset"].unique()) == (first, second)
        assert tuple(experiment.grid(own, "letter")["dataset"].unique()) == own.datasets
        assert jobs.datasets_of(records.without(own, "shift", [first]), "shift") == (second,)
        assert jobs.datasets_of(override(own, datasets=second), "shift") == (second,)
