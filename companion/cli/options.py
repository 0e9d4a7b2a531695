"""What the commands share: their options, each with its help and with what Tab offers for it."""

import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from companion.exhibits import EXHIBITS, expanded, parameters_of
from companion.profiles import folder, profile_names
from steerkit.errors import need
from steerkit.formats import FORMATS
from steerkit.ndif.address import server

Offers = list[tuple[str, str]]  # what to type, what it means
NAME = 255  # bytes of a file's name, on every common system
Known = Callable[[], dict[str, str]]  # the same, looked up when Tab is pressed


def option(
    kind: Any, text: str, *names: str, of: Callable = typer.Option, free: bool = False, **offered: Any
) -> Any:
    """An option that Tab completes from what is `offered`, as `_offers` takes it.

    A name or a path is refused when no disk could have it, and may begin with the user's home; a `free` text is as given.
    """
    check = _named if kind in (str, Path, str | None, Path | None) and not free else None
    offers = (lambda incomplete: _offers(incomplete, **offered)) if offered else None
    return Annotated[kind, of(*names, help=text, autocompletion=offers, callback=check)]


argument = partial(option, of=typer.Argument)  # the same without a name of its own on the line


def _named(value: Any) -> Any:
    longest = max(len(name.encode(errors="replace")) for name in str(value or "").split("/"))
    expected = f"a name of at most {NAME} bytes"
    need(longest <= NAME, expected, f"{longest} in {str(value)[:40]!r} ...", "check the spelling.")
    return value if value is None else type(value)(expanded(str(value)))


def _offers(incomplete: str, known: Known, files: tuple[str, ...] | None = None) -> Offers:
    """Known names, and where `files` has their endings folders and files."""
    found = [(name, meaning) for name, meaning in known().items() if name.startswith(incomplete)]
    here = Path(incomplete if incomplete.endswith("/") else Path(incomplete).parent)
    with suppress(OSError):  # no such folder, or not ours to read: nothing to offer
        for path in sorted(here.iterdir()) if files is not None else ():
            fits = path.is_dir() or path.suffix in files
            if fits and str(path).startswith(incomplete) and not path.name.startswith("."):
                found.append((f"{path}{'/' * path.is_dir()}", ""))
    return found


def profiles() -> dict[str, str]:
    """Profiles, with the comment in their first line."""
    texts = {name: (folder() / f"{name}.yaml").read_text(encoding="utf-8") for name in profile_names()}
    return {name: text.partition("\n")[0].removeprefix("# ") for name, text in texts.items()}


def _of(module: str, attribute: str, meaning: Callable[[Any], str] = lambda _: "") -> Known:
    def known() -> dict[str, str]:
        found = getattr(import_module(module), attribute)
        found = found() if callable(found) else found
        return {name: meaning(found[name] if isinstance(found, dict) else name) for name in found}

    return known


exhibits = _of("companion.exhibits", "EXHIBITS", lambda e: f"{e.paper}, {e.number}: {e.title}")
models = _of("companion.models", "MODELS", lambda spec: spec.hub_id or "built in code")
datasets = _of("companion.data.datasets", "names", lambda _: "bundled")
formats = _of("steerkit.formats", "FORMATS")
autoencoders = _of("companion.saes", "SAES")
recorded = _of("companion.tan.records", "available")  # as `steerkit audit` takes them


def parameters(ctx: typer.Context, incomplete: str) -> Offers:
    """`name=` for each parameter of the notebook that stands on the line already."""
    # The option still lacks its value, so the words before it have not been told apart.
    words = [word for word in (ctx.params.get("exhibit"), *ctx.args) if word in EXHIBITS]
    known = parameters_of(EXHIBITS[words[0]].notebook) if words else {}
    return [(f"{p.name}=", p.help) for p in known.values() if p.name.startswith(incomplete)]


def run_there(context: typer.Context, address: str) -> str:
    """Make a server the place for everything that this command starts, kernels of notebooks included."""
    if not address:
        return address
    server(address)  # says what is wrong with it
    if sys.stderr.isatty():  # whoever watches hears of long jobs and of attempts to reach the server
        logging.basicConfig(format="%(message)s")
        logging.getLogger("steerkit.remote").setLevel(logging.INFO)
    before = os.environ.get("STEERKIT_REMOTE")
    os.environ["STEERKIT_REMOTE"] = address
    after = {} if before is None else {"STEERKIT_REMOTE": before}
    context.call_on_close(lambda: (os.environ.pop("STEERKIT_REMOTE"), os.environ.update(after)))
    return address


REMOTE = "Address of an NDIF server that holds the model and runs its traces; off: this machine. Default: "
REMOTE += "STEERKIT_REMOTE, else the profile's. A key goes into NDIF_API_KEY."
DATA = "A data set name, or a .jsonl, .json or .csv file."
SAE = "An autoencoder by name, a params.npz or a SAELens folder."
MANY = "As often as needed; default: "
*FIRST, LAST = FORMATS
Several = list[str] | None
METHODS = Literal[
    "encode", "encode-scaled", "encode-minus-zero", "encode-difference", "signed-pursuit", "nnls", "lasso"
]
SPLITS = Literal["clean", "sweep", "as-released", "all"]
ENGINES = Literal["tree", "direct"]
FIDELITIES = Literal["letter", "paper", "bench"]

Exhibit = argument(str, "An id of `steerkit list`.", known=exhibits)
Only = option(Several, "Ids or patterns such as 'tan-fig-*'.", known=exhibits)
Records = argument(Several, "Records, profile/stage-format; default: all.", known=recorded)
AllFormats = option(Several, MANY + "all.", "--format", known=formats)
OwnFormats = option(Several, MANY + "the profile's.", "--format", known=formats)
OfModel = option(str | None, "Only tables and vectors of this model.", known=models, files=())
LongProfile = argument(str, "The profile to run in full, such as laptop-full.", known=profiles)
SameProfile = option(str | None, "The same as -p profile=...", known=profiles)
Json = option(bool, "Machine-readable output.", "--json")
Remote = Annotated[str, typer.Option(help=REMOTE, callback=run_there)]
Profile = option(str, "Which dial setting: smoke, laptop, ...", known=profiles)
Model = option(str, "A registry name, a hub id, or a folder.", known=models, files=())
Data = option(str, DATA, known=datasets, files=(".jsonl", ".json", ".csv"))
Source = option(Literal["bundled", "scenes", "papers"], "For data set names.")
Format = option(str, f"{', '.join(FIRST)} or {LAST}.", "--format", known=formats)
Split = option(SPLITS, "all: no split, every item is used.")
Fidelity = option(FIDELITIES, "How letters are scored.")
Engine = option(ENGINES, "tree is fast, direct obvious.")
Layers = option(str, "Blocks such as 10,13 or all.", free=True)
Seed = Annotated[int, typer.Option(min=0, help="Of the split, and of pairs drawn at random.")]
ANY = "Of the choice of cells; default: another one each time."
ChoiceSeed = Annotated[int | None, typer.Option(min=0, help=ANY)]
Force = option(bool, "Overwrite, and use together what does not belong together.", "--force")
Multipliers = option(str, "Numbers separated by commas.", free=True)
VectorFile = option(Path, "Vectors of `steerkit extract`.")
Sae = option(str, SAE, known=autoencoders, files=(".npz",))
Method = option(METHODS, "How the directions are found.")
PARAMETER = "name=value, as often as needed."
Parameters = Annotated[Several, typer.Option("-p", help=PARAMETER, autocompletion=parameters)]
