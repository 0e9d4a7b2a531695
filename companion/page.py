"""What the notebooks share: turning parameters into settings, and putting a result on the page and beside it.

Every exhibit leaves `<id>-<part>.png|svg|csv|json` (and a `-narrow.png` for phones) next to the executed notebook; the book is
compiled from these alone.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from IPython.display import HTML, Image, Markdown, display

from companion import registered, store
from companion.data.datasets import SUFFIXES
from companion.profiles import PUBLISHED, Settings, label_of, load_profile
from companion.tan import experiment, records
from companion.tan.jobs import Job, Stage, inputs
from steerkit.formats import FORMATS

if TYPE_CHECKING:
    from companion.figures.style import Drawn

REDRAWN = "Redrawn from numbers digitised from the published figure "
REDRAWN += "(Llama-2-7b-chat unless it says otherwise)."
# What begins markup in a page, and may stand in the name of a model, a file or a profile.
TEXT = str.maketrans({"<": "&lt;", "{": "&#123;", "[": "\\[", "$": "\\$"})
Source = Any  # a table of the package, something with a `manifest`, a manifest, or several of these


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

    def formats(self, answer_format: str, among: Sequence[str] = tuple(FORMATS)) -> tuple[str, ...]:
        """The answer formats to show: those named (`records.named`), or the profile's that are `among` these."""
        own = tuple(form for form in self.settings.formats if form in among)
        return () if self.published else records.named(answer_format) or own

    def by_format(
        self, profiles: str, stage: Stage, answer_format: str, among: Sequence[str] = tuple(FORMATS)
    ) -> dict[str, list[Settings]]:
        """Settings of the profiles that a figure over several models shows, by format (`formats`, `records.by_format`)."""
        if self.published:
            return {}
        names = [name.strip() for name in profiles.split(",") if name.strip()]
        found = records.by_format(self.settings, stage, answer_format, names)
        return {form: runs for form, runs in found.items() if answer_format or form in among}

    def with_records(
        self, stage: Stage, answer_format: str, among: Sequence[str] = tuple(FORMATS)
    ) -> dict[str, list[Settings]]:
        """This run in each of its formats, then the records that its profile is compared with, on the same data sets.

        A run with values of its own stands alone, and so does one whose data sets a record lacks; a record of what this
        run asks itself would say everything twice.
        """
        found = {form: [self.settings] for form in self.formats(answer_format, among)}
        if self.settings == load_profile(self.settings.profile):
            for one, form in each(self.by_format("", stage, answer_format, among)):
                wanted = self.settings.datasets if stage == "grid" else one.datasets
                if one.recorded and set(wanted) <= set(one.datasets) and not self._asks(one, stage, form):
                    found.setdefault(form, []).append(replace(one, datasets=wanted))
        return found

    def _asks(self, other: Settings, stage: Stage, form: str) -> bool:
        """Whether this run asks its model what other settings ask theirs, whatever the layer."""
        if (other.model, other.source) != (self.settings.model, self.settings.source):
            return False  # whose data may not be at hand
        jobs = (Job(each, stage, self.settings.datasets[0], form, 0) for each in (self.settings, other))
        mine, theirs = map(inputs, jobs)
        return mine == theirs

    def recorded(self, stage: Stage, *names: str) -> list[dict[str, pd.DataFrame]]:
        """Tables of a stage by model, from the records of each of `names` (profiles, by commas).

        All of the same models; else none, and the page says so.
        """
        found = [records.those_with(self.settings, stage, "statement", each) for each in names]
        tables = [{one.model: experiment.table(one, stage) for one in chosen} for chosen in found]
        if all(each.keys() == tables[0].keys() != set() for each in tables):
            return tables
        why = f"No record of it, or of one model only: `steerkit record PROFILE --stage {stage}` makes one."
        self.show_gap("gap", why, [])
        return [{} for _ in names]

    def show_registered(self, name: str) -> None:
        """Show what was registered before anything was run."""
        caption = f"The registration, `companion/data/registered/{name}.yaml`."
        self.show_table(registered.table(name), "registered", [], caption)

    def show_run(self, drawn: Drawn, settings: Settings, form: str, source: Source, caption: str) -> None:
        """`show` for one of `with_records`, which tab and caption name."""
        label, own = label_of(settings), settings is self.settings
        tab = f"{label}, {form}" + ", recorded" * (not own and label == self.model_label)
        layers = {manifest["inputs"].get("layer") for manifest in manifests_in(source)}
        layer = "by layer" if None in layers else ", ".join(map(str, sorted(layers)))
        caption += f" {label}, answer format *{form}*, layer {layer}."
        self.show(drawn, form if own else f"{settings.profile}-{form}", source, caption, tab)

    def show(self, drawn: Drawn, part: str, source: Source, caption: str, tab: str = "") -> None:
        """Save a figure with the data behind it and display both figure and manifest line.

        `part` is the answer format, whose name then ends the caption, or another name, with the title `tab` in the book.
        """
        from companion.figures import narrow, paper

        part, points = _file_name(part), paper.points(drawn.figure)
        stem, alt = f"{self.id}-{part}", " ".join(drawn.alt.split())
        png, _, _ = paper.save(drawn.figure, self.folder / stem, drawn.table)
        display(Image(data=png.read_bytes(), format="png", width=750, alt=alt))
        stacked = narrow.save(drawn.figure, self.folder / f"{stem}-narrow.png")
        self._explain(part, source, caption, alt=alt, tab=tab or part, points=points, narrow=stacked)

    def show_published(self, drawn: Drawn, caption: str) -> None:
        """Show the paper's figure drawn again from its digitised numbers, as a tab of its own."""
        self.show(drawn, "published", [], f"{caption} {REDRAWN}", tab="Published (digitised)")

    def show_table(self, table: pd.DataFrame, name: str, source: Source, caption: str) -> None:
        """Save a table as CSV and display it."""
        name = _file_name(name)
        stem = f"{self.id}-{name}"
        store.write_atomically(self.folder / f"{stem}.csv", store.csv(table))
        # As text with an id of ours: pandas would show a random id and a memory address, other ones in every run.
        shown = table.style.hide(axis="index").format(escape="html").format_index(escape="html", axis=1)
        display(HTML(shown.set_uuid(stem).to_html()))
        self._explain(name, source, caption)

    def show_gap(self, name: str, reason: str, source: Source) -> None:
        """Say in the place of a figure why there is none."""
        self.show_table(pd.DataFrame({"no figure, because": [reason]}), name, source, reason)

    def _explain(self, part: str, source: Source, caption: str, **figure: Any) -> None:
        """Caption and manifest line below a figure or table, and beside it the JSON that the book reads."""
        manifests, path = manifests_in(source), self.folder / f"{self.id}-{part}.json"
        inputs = [manifest["inputs"] for manifest in manifests]
        words = (caption, manifest_line(self.settings, manifests))
        caption, line = (" ".join(each.split()).translate(TEXT) for each in words)
        about = {
            "exhibit": self.id,
            "part": part,
            "turn": len({*self.folder.glob(f"{self.id}-*.json")} - {path}),  # as the notebook shows them
            "caption": caption,
            "line": line,
            "profile": self.settings.profile,
            "model": self.settings.model,
            "commit": store.commit(),
            "artefacts": [f"{m['name']}-{m['key']}" for m in manifests],
            "engine": sorted({m.get("engine", "") for m in manifests}),
            "records": sorted({m["record"] for m in manifests if "record" in m}),
            "seconds": round(sum(m["seconds"] for m in manifests), 1),
            "data_sha256": {one["dataset"]: one["data_sha256"] for one in inputs},
            "weights_sha256": sorted({one["weights"] for one in inputs}),
            "models": {one["weights"]: one["model"] for one in inputs},
            "versions": store.versions(),
            **{"alt": "", "tab": part, **figure},
        }
        store.write_atomically(path, json.dumps(about, indent=1).encode())
        display(Markdown(f"{caption}\n\n{line}"))


