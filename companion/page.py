"""What the notebooks share: turning parameters into settings, and putting a result on the page and beside it.

Every exhibit leaves files next to the executed notebook, `<id>-<format>.png|svg|csv|json`. The JSON holds caption, alt
text and manifest; the book is compiled from those files alone.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from companion import store
from companion.profiles import PUBLISHED, Settings, load_profile
from companion.tan import experiment, records
from companion.tan.experiment import check_format
from steerkit.prompts import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from matplotlib.figure import Figure

    from companion.figures.style import Drawn
    from companion.tan.jobs import Stage

BOOK_FORMATS = ("statement", "letter")  # "both": the format in which small models steer, and the papers' own
TABS = {
    "statement": "Format: statement",
    "letter": "Format: letter (the paper's)",
    "yes-no": "Format: yes-no",
}
MODEL_LABELS = {
    "smollm2-135m": "SmolLM2-135M-Instruct",
    "gemma3-270m": "Gemma-3-270M (base)",
    "tiny": "tiny random model",
    "tiny-gemma3": "tiny random Gemma 3",
    "llama2-7b": "Llama-2-7B-chat",
    "qwen1.5-14b": "Qwen1.5-14B-Chat",
    "gemma-2-2b": "Gemma-2-2B-it",
}


# What a figure was computed from: a table of the package, something with a `manifest`, manifests, or several of these.
Source = Any


@dataclass(frozen=True)
class Run:
    """One execution of a notebook."""

    id: str
    settings: Settings
    folder: Path

    @property
    def model_label(self) -> str:
        """The model's name as a reader knows it."""
        return label_of(self.settings)

    @property
    def published(self) -> bool:
        """Whether only the paper's own numbers are drawn (profile `published`)."""
        return self.settings.profile == PUBLISHED

    def formats(self, answer_format: str) -> tuple[str, ...]:
        """The answer formats to show: one, "both" (the two of the book), or "all"; names may be joined by commas."""
        if self.published:
            return ()
        named = {"both": BOOK_FORMATS, "all": FORMATS}.get(answer_format) or answer_format.split(",")
        for form in named:
            check_format(form)
        return tuple(named)

    def beside(
        self, answer_format: str, table: Callable[[Settings, str], pd.DataFrame]
    ) -> list[pd.DataFrame]:
        """`table(settings, format)` of the runs whose figures are tabs beside this one (`companion.tan.records.beside`)."""
        return [table(settings, answer_format) for settings in records.beside(self.settings, answer_format)]

    def by_format(self, profiles: str, stage: Stage, formats: Sequence[str]) -> dict[str, list[Settings]]:
        """`compared` for each format by itself: a record may hold one and not another."""
        return {form: self.compared(profiles, stage, (form,)) for form in formats}

    def compared(self, profiles: str, stage: Stage, formats: Sequence[str]) -> list[Settings]:
        """Settings of the profiles that a figure over several models shows (`companion.tan.records.compared`)."""
        names = [name.strip() for name in profiles.split(",") if name.strip()]
        return records.compared(self.settings, stage, formats, names)

    def show(self, drawn: Drawn, part: str, source: Source, caption: str, tab: str = "") -> None:
        """Save and display a figure; see `show_figure`."""
        numbers = {"alt": drawn.alt, "manifests": manifests_in(source), "tab": tab}
        show_figure(self, part, drawn.figure, drawn.table, title=caption, **numbers)

    def show_published(self, drawn: Drawn, caption: str) -> None:
        """Show the paper's figure drawn again from its digitised numbers, as a tab of its own."""
        show_published(self, drawn.figure, drawn.table, title=caption, alt=drawn.alt)

    def show_table(self, table: pd.DataFrame, name: str, source: Source, caption: str) -> None:
        """Save a table as CSV and display it."""
        show_table(self, name, table, title=caption, manifests=manifests_in(source))

    def show_gap(self, name: str, reason: str, source: Source) -> None:
        """Say in the place of a figure why there is none."""
        show_gap(self, name, reason, manifests_in(source))


def manifests_in(source: Source) -> list[dict]:
    """The manifests of a table (`attrs`), of something with a `manifest`, or of several of them."""
    if isinstance(source, dict):
        return [source]
    if isinstance(source, pd.DataFrame):
        return source.attrs.get("manifests") or [source.attrs["manifest"]]
    if hasattr(source, "manifest"):
        return [source.manifest]
    return [manifest for each in source for manifest in manifests_in(each)]


def label_of(settings: Settings) -> str:
    """The name of a profile's model as a reader knows it; the papers' own data are named too."""
    label = MODEL_LABELS.get(settings.model, settings.model)
    return f"{label} on the papers' data" if settings.source == "papers" else label


def each(runs: Mapping[str, Sequence[Settings]]) -> Iterator[tuple[Settings, str]]:
    """Every run with its format; `runs` holds the runs of each format."""
    return ((settings, form) for form, chosen in runs.items() for settings in chosen)


def start(exhibit: str, profile: str, **overrides: Any) -> Run:
    """Resolve a notebook's parameters; empty strings and -1 mean "as the profile says".

    Files go into STEERKIT_OUT, which the runner sets, else into the working folder.
    """
    settings = load_profile(profile, **overrides)
    if records.stands_in(exhibit, settings):
        settings = replace(settings, recorded=True)
    return Run(exhibit, settings, Path(os.environ.get("STEERKIT_OUT", ".")))


