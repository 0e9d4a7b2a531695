"""What the executed notebooks left, by exhibit and profile: the book is made of nothing else.

The book belongs to one profile, whose results lie in `book/notebooks`. Every other profile has a folder of its name
below it, so that `steerkit reproduce --profile other --no-book` adds tabs to the figures and overwrites nothing.
"""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from companion import exhibits, store
from companion.exhibits import Exhibit
from companion.places import ROOT
from companion.profiles import BOOK_FORMATS, PUBLISHED, label_of, load_profile, profile_names
from companion.reproduce import last_run
from steerkit.errors import SteerkitError, need

MARK = ".profile"  # names the profile of the book
OWN = "/notebooks"  # the address of its results


@dataclass(frozen=True)
class Result:
    """What the notebook of one exhibit left under one profile.

    `address` is the folder as Sphinx names it; `parts` has one record a figure or table (`companion.page.Run.show`),
    figures of the book's formats first, then records in the order of the profile.
    """

    exhibit: Exhibit
    profile: str
    folder: Path
    address: str
    parameters: dict[str, Any]
    finished: float
    seconds: float
    parts: list[dict[str, Any]] = field(repr=False)

    def file(self, part: dict[str, Any], suffix: str) -> Path:
        """A file of a part; it may not exist (a table has no figure)."""
        return self.folder / f"{self.exhibit.id}-{part['part']}.{suffix}"

    def is_figure(self, part: dict[str, Any]) -> bool:
        """Whether a part was drawn."""
        return self.file(part, "png").exists()

    @property
    def is_own(self) -> bool:
        """Whether this is the book's own profile, whose notebooks are pages."""
        return self.address == OWN

    @property
    def notebook(self) -> Path:
        """The executed notebook."""
        return self.folder / f"{self.exhibit.id}.ipynb"

    @property
    def files(self) -> list[Path]:
        """Data, vector graphics and manifests of all parts; the executed notebook where it is a page of the book."""
        found = [self.file(part, suffix) for part in self.parts for suffix in ("csv", "svg", "json")]
        return [*(path for path in found if path.exists()), *([self.notebook] if self.is_own else [])]

    @property
    def inputs(self) -> list[tuple[str, str, str]]:
        """Kind, name and SHA-256 of the weights and data sets behind every part, once for each part."""
        used = [(sha, part.get("models", {})) for part in self.parts for sha in part["weights_sha256"]]
        data = [("data", name, sha) for part in self.parts for name, sha in part["data_sha256"].items()]
        return [*(("weights", models.get(sha, ""), sha) for sha, models in used), *data]

    @cached_property
    def label(self) -> str:
        """The tab of a reader who compares: the model, and whether all of it was read from records."""
        try:
            name = label_of(load_profile(self.profile))
        except SteerkitError:  # a profile that is no longer there
            name = "a profile that is gone"
        recorded = [part.get("records") for part in self.parts if part["artefacts"]]
        return name.replace(" on the papers", ", papers") + ", recorded" * bool(recorded and all(recorded))


def own_profile() -> str | None:
    """The profile whose results are the book's, None before anything ran."""
    path = exhibits.EXECUTED / MARK
    return path.read_text(encoding="utf-8").strip() if path.exists() else None


def claim(profile: str) -> None:
    """Make the book this profile's: its results replace those of another, notebook by notebook."""
    load_profile(profile)  # an unknown one claims nothing
    if own_profile() != profile:
        store.write_atomically(exhibits.EXECUTED / MARK, f"{profile}\n".encode())


def place(exhibit: Exhibit, profile: str) -> Path:
    """Where the executed notebook of a profile goes; the first profile that runs is the book's."""
    if own_profile() is None:
        claim(profile)
    if own_profile() == profile:
        return exhibit.executed
    return exhibits.EXECUTED / profile / f"{exhibit.id}.ipynb"


def results_of(exhibit: Exhibit, executed: Path) -> list[Result]:
    """The book's own result, which there must be, then those of other profiles by name.

    The paper's numbers alone are a tab of every result that has them, so profile `published` is no tab of its own.
    """
    own, expected = _read(exhibit, executed, OWN), f"an executed notebook {exhibit.id}.ipynb with its files"
    following = f"run `steerkit reproduce --only {exhibit.id}` first."
    need(own is not None, expected, "none", following, "The book was not built.")
    folders = [path for path in sorted(executed.iterdir()) if path.is_dir() and path.name[0] != "."]
    others = [path for path in folders if path.name not in (PUBLISHED, own.profile)]
    return [own, *filter(None, (_read(exhibit, path, f"{OWN}/{path.name}") for path in others))]


def _read(exhibit: Exhibit, folder: Path, address: str) -> Result | None:
    run, notebook = (folder / f"{exhibit.id}.{suffix}" for suffix in ("run.json", "ipynb"))
    paths = sorted(folder.glob(f"{exhibit.id}-*.json"))
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    parts = [p for p in found if p.get("exhibit") == exhibit.id]  # another id may begin with this one
    promised = exhibit.needs or exhibit.published  # a walkthrough may leave nothing but itself
    if not run.exists() or not notebook.exists() or (promised and not parts):
        return None
    about = json.loads(run.read_text(encoding="utf-8"))
    given, seconds = about["parameters"], about.get("seconds", 0.0)
    known = given["profile"] in profile_names()  # somebody may have taken it away since
    parts.sort(key=partial(_turn, compared=load_profile(given["profile"]).compared if known else ()))
    return Result(exhibit, given["profile"], folder, address, given, about["finished"], seconds, parts)


def _turn(part: dict[str, Any], compared: Sequence[str]) -> tuple[int, int, int, str]:
    """Where a part stands among its notebook's: records in the order of the profile, by format; then the formats of its
    own run; then what is neither, or of several records, as the notebook shows it."""
    name, profiles = part["part"], {record.split("/")[0] for record in part.get("records", [])}
    form = next((at for at, form in enumerate(BOOK_FORMATS) if form in name), len(BOOK_FORMATS))
    profile = next((at for at, one in enumerate(compared) if profiles == {one}), len(compared))
    return profile, form, part.get("turn", 0), name


def overview() -> list[dict[str, Any]]:
    """One row an exhibit: what it is, its last run into the book, its page, and how the claims about it were judged."""
    verdicts: dict[str, Counter[str]] = {}
    for path in sorted(exhibits.EXECUTED.glob("*-claims-claims.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                verdicts.setdefault(row["exhibit"], Counter())[row["verdict"]] += 1
    rows = []
    for exhibit in exhibits.EXHIBITS.values():
        last = last_run(exhibit.executed)
        notebook = str(exhibit.notebook.relative_to(exhibits.NOTEBOOKS.parent))
        about = {name: getattr(exhibit, name) for name in ("id", "paper", "number", "title")}
        about |= {"notebook": notebook, "profile": last.get("parameters", {}).get("profile")}
        about |= {name: last.get(name) for name in ("finished", "seconds")}
        page = exhibits.page_of(exhibit, ROOT / "_build" / "html")
        rows.append(about | {"claims": dict(verdicts.get(exhibit.id, {})), "page": page})
    return rows