def start(exhibit: str, profile: str, **overrides: Any) -> Run:
    """Resolve a notebook's parameters ("" and -1: as the profile says); files go into STEERKIT_OUT, else here."""
    settings = load_profile(profile, **overrides)
    if records.stands_in(exhibit, settings):
        settings = replace(settings, recorded=True)
    return Run(exhibit, settings, Path(os.environ.get("STEERKIT_OUT", ".")))


def each(runs: Mapping[str, Sequence[Settings]]) -> Iterator[tuple[Settings, str]]:
    """Every run with its format; `runs` holds the runs of each format."""
    return ((settings, form) for form, chosen in runs.items() for settings in chosen)


def manifests_in(source: Source) -> list[dict]:
    """The manifests of a table (`attrs`), of something with a `manifest`, or of several of them."""
    if isinstance(source, dict):
        return [source]
    if isinstance(source, pd.DataFrame):
        return source.attrs.get("manifests") or [source.attrs["manifest"]]
    if hasattr(source, "manifest"):
        return [source.manifest]
    return [manifest for each in source for manifest in manifests_in(each)]


def manifests_of(runs: Mapping[str, Sequence[Settings]]) -> list[dict]:
    """Manifests of the main grids of some runs."""
    return manifests_in([experiment.grid(settings, form) for settings, form in each(runs)])


