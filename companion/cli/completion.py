"""What Tab offers in a shell (`steerkit --install-completion`): names this repository knows, and the user's files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import typer

from steerkit.errors import SteerkitError

Offer = tuple[str, str]  # what to type, what it means


def exhibits(incomplete: str) -> list[Offer]:
    """Figures and tables."""
    from companion.exhibits import EXHIBITS

    return _starting(((e.id, f"{e.paper}, {e.number}: {e.title}") for e in EXHIBITS.values()), incomplete)


def profiles(incomplete: str) -> list[Offer]:
    """Profiles in the folder of profiles."""
    from companion.profiles import folder, profile_names

    return _starting(
        ((name, _first_comment(folder() / f"{name}.yaml")) for name in profile_names()), incomplete
    )


def models(incomplete: str) -> list[Offer]:
    """Models known by name, and folders."""
    from companion.registry import MODELS

    named = [(name, spec.hub_id or "built in code") for name, spec in MODELS.items()]
    return [*_starting(named, incomplete), *_paths(incomplete, ())]


def datasets(incomplete: str) -> list[Offer]:
    """Bundled data sets, and files in the papers' format."""
    from companion.data.datasets import names

    found = _starting(((name, "bundled") for name in names()), incomplete)
    return [*found, *_paths(incomplete, (".jsonl", ".json"))]


def formats(incomplete: str) -> list[Offer]:
    """Answer formats."""
    from steerkit.formats import FORMATS

    return _starting(((name, "") for name in FORMATS), incomplete)


def records(incomplete: str) -> list[Offer]:
    """Committed records, as `steerkit audit` takes them."""
    from companion.exhibits import ROOT

    folder = ROOT / "records"
    found = sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.glob("*/*.parquet"))
    return _starting(((name, "") for name in found), incomplete)


def autoencoders(incomplete: str) -> list[Offer]:
    """Autoencoders known by name, files and folders."""
    from companion.saes import SAES

    return [*_starting(((name, "") for name in SAES), incomplete), *_paths(incomplete, (".npz",))]


def parameters(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """`name=` for each parameter of the notebook that stands on the line already."""
    from companion.exhibits import EXHIBITS
    from companion.parameters import parameters_of

    # The option still lacks its value, so the words before it have not been told apart.
    words = [word for word in (ctx.params.get("exhibit"), *ctx.args) if word in EXHIBITS]
    if not words:
        return []
    chosen = EXHIBITS[words[0]]
    return _starting(((f"{p.name}=", p.help) for p in parameters_of(chosen.notebook).values()), incomplete)


def one_of(*names: str) -> Callable[[str], list[Offer]]:
    """The completion of an option with a few fixed values."""
    return lambda incomplete: _starting(((name, "") for name in names), incomplete)


def _starting(offers: Iterable[Offer], incomplete: str) -> list[Offer]:
    return [offer for offer in offers if offer[0].startswith(incomplete)]


def _paths(incomplete: str, suffixes: tuple[str, ...]) -> list[Offer]:
    """Folders, and files with one of the endings."""
    here = Path(incomplete if incomplete.endswith("/") else Path(incomplete).parent)
    offers = []
    with suppress(OSError):  # no such folder, or not ours to read: nothing to offer
        for path in sorted(here.iterdir()):
            if not path.name.startswith(".") and (path.is_dir() or path.suffix in suffixes):
                offers.append((f"{path}/" if path.is_dir() else str(path), ""))
    return _starting(offers, incomplete)


def _first_comment(path: Path) -> str:
    with suppress(OSError, SteerkitError):
        return path.read_text().splitlines()[0].removeprefix("# ")
    return ""
