"""Profiles: the one dial. A profile is a YAML file; anything in it can be overridden by a parameter."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from companion import models
from companion.data.datasets import SUFFIXES, names
from companion.places import PROFILES
from companion.templates import TEMPLATES
from steerkit.errors import need, one_of, told
from steerkit.formats import FORMATS
from steerkit.ndif.address import server

PUBLISHED = "published"  # the profile that draws the paper's own numbers and computes nothing
BOOK_FORMATS = ("statement", "letter")  # the format in which small models steer, and the papers' own
# How to say what a setting must be, by its annotation; and the least that a number may be, by its name.
KINDS = {
    "str": "a text",
    "int": "a whole number",
    "bool": "true or false",
    "tuple[str, ...]": "a list of names",
    "tuple[float, ...]": "a list of numbers",
    "tuple[float, ...] | dict[str, tuple[float, ...]]": "a list of numbers, or one for each answer format",
    "dict[str, int]": "a number for each answer format",
    "int | dict[str, int] | None": "a whole number, or one for each answer format",
}
LEAST = {"train": 1, "test": 1, "step": 1, "seed": 0}


@dataclass(frozen=True, kw_only=True)
class Shift:
    """The grid over prompt settings (Tan et al. 2024, section 5): groups to train and test on, multipliers."""

    train: int | dict[str, int] | None
    test: int | dict[str, int] | None
    multipliers: tuple[float, ...]
    datasets: tuple[str, ...] = ()  # empty: those of the profile


@dataclass(frozen=True, kw_only=True)
class Sweep(Shift):
    """The steerability-by-layer sweep that chooses the layer (Tan et al. 2024: 10% train, 10% test)."""

    step: dict[str, int]  # every how many layers, a format
    template: str = ""  # chat template of the training prompts; "qwen" for every model in the released code

    def every(self, answer_format: str) -> int:
        """Every how many layers; a format that the profile does not name has the largest step that it names."""
        return self.step.get(answer_format, max(self.step.values(), default=1))


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers of a run.

    `train` and `test` count groups: pairs of a bundled set and of any statements, else items of the papers'. `layer` maps
    a format to a block; a format that is missing gets the block its sweep chooses. `counterbalanced` asks every item of
    `letter` and `yes-no` in both of its forms, in the main grid; `balanced` counts as many items of each word and letter
    as of another. The vectors of the next of `others` are placebos of a set; empty: of `datasets`. `recorded` reads the
    committed record (`companion.tan.records`) instead of computing. `compared` names the profiles that figures over
    several models show, `formats` the answer formats in which this one is run and shown where nobody names any.
    A `long` profile is computed only when somebody asks for it. `remote` is the address of a server that runs the traces:
    it decides no number, and is in no key.
    """

    profile: str
    model: str
    datasets: tuple[str, ...]
    source: str
    split: str
    train: int | dict[str, int] | None
    test: int | dict[str, int] | None
    multipliers: tuple[float, ...] | dict[str, tuple[float, ...]]
    sweep: Sweep
    shift: Shift
    counterbalanced: bool = False
    balanced: bool = False
    others: tuple[str, ...] = ()
    layer: dict[str, int] = field(default_factory=dict)
    fidelity: str = "letter"
    spelling: str = "template"
    engine: str = "tree"
    seed: int = 0
    recorded: bool = False
    compared: tuple[str, ...] = ()
    formats: tuple[str, ...] = BOOK_FORMATS
    long: bool = False
    remote: str = ""


class _Once(yaml.SafeLoader):
    """YAML in which no line is there twice; the last one would count."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        found = super().construct_mapping(node, deep)
        if len(found) < len(node.value):
            raise yaml.YAMLError(f"a line twice among {', '.join(map(str, found))}")
        return found


def folder() -> Path:
    """Where profiles are: STEERKIT_PROFILES, else those that come with the package."""
    chosen = Path(os.environ.get("STEERKIT_PROFILES") or PROFILES)
    need(chosen.is_dir(), "a folder of profiles", str(chosen), "set STEERKIT_PROFILES to one, or unset it.")
    return chosen


def profile_names() -> list[str]:
    """Names of the profiles there are."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def load_profile(name: str, **overrides: Any) -> Settings:
    """The settings of a profile, with overrides (None and empty values leave the profile's).

    An unknown profile or setting is refused, and a value that makes no sense.
    """
    one_of("a profile", name, profile_names())
    path = folder() / f"{name}.yaml"
    # Lines that are missing or misplaced, and files that are none.
    kinds = (yaml.YAMLError, TypeError, KeyError, AttributeError, OSError, UnicodeDecodeError, RecursionError)

    def found(error: Exception) -> str:
        return f"{path.name} with another form ({' '.join(str(error).split())})"

    with told(kinds, "a profile with the lines of profiles/laptop.yaml", "mend the profile.", found=found):
        values = yaml.load(path.read_text(encoding="utf-8"), _Once)
        _check_known(values, path.name)
        for part in (values, values["sweep"], values["shift"]):
            part |= {name: _datasets(part[name]) for name in ("datasets", "others") if name in part}
        parts = {"sweep": Sweep(**_tuples(values["sweep"])), "shift": Shift(**_tuples(values["shift"]))}
        parts["remote"] = os.environ.get("STEERKIT_REMOTE") or values.get("remote", "")
        settings = Settings(profile=name, **_tuples(values | parts))
    return override(settings, **overrides)