def seconds_by_model(manifests: list[dict]) -> dict[str, float]:
    """Computing time of the tables, by model."""
    return {model: sum((m["seconds"] for m in made), 0.0) for model, made in _by_model(manifests).items()}


def _by_model(manifests: list[dict]) -> dict[str, list[dict]]:
    found = defaultdict(list)
    for manifest in manifests:
        found[manifest["inputs"]["model"]].append(manifest)
    return found


def _file_name(part: str) -> str:
    """A part of a name of files and links: a run may be called "smollm2-135m (papers' data)"."""
    return re.sub(r"[^\w.]+", "-", part).strip("-")


def manifest_line(settings: Settings, manifests: list[dict]) -> str:
    """One line under every figure: profile, model, weights, data, split, engine, commit."""
    if not manifests:
        published = settings.profile == PUBLISHED
        what = ": numbers digitised from the paper's figures" if published else "; needs no model"
        return f"Profile {settings.profile}{what}; commit {store.commit() or 'none'}."
    return f"Profile {settings.profile}; " + " ".join(map(_model_line, _by_model(manifests).values()))


def _model_line(manifests: list[dict]) -> str:
    """Model, weights, data, split, engine and code of the tables of one model."""
    first, inputs = manifests[0], manifests[0]["inputs"]
    engines = ", ".join(sorted({m.get("engine", "?") for m in manifests}))
    sets, (train, test, *_) = {m["inputs"]["dataset"] for m in manifests}, inputs["limits"]
    whose = Counter("own" if name.endswith(SUFFIXES) else inputs["source"] for name in sets)
    sets = " and ".join(
        f"{count} {source} data set{'s' * (count > 1)}" for source, count in sorted(whose.items())
    )
    items = f"split {inputs['split']} with up to {train} training and {test} test groups"
    if "pairs" in inputs:  # drawn for themselves, each training pair and test
        items = f"{inputs['pairs']} pairs drawn of each"
    return (
        f"{inputs['model']}, weights {inputs['weights'][:12]}; {sets}, "
        f"{items}, seed {inputs['seed']}; "
        f"engine {engines}; code {first['code']}, commit {first['commit'] or 'none'}; "
        f"computed in {sum(m['seconds'] for m in manifests):.0f} s."
    )