def show_figure(
    run: Run,
    part: str,
    figure: Figure,
    table: pd.DataFrame,
    *,
    title: str,
    alt: str,
    manifests: list[dict],
    tab: str = "",
) -> None:
    """Save a figure with the data behind it and display both figure and manifest line.

    `part` is the answer format, whose name then ends the caption, or another name for a figure of several formats or
    models, whose title says it all and whose tab in the book is called `tab`.
    """
    from IPython.display import Image, Markdown, display

    from companion.figures import style

    stem = f"{run.id}-{part}"
    png, _, _ = style.save(figure, run.folder / stem, table)
    caption = title
    if part in FORMATS:
        caption += f" {run.model_label}, answer format *{part}*, layer {layer_text(manifests)}."
    about = record(run, part, caption=caption, alt=alt, manifests=manifests, tab=tab)
    display(Image(data=png.read_bytes(), format="png", width=750, alt=alt))
    display(Markdown(f"{caption}\n\n{about['line']}"))


def show_published(run: Run, figure: Figure, table: pd.DataFrame, *, title: str, alt: str) -> None:
    """Show the paper's figure drawn again from its digitised numbers, as a tab of its own."""
    title = f"{title} Redrawn from numbers digitised from the published figure (Llama-2-7B-chat unless it says otherwise)."
    show_figure(
        run, "published", figure, table, title=title, alt=alt, manifests=[], tab="Published (digitised)"
    )


def show_table(run: Run, name: str, table: pd.DataFrame, *, title: str, manifests: list[dict]) -> None:
    """Save a table as CSV and display it."""
    from IPython.display import HTML, Markdown, display

    stem = f"{run.id}-{name}"
    store.write_atomically(run.folder / f"{stem}.csv", store.csv(table))
    about = record(run, name, caption=title, alt="", manifests=manifests)
    # As text with an id of ours: pandas would show a random id and a memory address, other ones in every run.
    display(HTML(table.style.hide(axis="index").set_uuid(stem).to_html()))
    display(Markdown(f"{title}\n\n{about['line']}"))


def show_gap(run: Run, name: str, reason: str, manifests: list[dict]) -> None:
    """Say in the place of a figure why there is none."""
    show_table(run, name, pd.DataFrame({"no figure, because": [reason]}), title=reason, manifests=manifests)


def record(
    run: Run, name: str, *, caption: str, alt: str, manifests: list[dict], tab: str = ""
) -> dict[str, Any]:
    """Write the JSON beside a figure or table: caption, alt text, where the numbers come from."""
    about = {
        "exhibit": run.id,
        "part": name,
        "tab": tab or TABS.get(name, name),
        "caption": caption,
        "alt": alt,
        "line": manifest_line(run.settings, manifests),
        "profile": run.settings.profile,
        "model": run.settings.model,
        "commit": store.commit(),
        "artefacts": [f"{m['name']}-{m['key']}" for m in manifests],
        "engine": sorted({m.get("engine", "") for m in manifests}),
        "records": sorted({m["record"] for m in manifests if "record" in m}),
        "seconds": round(sum(m["seconds"] for m in manifests), 1),
        "data_sha256": {m["inputs"]["dataset"]: m["inputs"]["data_sha256"] for m in manifests},
        "weights_sha256": sorted({m["inputs"]["weights"] for m in manifests}),
        "models": {m["inputs"]["weights"]: m["inputs"]["model"] for m in manifests},
        "versions": store.versions(),
    }
    store.write_atomically(run.folder / f"{run.id}-{name}.json", json.dumps(about, indent=1).encode())
    return about


def manifests_of(runs: Mapping[str, Sequence[Settings]]) -> list[dict]:
    """Manifests of the main grids of some runs."""
    return [m for settings, form in each(runs) for m in experiment.grid(settings, form).attrs["manifests"]]


def seconds_by_model(manifests: list[dict]) -> dict[str, float]:
    """Computing time of the tables, by model."""
    found: dict[str, float] = {}
    for manifest in manifests:
        model = manifest["inputs"]["model"]
        found[model] = found.get(model, 0.0) + manifest["seconds"]
    return found


def manifest_line(settings: Settings, manifests: list[dict]) -> str:
    """One line under every figure: profile, model, weights, data, split, engine, commit."""
    if not manifests and settings.profile == PUBLISHED:
        return f"Profile published: numbers digitised from the paper's figures; commit {store.commit() or 'none'}."
    if not manifests:
        return f"Profile {settings.profile}; needs no model; commit {store.commit() or 'none'}."
    by_model: dict[str, list[dict]] = {}
    for manifest in manifests:
        by_model.setdefault(manifest["inputs"]["model"], []).append(manifest)
    return f"Profile {settings.profile}; " + " ".join(_model_line(part) for part in by_model.values())


def _model_line(manifests: list[dict]) -> str:
    """Model, weights, data, split, engine and code of the tables of one model."""
    first = manifests[0]
    inputs = first["inputs"]
    engines = ", ".join(sorted({m.get("engine", "?") for m in manifests}))
    return (
        f"{inputs['model']}, weights {inputs['weights'][:12]}; {len({m['inputs']['dataset'] for m in manifests})} {inputs['source']} data sets, "
        f"split {inputs['split']} with up to {inputs['limits'][0]} training and {inputs['limits'][1]} test groups, seed {inputs['seed']}; "
        f"engine {engines}; code {first['code']}, commit {first['commit'] or 'none'}; computed in {sum(m['seconds'] for m in manifests):.0f} s."
    )


def layer_text(manifests: list[dict]) -> str:
    """The steered layer of the main grid, or "each" for the sweep."""
    layers = {m["inputs"].get("layer") for m in manifests}
    return ", ".join(str(layer) for layer in sorted(layers)) if None not in layers else "by layer"
