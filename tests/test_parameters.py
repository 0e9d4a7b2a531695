"""What is chosen, the parameters of a notebook and the profile: read as Python and YAML do, checked before anything runs."""

import ast
import json
from dataclasses import asdict, replace

import pytest
import yaml
from conftest import refused

from companion.cli.given import check_given
from companion.data.datasets import names
from companion.exhibits import EXHIBITS, TYPES, Parameter, convert, parameters_of, parse_assignments, resolve
from companion.profiles import load_profile, override, profile_names
from companion.tan.jobs import Job, inputs
from steerkit.errors import SteerkitError
from steerkit.formats import FORMATS

FIGURE_4 = EXHIBITS["tan-fig-4"].notebook


@pytest.mark.parametrize("exhibit", EXHIBITS.values(), ids=lambda exhibit: exhibit.id)
def test_papermill_finds_the_same_parameters(exhibit):
    """papermill's own inspector, which reads the cell by regular expression, is the oracle."""
    from papermill import inspect_notebook

    theirs = inspect_notebook(str(exhibit.notebook))
    ours = parameters_of(exhibit.notebook)
    assert list(ours) == list(theirs)
    for name, parameter in ours.items():
        assert parameter.default == ast.literal_eval(theirs[name]["default"])
        assert parameter.type == theirs[name]["inferred_type_name"]
        assert parameter.help == theirs[name]["help"]


def test_lines_that_papermill_would_misread_are_read_as_python(tmp_path):
    source = 'a: str = "x # y"  # with a mark\nb: list = [1,\n  2]  # over two lines\nc: float = -1.5\n# d: int = 3\n'
    tagged = {"metadata": {"tags": ["parameters"]}, "source": source.splitlines(keepends=True)}
    cells = [{"metadata": {}, "source": "z: int = 1"}, tagged]
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": cells}))
    assert parameters_of(tmp_path / "n.ipynb") == {
        "a": Parameter("a", "str", "x # y", "with a mark"),
        "b": Parameter("b", "list", [1, 2], "over two lines"),
        "c": Parameter("c", "float", -1.5, ""),
    }


class TestResolve:
    def test_defaults_fill_what_is_not_given_and_text_becomes_the_declared_type(self):
        values = resolve(FIGURE_4, {"profile": "smoke", "layer": "13", "train": 5})
        defaults = {name: parameter.default for name, parameter in parameters_of(FIGURE_4).items()}
        assert values == defaults | {"profile": "smoke", "layer": 13, "train": 5}

    def test_an_unknown_parameter_is_answered_with_the_known_ones_and_their_types(self):
        with pytest.raises(SteerkitError, match=r"layer \(int\)") as found:
            resolve(FIGURE_4, {"layr": "13", "modle": "x", "profile": "smoke"})
        assert found.value.found == "layr, modle" and found.value.done == "Nothing was run."

    def test_text_is_read_as_the_declared_type(self):
        given = [("str", "13", "13"), ("int", "-1", -1), ("float", "2", 2.0), ("float", 2, 2.0)]
        given += [("float", "1e-3", 0.001), ("bool", "False", False), ("list", "[1, 'a']", [1, "a"])]
        for kind, value, expected in given:
            found = convert(Parameter("p", kind, None, ""), value)
            assert found == expected and type(found) is TYPES[kind]

    def test_another_type_is_refused_and_named(self):
        wrong = [("int", "x", "str"), ("int", 1.0, "float"), ("int", True, "bool"), ("int", "13.5", "float")]
        wrong += [
            ("int", None, "NoneType"),
            ("int", "", "str"),
            ("int", "[13]", "list"),
            ("float", "x", "str"),
        ]
        wrong += [
            ("float", True, "bool"),
            ("bool", "yes", "str"),
            ("bool", 1, "int"),
            ("list", "1,2", "tuple"),
        ]
        wrong += [("str", 13, "int"), ("int", "__import__('os').getcwd()", "str")]
        for kind, value, named in wrong:
            found = refused(convert, Parameter("p", kind, 0, "help"), value, said=f"p of type {kind}")
            assert found.found.endswith(f"a {named}")


