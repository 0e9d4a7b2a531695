"""Profiles: every way to misspell the one dial is answered in words, before anything is computed."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import yaml

from companion.profiles import load_profile, override, profile_names
from steerkit.errors import SteerkitError

SMOKE = load_profile("smoke")


@pytest.fixture
def write(tmp_path, monkeypatch):
    """`write(text)` makes it the profile "mine" of a user's own folder; else the changes to `smoke`."""
    monkeypatch.setenv("STEERKIT_PROFILES", str(tmp_path))
    valid = {k: v for k, v in asdict(SMOKE).items() if k != "profile"}

    def save(text: str | None = None, **changes) -> None:
        values = {k: v for k, v in (valid | changes).items() if v != "absent"}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values) if text is None else text)

    return save


class TestLoading:
    @pytest.mark.parametrize("name", profile_names())
    def test_every_profile_of_the_repository_loads_and_names_itself(self, name):
        settings = load_profile(name)
        assert settings.profile == name and settings.datasets
        assert settings.sweep.step.keys() >= {"letter", "statement"}

    def test_the_default_profile_is_what_the_book_promises(self):
        laptop = load_profile("laptop")
        assert laptop.model == "smollm2-135m" and len(laptop.datasets) == 13
        assert laptop.multipliers == (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
        assert set(laptop.resample_multipliers) <= set(laptop.multipliers)

    def test_an_own_folder_of_profiles_takes_the_place_of_the_repositorys(self, write):
        write(seed=3)
        assert profile_names() == ["mine"]
        assert load_profile("mine") == override(SMOKE, profile="mine", seed=3)

    @pytest.mark.parametrize(
        "changes",
        [
            {"modle": "tiny"},
            {"text": "model: [tiny"},
            {"text": ""},
            {"text": "- model"},
            {"sweep": "absent"},
            {"model": "absent"},
            {"sweep": [1, 2]},
            {"sweep": {"train": 2}},
            {"sweep": {"train": 2, "test": 2, "step": {}, "multipliers": [0, 1], "stride": 3}},
            {"train": "four", "message": "train as a whole number"},
            {"sweep": asdict(SMOKE)["sweep"] | {"multipliers": [1.5, 1.5]}, "message": "found .1.5, 1.5."},
        ],
        ids=lambda changes: str(changes)[:30],
    )
    def test_a_profile_of_another_form_is_one_clear_error(self, write, changes):
        message = changes.get("message", "a profile")
        write(**{name: value for name, value in changes.items() if name != "message"})
        with pytest.raises(SteerkitError, match=message):
            load_profile("mine")


class TestOverrides:
    def test_empty_values_leave_the_profiles(self):
        assert override(SMOKE, model="", datasets="", layer=-1, train=-1, test=None, multipliers=[]) == SMOKE

    def test_only_what_is_named_changes_and_settings_can_be_compared(self):
        changed = asdict(override(SMOKE, train=2, seed=5))
        assert {k for k, v in changed.items() if v != asdict(SMOKE)[k]} == {"train", "seed"}
        both = ("openness", "/data/my set.jsonl")
        assert override(SMOKE, datasets="openness, /data/my set.jsonl").datasets == both
        assert override(SMOKE, layer=0).layer == {"letter": 0, "statement": 0, "yes-no": 0}
        changed = override(SMOKE, multipliers=[-1.5, 0.0, 1.0, 1.5], datasets=["openness"])
        assert changed.multipliers == (-1.5, 0.0, 1.0, 1.5) and changed.datasets == ("openness",)

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ({"trian": 3}, "trian"),
            ({"train": "5"}, "train as a whole number"),
            ({"test": 2.5}, "test as a whole number"),
            ({"model": 3}, "model as a text"),
            ({"datasets": 3}, "datasets as a list"),
            ({"multipliers": 1.5}, "multipliers as a list"),
            ({"layer": "10"}, "layer as a number for each"),
            ({"resamples": 5}, "resamples as a number for each"),
            ({"seed": "x"}, "seed as a whole number"),
            ({"test": 0}, "test of at least 1"),
            ({"train": {"letter": -5}}, "train of at least 1"),
            ({"multipliers": ["a", "b"]}, "two different multipliers"),
            ({"multipliers": [1.5, 1.5]}, "two different multipliers"),
            ({"multipliers": [1.0]}, "two different multipliers"),
            ({"multipliers": [0.0, float("nan")]}, "two different multipliers"),
            ({"multipliers": [-1.0, 1.0]}, "resample_multipliers among"),
        ],
        ids=str,
    )
    def test_a_value_that_makes_no_sense_is_refused(self, values, expected):
        with pytest.raises(SteerkitError, match=expected):
            override(SMOKE, **values)

    def test_without_companions_their_multipliers_do_not_matter(self):
        alone = override(SMOKE, resamples={"letter": 0}, random_vectors=0)
        assert override(alone, multipliers=[-1.0, 1.0]).multipliers == (-1.0, 1.0)
