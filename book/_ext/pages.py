"""What no hand writes: the part of a figure's page below its prose, and the pages about parameters, runs and servers."""

import json
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from _ext.markdown import code, escaped, fence, folded, table, table_of_markdown, tabs
from companion import models
from companion.exhibits import EXHIBITS, TAN, Exhibit, parameters_of
from companion.places import BOOK, ROOT
from companion.profiles import load_profile
from companion.results import Result
from companion.verdicts import UNTESTABLE, VERDICTS

SERVER = "https://api.ndif.us"  # the public NDIF service; any other address stands in its place
CLAIMS = ("tan-claims", "mayne-claims")  # exhibits whose table `claims` holds the verdicts
TITLE = 8
Part = dict[str, Any]


def unique(values: Iterable[str]) -> list[str]:
    """Each value once, in order, without empty ones."""
    return [value for value in dict.fromkeys(values) if value]


def exhibit_block(results: list[Result]) -> str:
    """What an exhibit shows under every profile that ran it, the book's own first, and how to run it again."""
    own, shown = results[0], _body(results[0])
    rank = {name: at for at, name in enumerate(load_profile(own.profile).compared)}  # whose tab comes first
    if len(results) > 1:
        ordered = sorted(results, key=lambda result: rank.get(result.profile, len(rank)))
        labels = [result.label for result in ordered]
        tab = []
        for each, label in zip(ordered, labels, strict=True):
            named = f"{label} ({each.profile})" if labels.count(label) > 1 else label
            tab.append((each.profile, named, _body(each)))
        shown = tabs("profile", tab)
    return f"{shown}\n\n{folded('Run it again', again(own.exhibit, own.parameters), class_container='rerun')}"


def _body(result: Result) -> str:
    """Figures in tabs, tables (folded where there are figures, but for texts), verdicts, parameters, files."""
    figures = [part for part in result.parts if result.is_figure(part)]
    rest = [part for part in result.parts if part not in figures]
    tab = []
    for part in figures:
        head = f"{_image(result, part)}\n{_downloads(result, part)}\n```"
        told = folded("In words, and where it is from", f"{escaped(part['alt'])}\n\n{_origin(part)}")
        tab.append((part["part"], part["tab"], f"{head}\n\n{told}"))
    shown = [tabs("format", tab)] if figures else []
    for part in rest:
        columns = pd.read_csv(result.file(part, "csv"), nrows=0).columns
        fold = bool(figures) and "text" not in columns
        shown.append(folded(title(part["caption"]), _rows(result, part)) if fold else _rows(result, part))
    name = result.exhibit.id
    notebook = f"[the notebook with its outputs](/notebooks/{name}.ipynb)"
    if not result.is_own:
        notebook = "data and vector graphics of this tab are in [the archive](/use/downloads.md)"
    files = f"{notebook} · [all downloads](/use/downloads.md) · [where it comes from](/use/provenance.md)"
    return "\n\n".join([*shown, *_verdicts(result), _parameters(result), files])


def title(caption: str) -> str:
    """The head of a caption, of at most `TITLE` words: it stands whole below its table.

    >>> title("Shares of the variance, with intervals over concepts.")
    'Shares of the variance'
    """
    words = re.split(r"[,;:.(](?=[\s*]|$)", caption.replace("**", ""), maxsplit=1)[0].split()
    return " ".join(words[:TITLE]) + ("…" if len(words) > TITLE else "")


def _image(result: Result, part: Part) -> str:
    """The beginning of a figure; what follows in it, and its end, are the caller's."""
    stem = f"{result.address}/{result.exhibit.id}-{part['part']}"
    return f"```{{figure}} {stem}.png\n:alt: {part['alt']}\n:width: 100%\n\n{part['caption']}"


def _rows(result: Result, part: Part) -> str:
    rows = pd.read_csv(result.file(part, "csv"), keep_default_na=False)
    shown = by_claim(rows) if result.exhibit.id in CLAIMS and part["part"] == "claims" else table(rows)
    return f"{shown}\n\n{part['caption']} {_downloads(result, part)}\n\n{_origin(part)}"


def offered(result: Result) -> tuple[str, ...]:
    """Kinds of files that pages offer one by one; the rest is in the archive (graphics would be a fifth of the site)."""
    return ("csv", "json") if result.is_own else ("json",)


def link(result: Result, path: Path, text: str) -> str:
    """A file to download."""
    return f"{{download}}`{text} <{result.address}/{path.name}>`"


def _downloads(result: Result, part: Part) -> str:
    words = {"csv": "data (CSV)", "json": "manifest (JSON)"}
    files = {words[suffix]: result.file(part, suffix) for suffix in offered(result)}
    return " · ".join(link(result, path, text) for text, path in files.items() if path.exists())


def _origin(part: Part) -> str:
    read = f" Read from the committed record {', '.join(part['records'])}." if part.get("records") else ""
    return f"{{.manifest}}\n{part['line']}{read}"