def test_only_the_first_equals_sign_of_an_assignment_separates_and_there_must_be_one():
    given = ["model=a=b", "layer=", "x= y "]
    assert parse_assignments(given) == {"model": "a=b", "layer": "", "x": " y "}
    refused(parse_assignments, ["layer=1", "13"], said="name=value")


def test_a_value_may_begin_with_the_home_of_the_user_and_so_may_each_of_a_list(monkeypatch):
    monkeypatch.setenv("HOME", "/h")
    given = ["model=~/m", "datasets=openness, ~/a.jsonl,~/b.jsonl", "sae=a~/b", "dataset=~c", "profile=x ~/y"]
    found = parse_assignments(given)
    assert found["model"] == "/h/m" and found["datasets"] == "openness, /h/a.jsonl,/h/b.jsonl"
    assert (found["sae"], found["dataset"], found["profile"]) == ("a~/b", "~c", "x ~/y")


SMOKE = load_profile("smoke")


@pytest.fixture
def write(tmp_path, monkeypatch):
    """`write(text)` makes it the profile "mine" of a user's own folder; else the changes to `smoke`."""
    monkeypatch.setenv("STEERKIT_PROFILES", str(tmp_path))
    valid = {k: v for k, v in asdict(SMOKE).items() if k != "profile"}

    def save(text: str | None = None, **changes) -> None:
        values = {k: v for k, v in (valid | changes).items() if v != "absent"}
        text = yaml.safe_dump(values) if text is None else text
        (tmp_path / "mine.yaml").write_text(text, errors="surrogatepass")

    return save


class TestProfiles:
    @pytest.mark.parametrize("name", profile_names())
    def test_every_profile_of_the_repository_loads_and_names_itself(self, name):
        settings = load_profile(name)
        assert settings.profile == name and settings.datasets
        assert settings.sweep.step.keys() >= {"letter", "statement"}

    def test_the_default_profile_is_what_the_book_promises(self):
        laptop = load_profile("laptop")
        assert laptop.model == "smollm2-135m" and len(laptop.datasets) == 13
        assert laptop.multipliers == (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)

    def test_an_own_folder_of_profiles_takes_the_place_of_the_repositorys(self, write):
        write(seed=3)
        assert profile_names() == ["mine"]
        assert load_profile("mine") == override(SMOKE, profile="mine", seed=3)

    def test_a_profile_of_another_form_is_one_clear_error(self, write):
        texts = ["model: [tiny", "- model", "model: tiny\nmodel: tiny-gemma3\n", "[" * 5000, "# \ud800"]
        more = {"train": 2, "test": 2, "step": {}, "multipliers": [0, 1], "stride": 3}
        lines = [{"model": "absent"}, {"sweep": {"train": 2}}, {"sweep": more}]
        for changes in [*({"text": text} for text in texts), *lines]:
            write(**changes)
            refused(load_profile, "mine", said="a profile")
        write(train="four")
        refused(load_profile, "mine", said="train as a whole number")


