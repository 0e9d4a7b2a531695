"""Notebook parameters: read as Python reads them, checked before anything runs."""

from __future__ import annotations

import ast
import json

import pytest

from companion.exhibits import EXHIBITS, TYPES, Parameter, convert, parameters_of, parse_assignments, resolve
from steerkit.errors import SteerkitError

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

    @pytest.mark.parametrize("value", ["thirteen", "13.5", 13.5, True, "True", "[13]", None, "", "1 3"])
    def test_a_layer_that_is_no_whole_number_is_refused(self, value):
        with pytest.raises(SteerkitError, match="layer of type int"):
            resolve(FIGURE_4, {"layer": value})


class TestConvert:
    @pytest.mark.parametrize(
        ("kind", "value", "expected"),
        [
            *(("str", "13", "13"), ("int", "-1", -1), ("float", "2", 2.0), ("float", 2, 2.0)),
            *(("float", "1e-3", 0.001), ("bool", "False", False), ("list", "[1, 'a']", [1, "a"])),
        ],
    )
    def test_text_is_read_as_the_declared_type(self, kind, value, expected):
        found = convert(Parameter("p", kind, None, ""), value)
        assert found == expected and type(found) is TYPES[kind]

    @pytest.mark.parametrize(
        ("kind", "value", "named"),
        [
            *(("int", "x", "str"), ("int", 1.0, "float"), ("int", True, "bool"), ("float", "x", "str")),
            *(("float", True, "bool"), ("bool", "yes", "str"), ("bool", 1, "int"), ("list", "1,2", "tuple")),
            *(("str", 13, "int"), ("int", "__import__('os').getcwd()", "str")),
        ],
    )
    def test_another_type_is_refused_and_named(self, kind, value, named):
        with pytest.raises(SteerkitError, match=f"p of type {kind}") as found:
            convert(Parameter("p", kind, 0, "help"), value)
        assert found.value.found.endswith(f"a {named}")


def test_only_the_first_equals_sign_of_an_assignment_separates_and_there_must_be_one():
    given = ["model=a=b", "layer=", "x= y "]
    assert parse_assignments(given) == {"model": "a=b", "layer": "", "x": " y "}
    with pytest.raises(SteerkitError, match="name=value"):
        parse_assignments(["layer=1", "13"])