def by_claim(rows: pd.DataFrame) -> str:
    """Every claim with its rule, and a line for each run that was judged by it."""
    blocks = []
    for number, (claim, own) in enumerate(rows.groupby("statement", sort=False), 1):
        [rule], where = own["rule"].unique(), EXHIBITS[own["exhibit"].iloc[0]]
        head = f"**{number}. {claim}** Rule: {rule}. False world: {own['false world'].iloc[0]}. "
        head += f"[{where.number}](/notebooks/{where.id}.ipynb). "
        blocks.append(head + _judged(own, "false agree", "detectable"))
    return fence("div", "by-claim", "\n\n".join(blocks))


def _judged(rows: pd.DataFrame, *more: str) -> str:
    """What was published of a claim, and below it a line for each run, the papers' own data and format first."""
    rows = rows.sort_values("model", key=lambda names: ~names.str.contains("papers' data"), kind="stable")
    line = {"run": rows["model"].map(_called) + ", *" + rows["format"] + "*"}
    line |= {"verdict": rows["verdict"].map(badge), "published": rows["published"], "here": rows["ours"]}
    line |= {name: rows[name] for name in ("where false", *more)}
    one = rows["published"].nunique() == 1  # else runs are compared with models of their kind
    said = f"Published: {escaped(line.pop('published').iloc[0])}." if one else ""
    return f"{said}\n\n{table_of_markdown(pd.DataFrame(line))}"


def _called(model: str) -> str:
    name, _, data = model.partition(" (")
    return " and ".join(map(models.label, name.split(", "))) + (f" ({data}" if data else "")


def family(model: str) -> str:
    """The first word of a model's label, where a table or a sentence has several; with its data as they are named."""
    name, _, data = model.partition(" (")
    return models.label(name).partition("-")[0] + (f" ({data}" if data else "")


def badge(verdict: str) -> str:
    """A verdict as a coloured word."""
    return f'<span class="verdict {verdict.replace(" ", "-")}">{verdict}</span>'


def claims(result: Result) -> pd.DataFrame:
    """All verdicts of a result's profile, with the paper of each; no rows when the notebooks of claims have not run."""
    paths = {EXHIBITS[name].paper: result.folder / f"{name}-claims.csv" for name in CLAIMS}
    read = {paper: pd.read_csv(path, keep_default_na=False) for paper, path in paths.items() if path.exists()}
    columns = "claim,format,model,published,ours,where false,rule,verdict,exhibit,paper".split(",")
    found = [rows.rename(columns={"statement": "claim"}).assign(paper=paper) for paper, rows in read.items()]
    return pd.concat(found or [pd.DataFrame()], ignore_index=True).reindex(columns=columns, fill_value="")


def _verdicts(result: Result) -> list[str]:
    """The claims that rest on this exhibit, as the same profile judged them."""
    rows = claims(result).query("exhibit == @result.exhibit.id")
    if rows.empty or result.exhibit.id in CLAIMS:
        return []
    chapter = "/tan/claims.md" if result.exhibit.paper == TAN else "/mayne/claims.md"
    head = f"**What rests on it.** The rule behind each verdict, and what *where false* is, tells [the full table]({chapter})."
    judged = (f"*{claim}* {_judged(own)}" for claim, own in rows.groupby("claim", sort=False))
    return [fence("div", "by-claim", "\n\n".join([head, *judged]))]


def changed(exhibit: Exhibit, values: dict[str, Any]) -> dict[str, Any]:
    """The parameters that a run had set to something else than the notebook's default."""
    known = parameters_of(exhibit.notebook)
    return {name: value for name, value in values.items() if name in known and value != known[name].default}


def _parameters(result: Result) -> str:
    """All parameters of this run: a default is a choice too."""
    known, other = parameters_of(result.exhibit.notebook), changed(result.exhibit, result.parameters)
    rows = []
    for name, value in result.parameters.items():
        row = {"parameter": f"`{name}`", "value": f"`{value!r}`", "default": "no" if name in other else "yes"}
        rows.append(row | {"meaning": known[name].help if name in known else ""})
    return folded("Parameters of this run", table_of_markdown(rows), class_container="parameters")


def steerkit_run(exhibit: Exhibit, values: dict[str, Any], remote: str = "") -> str:
    """`steerkit run ...`, with the parameters that differ from the defaults."""
    given = {k: v for k, v in changed(exhibit, values).items() if not (remote and k == "remote")}
    words = ["steerkit", "run", exhibit.id, *(word for k, v in given.items() for word in ("-p", f"{k}={v}"))]
    return shlex.join([*words, *(["--remote", remote] if remote else [])])


def papermill(exhibit: Exhibit, values: dict[str, Any], remote: str = "") -> str:
    """`papermill ...` for the same run; texts go as raw strings (-r), or the text "13" would become a number."""
    words = ["papermill", f"notebooks/{exhibit.id}.ipynb", "out.ipynb"]
    for name, value in (changed(exhibit, values) | ({"remote": remote} if remote else {})).items():
        if isinstance(value, list):
            words += ["-y", f"{name}: {json.dumps(value)}"]
        else:
            words += ["-r" if isinstance(value, str) else "-p", name, str(value)]
    return shlex.join(words)