def override(settings: Settings, **values: Any) -> Settings:
    """Settings with some values changed; `layer` and `datasets` may come in the short forms of the command line."""
    _check_known(values, "the settings asked for")
    given = {name: value for name, value in values.items() if value not in (None, "", -1, [], ())}
    if "datasets" in given:  # of the grid over prompt settings too, whatever the profile takes there
        given["shift"] = replace(given.get("shift", settings.shift), datasets=())
    if isinstance(given.get("datasets"), str):
        given["datasets"] = _datasets(given["datasets"])
    if isinstance(given.get("layer"), int):
        given["layer"] = dict.fromkeys(FORMATS, given["layer"])
    changed = replace(settings, **_tuples(given))
    _check(changed)
    return changed


def _datasets(given: str | list[str]) -> list[str]:
    """Names of data sets; "tan" are the 40 of the paper, "selected" the 13 of its main figures, "apart" 60 others."""
    from companion.published import SELECTED

    if isinstance(given, str):
        groups = {"tan": names("tan"), "selected": SELECTED, "apart": names("apart")}
        return list(groups.get(given) or [name.strip() for name in given.split(",")])
    return given


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    """Lists become tuples, so that settings can be keys; those for each answer format too."""
    kinds = {list: tuple, dict: _tuples}
    return {name: kinds.get(type(value), lambda kept: kept)(value) for name, value in values.items()}


def label_of(settings: Settings) -> str:
    """The name of a profile's model as a reader knows it; the papers' own data are named too."""
    label = models.label(settings.model)
    return f"{label} on the papers' data" if settings.source == "papers" else label


def _check_known(values: dict[str, Any], where: str) -> None:
    known = {f.name for f in fields(Settings)}
    unknown = ", ".join(sorted(set(values) - known))
    expected = f"settings of a profile ({', '.join(sorted(known))})"
    need(not unknown, expected, f"{unknown} in {where}", "mend the spelling.")


def _check(settings: Settings) -> None:
    for owner in (settings, settings.sweep, settings.shift):
        kinds = get_type_hints(type(owner))
        for setting in (each for each in fields(owner) if each.type in KINDS):
            name, value = setting.name, getattr(owner, setting.name)
            wanted = f"{name} as {KINDS[setting.type]}"
            need(_fits(value, kinds[name]), wanted, repr(value), "mend that setting.")
            for form in value if isinstance(value, dict) else ():
                one_of(f"an answer format in {name}", form, FORMATS)
            if name in LEAST and value is not None:
                least = min(value.values(), default=0) if isinstance(value, dict) else value
                wanted = f"{name} of at least {LEAST[name]}"
                need(least >= LEAST[name], wanted, str(value), "give more, or leave it out for the usual.")
        each = owner.multipliers
        for given in each.values() or [()] if isinstance(each, dict) else [each]:
            finite = {value for value in given if abs(value) <= sys.float_info.max}
            step = "give a range such as -1.5,0,1.5; a slope needs two points."
            fits = len(finite) > 1 and finite >= set(given)
            need(fits, "at least two different multipliers", f"{list(given)}", step)
    need(bool(settings.datasets), "at least one data set", "none", "name some, or leave the setting out.")
    known: dict[str, str] = {}  # tables and figures would not tell two files of one name apart
    for name in settings.datasets:
        called = Path(name).stem if name.lower().endswith(SUFFIXES) else name
        found = f"{known.get(called)} and {name}, which are both called {called}"
        step = "name each once, or rename one of the files."
        need(called not in known, "data sets of different names", found, step, "Nothing was run.")
        known[called] = name
    for form in settings.formats:
        one_of("an answer format in formats", form, FORMATS)
    one_of("a chat template", settings.sweep.template, ["", *TEMPLATES])
    if settings.remote:
        server(settings.remote)  # an address that is none is said now, not after an hour


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is what an annotation says, and what is in it as well."""
    inside = get_args(kind)
    if get_origin(kind) is UnionType:
        return any(_fits(value, each) for each in inside)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(all(map(_fits, pair, inside)) for pair in value.items())
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(each, inside[0]) for each in value)
    return type(value) is kind or (kind is float and type(value) is int)
