"""What `steerkit run` gives a notebook: what makes no sense is refused before a kernel starts, and not after an hour."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from companion.data.datasets import CAA_PARTS, load_dataset, names
from companion.exhibits import Exhibit, resolve
from companion.models import spec_of
from companion.profiles import load_profile
from steerkit.errors import need

SETTINGS = ("model", "datasets", "layer", "train", "test", "remote")  # those of a profile
BLOCKS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")  # what configurations call their number
DONE = "Nothing was run."


def check_given(exhibit: Exhibit, given: dict[str, Any]) -> None:
    """Refuse names that nothing has, files that are not there or no data, and a block that the model lacks."""
    values = resolve(exhibit.notebook, given)
    if "profile" not in values:  # a notebook of the user's, with rules of its own
        return
    asked = {name: values[name] for name in given if isinstance(values[name], str | int)}
    settings = load_profile(values["profile"], **{name: asked[name] for name in SETTINGS if name in asked})
    for name in filter(None, map(str.strip, asked.get("profiles", "").split(","))):
        load_profile(name)
    wanted = {*(settings.datasets if "datasets" in asked else ()), asked.get("dataset", "")} - {""}
    for name in sorted(wanted - {*names(settings.source), *CAA_PARTS}):  # files, and mistakes
        load_dataset(name, source=settings.source)
    if asked.get("answer_format"):
        from companion.tan import records

        records.named(asked["answer_format"])
    if {"model", "layer"} & asked.keys():
        _check_layer(settings.model, asked.get("layer", -1))


def _check_layer(model: str, layer: int) -> None:
    """Refuse a model that is none, and a block that it lacks as far as that is known without loading anything."""
    spec = spec_of(model)
    about = spec.shape or {}
    with suppress(OSError, ValueError, AttributeError, TypeError):  # whoever opens it says what is wrong
        config = json.loads(Path(spec.folder, "config.json").read_text(encoding="utf-8"))
        about = dict(config.get("text_config", config))
    count = next((about[name] for name in BLOCKS if isinstance(about.get(name), int)), None)
    known = f"from 0 to {count - 1} of {model}" if count else "of at least 0"
    fits = layer == -1 or 0 <= layer < (count or layer + 1)
    need(fits, f"a layer {known}, or -1", str(layer), "choose one of them.", DONE)