def again(exhibit: Exhibit, values: dict[str, Any]) -> str:
    """All ways of running a notebook again, in tabs: steerkit, papermill, a server; and a browser where it can work."""
    server = "This notebook needs no model, so there is nothing to run on a server."
    if "remote" in parameters_of(exhibit.notebook):
        chapter = "; [what travels, and how to run a server](/use/remote.md)"
        commands = code(steerkit_run(exhibit, values, SERVER), papermill(exhibit, values, SERVER))
        known = (BOOK / "use" / "remote.md").exists()
        server = f"{commands}\n\nThe server must hold the model{chapter if known else ''}."
    ways = [
        ("steerkit", "steerkit", code(steerkit_run(exhibit, values))),
        ("papermill", "papermill", code(papermill(exhibit, values))),
        ("server", "On a server", server),
        ("hosted", "In a browser", _hosted(exhibit)),
    ]
    return tabs("run-with", [way for way in ways if way[2]])


def repository() -> tuple[str, str]:
    """Address of the repository and its branch, as `_config.yml` gives them; empty when it does not."""
    about = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8")).get("repository") or {}
    return str(about.get("url") or "").rstrip("/"), str(about.get("branch") or "main")


def _hosted(exhibit: Exhibit) -> str:
    """Binder and Colab, which open notebooks of public GitHub repositories only."""
    url, branch = repository()
    owner, path = url.partition("github.com/")[2], f"notebooks/{exhibit.id}.ipynb"
    if not owner:
        return ""
    binder = f"https://mybinder.org/v2/gh/{owner}/{branch}?labpath={path}"
    colab = f"https://colab.research.google.com/github/{owner}/blob/{branch}/{path}"
    install = code(f"!git clone {url} companion && pip install --quiet -e companion", language="python")
    return f"[Binder]({binder}) · [Colab]({colab}), where a first cell must install the package:\n\n{install}"


def about_hosting() -> str:
    """Whether there are buttons for Binder and Colab, and if not what to set."""
    if repository()[0].partition("github.com/")[2]:
        return "The tab *In a browser* leads to Binder and to Colab."
    said = "There are no links to Binder and Colab, because this copy of the book does not know its repository: set "
    return said + "`repository.url` in `_config.yml` to its address on GitHub and build again."


def notebook_table(own: list[Result]) -> str:
    """Every notebook with its parameters (name, type, default, meaning) and the commands that run it again."""
    values, blocks = {result.exhibit.id: result.parameters for result in own}, [about_hosting()]
    for exhibit in EXHIBITS.values():
        known = parameters_of(exhibit.notebook).values()
        cells = ((f"`{p.name}`", p.type, f"`{p.default!r}`", p.help) for p in known)
        rows = pd.DataFrame(cells, columns=["parameter", "type", "default", "meaning"])
        head = f"## {exhibit.number}: {exhibit.title}\n\n[{exhibit.id}](/notebooks/{exhibit.id}.ipynb)"
        blocks.append(f"{head}\n\n{table_of_markdown(rows)}\n\n{again(exhibit, values[exhibit.id])}")
    return "\n\n".join(blocks)


def verdicts(own: list[Result], paper: str) -> str:
    """How the claims of a paper fared, in a sentence; then every verdict, a column a run, the papers' data first."""
    rows = claims(own[0]).query("paper == @paper")
    counts = rows["verdict"].value_counts()
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if verdict in counts)
    head = f"{rows['claim'].nunique()} claims, {len(rows)} verdicts over formats and models: {said}."
    rows = rows[rows["verdict"] != UNTESTABLE].copy()
    if rows.empty:
        return head
    rows["said"] = rows["verdict"].map(badge)
    several, papers = (rows["model"].str.contains(what) for what in (",", "papers' data"))
    together = papers.map({True: "several models, papers' data", False: "several models"})
    called = family if rows["model"].map(family).nunique() == rows["model"].nunique() else _called
    rows["run"] = rows["model"].map(called).mask(several, together) + ", *" + rows["format"] + "*"
    order = rows.assign(several=several, other=~papers)
    runs = order.sort_values(["several", "other"], kind="stable")["run"].unique()
    by_run = rows.groupby(["claim", "exhibit", "run"], sort=False)["said"]
    wide = (
        by_run.agg(lambda said: " ".join(dict.fromkeys(said))).unstack().fillna("")
    )  # of several pairs of models
    wide = wide.loc[list(dict.fromkeys(zip(rows["claim"], rows["exhibit"], strict=True))), runs].reset_index()
    wide["numbers"] = [f"[{EXHIBITS[name].number}](/notebooks/{name}.ipynb)" for name in wide.pop("exhibit")]
    return f"{head} Empty where a run cannot test a claim.\n\n{table_of_markdown(wide)}"


def picture(result: Result) -> str:
    """The first figure of an exhibit without what goes with it."""
    part = next(part for part in result.parts if result.is_figure(part))
    more = f"[The notebook, with other formats, data and commands](/notebooks/{result.exhibit.id}.ipynb)."
    return f"{_image(result, part)}\n{more}\n```\n\n{_origin(part)}"