class TestOverrides:
    def test_only_what_is_named_changes_and_settings_can_be_compared(self):
        assert override(SMOKE, model="", datasets="", layer=-1, train=-1, test=None, multipliers=[]) == SMOKE
        changed = asdict(override(SMOKE, train=2, seed=5))
        assert {k for k, v in changed.items() if v != asdict(SMOKE)[k]} == {"train", "seed"}
        both = ("openness", "/data/my set.jsonl")
        assert override(SMOKE, datasets="openness, /data/my set.jsonl").datasets == both
        assert override(SMOKE, layer=0).layer == dict.fromkeys(FORMATS, 0)
        changed = override(SMOKE, multipliers=[-1.5, 0.0, 1.0, 1.5], datasets=["openness"])
        assert changed.multipliers == (-1.5, 0.0, 1.0, 1.5) and changed.datasets == ("openness",)

    def test_each_format_can_have_multipliers_of_its_own(self):
        changed = override(SMOKE, multipliers={"letter": [-1.0, 0.0, 1.0], "statement": [0.0, 2.0]})
        wanted = {"letter": (-1.0, 0.0, 1.0), "statement": (0.0, 2.0), "yes-no": (0.0, 2.0)}
        for form, steered in wanted.items():
            job = Job(changed, "grid", "openness", form, 1)
            assert job.multipliers == inputs(job)["multipliers"] == steered

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ({"test": 2.5}, "test as a whole number"),
            ({"model": 3}, "model as a text"),
            ({"datasets": 3}, "datasets as a list"),
            ({"layer": "10"}, "layer as a number for each"),
            ({"datasets": [1]}, "datasets as a list of names"),
            ({"layer": {"letter": None}}, "layer as a number for each"),
            ({"layer": {"prose": 1}}, "an answer format in layer"),
            ({"seed": True}, "seed as a whole number"),
            ({"seed": -2}, "seed of at least 0"),
            ({"test": 0}, "test of at least 1"),
            ({"test": {}}, "test of at least 1; found {}"),
            ({"sweep": replace(SMOKE.sweep, template="none")}, "a chat template"),
            ({"sweep": replace(SMOKE.sweep, step={"letter": 0})}, "step of at least 1"),
            ({"train": {"letter": -5}}, "train of at least 1"),
            ({"multipliers": ["a", "b"]}, "multipliers as a list of numbers"),
            ({"multipliers": [1.0]}, "two different multipliers"),
            ({"multipliers": [0.0, float("nan")]}, "two different multipliers"),
            ({"multipliers": {"letter": [0.0, 1.0], "statement": [1.0]}}, "two different multipliers"),
            ({"multipliers": {"prose": [0.0, 1.0]}}, "an answer format in multipliers"),
            ({"multipliers": {}}, "two different multipliers"),
        ],
        ids=str,
    )
    def test_a_value_that_makes_no_sense_is_refused(self, values, expected):
        refused(override, SMOKE, said=expected, **values)


def test_own_files_of_one_name_are_refused_and_sets_of_one_name_in_two_folders_of_a_source_are_not():
    refused(load_profile, "smoke", datasets="a/mine.jsonl,b/mine.csv", said="data sets of different names")
    both = load_profile("smoke", datasets="caa/generate/refusal,caa/test/refusal", source="papers")
    assert len(both.datasets) == 2


def test_what_the_book_names_is_taken_before_a_kernel_starts(tmp_path):
    """Nothing is fetched for it: CAA's two files under one name, a base model by its hub id, any set of the paper."""
    near = {"profile": "gemma-2-2b", "model": "google/gemma-2-2b", "answer_format": "letter", "layer": 25}
    check_given(EXHIBITS["mayne-fig-1"], near | {"dataset": "caa/corrigible-neutral-HHH"})
    known = {"profile": "gemma-2-2b", "layer": 26}  # whose number of blocks is in the registry
    refused(check_given, EXHIBITS["mayne-fig-1"], known, said="a layer from 0 to 25")
    for name in names("tan"):
        check_given(EXHIBITS["tan-tab-1"], {"dataset": name})
    answers = {"positive": "Yes, I do.", "negative": "No, I do not."}
    lines = (json.dumps({"prompt": f"{n}?", **answers}) for n in "ab")
    (tmp_path / "my data, v2.jsonl").write_text("\n".join(lines))  # one file: `dataset` is no list
    check_given(EXHIBITS["mayne-fig-1"], {"dataset": str(tmp_path / "my data, v2.jsonl")})
    refused(check_given, EXHIBITS["mayne-fig-1"], {"dataset": "mine.jsonl"}, said="mine.jsonl")
