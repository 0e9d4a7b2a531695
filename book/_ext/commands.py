"""Commands that run a notebook again, ready to copy: steerkit, papermill, a server; and buttons where they can work."""

from __future__ import annotations

import json
import shlex
from typing import Any

import yaml

from _ext.markdown import code, tabs
from companion import exhibits
from companion.exhibits import Exhibit
from companion.parameters import parameters_of

SERVER = "https://api.ndif.us"  # the public NDIF service; any other address stands in its place


def changed(exhibit: Exhibit, values: dict[str, Any]) -> dict[str, Any]:
    """The parameters that a run had set to something else than the notebook's default."""
    known = parameters_of(exhibit.notebook)
    return {name: value for name, value in values.items() if name in known and value != known[name].default}


def steerkit_run(exhibit: Exhibit, values: dict[str, Any], remote: str = "") -> str:
    """`steerkit run ...`, with the parameters that differ from the defaults."""
    words = ["steerkit", "run", exhibit.id]
    for name, value in changed(exhibit, values).items():
        if name != "remote" or not remote:
            words += ["-p", f"{name}={value}"]
    return shlex.join([*words, *(["--remote", remote] if remote else [])])


def papermill(exhibit: Exhibit, values: dict[str, Any], remote: str = "") -> str:
    """`papermill ...` for the same run.

    Texts go as raw strings (-r): papermill would make a number of the text "13". Lists go as YAML (-y).
    """
    words = ["papermill", f"notebooks/{exhibit.id}.ipynb", "out.ipynb"]
    for name, value in (changed(exhibit, values) | ({"remote": remote} if remote else {})).items():
        if isinstance(value, str):
            words += ["-r", name, value]
        elif isinstance(value, list):
            words += ["-y", f"{name}: {json.dumps(value)}"]
        else:
            words += ["-p", name, str(value)]
    return shlex.join(words)


def again(exhibit: Exhibit, values: dict[str, Any]) -> str:
    """All ways of running a notebook again, in tabs."""
    ways = [
        ("steerkit", "steerkit", code(steerkit_run(exhibit, values))),
        ("papermill", "papermill", code(papermill(exhibit, values))),
        ("server", "On a server", _on_a_server(exhibit, values)),
    ]
    hosted = _hosted(exhibit)
    return tabs("run-with", [*ways, *([("hosted", "In a browser", hosted)] if hosted else [])])


def _on_a_server(exhibit: Exhibit, values: dict[str, Any]) -> str:
    if "remote" not in parameters_of(exhibit.notebook):
        return "This notebook needs no model, so there is nothing to run on a server."
    commands = (steerkit_run(exhibit, values, SERVER), papermill(exhibit, values, SERVER))
    chapter = "[what travels, and how to run a server](/use/remote.md)"
    more = f"; {chapter}" if (exhibits.BOOK / "use" / "remote.md").exists() else ""
    return f"{code(*commands)}\n\nThe server must hold the model{more}."


def repository() -> tuple[str, str]:
    """Address of the repository and its branch, as `_config.yml` gives them; empty when it does not."""
    about = yaml.safe_load((exhibits.ROOT / "_config.yml").read_text()).get("repository") or {}
    return str(about.get("url") or "").rstrip("/"), str(about.get("branch") or "main")


def _hosted(exhibit: Exhibit) -> str:
    """Binder and Colab, which open notebooks of public GitHub repositories only."""
    url, branch = repository()
    owner = url.partition("github.com/")[2]
    if not owner:
        return ""
    path = f"notebooks/{exhibit.id}.ipynb"
    binder = f"https://mybinder.org/v2/gh/{owner}/{branch}?labpath={path}"
    colab = f"https://colab.research.google.com/github/{owner}/blob/{branch}/{path}"
    install = code(f"!git clone {url} companion && pip install --quiet -e companion", language="python")
    return f"[Binder]({binder}) · [Colab]({colab}), where a first cell must install the package:\n\n{install}"


def about_hosting() -> str:
    """What stands above the table of notebooks about Binder and Colab."""
    if _hosted(next(iter(exhibits.EXHIBITS.values()))):
        return "The tab *In a browser* leads to Binder and to Colab."
    return (
        "There are no links to Binder and Colab, because this copy of the book does not know its repository: set "
        "`repository.url` in `_config.yml` to its address on GitHub and build again."
    )
