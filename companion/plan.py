"""What a profile will cost before anything starts: prompts, token-passes, requests, bytes, memory, hours.

Counted from tokenised prompts and the shape of the model; no weights are fetched. Of a large set a few items are
tokenised and multiplied. Where the tokenizer cannot be had, that of the default model stands in, and the plan says so.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from companion import cost, scaling
from companion.cost import Work, job_cost, memory, operations
from companion.models import dtype_of
from companion.outline import Outline, outline, stand_in
from companion.profiles import PUBLISHED, Settings
from companion.registry import MODELS
from companion.tan.experiment import pending
from companion.tan.jobs import Stage
from steerkit.errors import SteerkitError
from steerkit.remote import OFF

STAGES: tuple[Stage, ...] = ("sweep", "grid", "shift")
GROUPS = 12  # groups of items that are tokenised for a table; all of them where there are no more


@dataclass(frozen=True)
class Row:
    """The tables of one stage in one format."""

    stage: str
    format: str
    tables: int
    prompts: int
    token_passes: int
    operations: int
    requests: int
    sent_bytes: int
    received_bytes: int


@dataclass(frozen=True)
class Plan:
    """A profile's work that is not done yet.

    `hours` is None where nobody has measured the machine that would do it, and `hours_from` says where it is from;
    `notes` say what is estimated, and what will not work.
    """

    profile: str
    model: str
    tokenizer: str
    dtype: str
    remote: bool
    rows: tuple[Row, ...]
    memory_bytes: int
    weights_bytes: int
    hours: float | None
    hours_from: str
    notes: tuple[str, ...]

    def total(self, name: str) -> int:
        """The sum of one column of the rows."""
        return sum(getattr(row, name) for row in self.rows)

    def record(self) -> dict[str, Any]:
        """The plan for a machine."""
        columns = [name for name in Row.__dataclass_fields__ if name not in ("stage", "format")]
        return asdict(self) | {"total": {name: self.total(name) for name in columns}}


def plan(settings: Settings, formats: Sequence[str], remote: bool = False, most: int = GROUPS) -> Plan:
    """Count the tables that are missing.

    Parameters
    ----------
    settings : Settings
        Of a profile; its data sets are fetched when they are not there yet.
    formats : answer formats
    remote : bool
        Plan for a server that holds the model.
    most : int
        Groups of items that are tokenised for a table.

    Raises
    ------
    SteerkitError
        A profile that computes nothing; data sets that cannot be had; a model of unknown shape.
    """
    import torch

    if settings.recorded or settings.profile == PUBLISHED:
        raise SteerkitError(
            "a profile that computes something",
            f"{settings.profile}, which reads finished numbers",
            next_step="name another profile.",
        )
    here = replace(settings, remote=OFF)  # nobody is asked: a plan comes before the first request
    with _quiet():
        about, notes = _about(settings.model)
        rows = tuple(_row(here, about, stage, form, most) for form in formats for stage in STAGES)
    rows = tuple(row for row in rows if row.tables)
    dtype = dtype_of(settings.model, OFF)
    speed = _hours(sum(row.operations for row in rows), settings.model, dtype, remote)
    weights = about.parameters * getattr(torch, dtype).itemsize
    sizes = (memory(about, dtype), weights)
    notes = (*notes, *_room(weights, settings.model, remote))
    names = (settings.profile, settings.model, about.tokenizer_of, dtype)
    return Plan(*names, remote, rows, *sizes, *speed, notes)


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings in the log: about items that only a sample leaves without a counterpart, about a hub out of reach."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _about(name: str) -> tuple[Outline, tuple[str, ...]]:
    """Tokenizer and shape of a model, or what stands in for them."""
    try:
        return outline(name), ()
    except SteerkitError:
        about = stand_in(name)
        if about is None:
            raise
        why = f"The tokenizer of {name} could not be fetched"
        return about, (f"{why}: prompts are cut by that of {about.tokenizer_of}, so counts are estimates.",)


def _row(settings: Settings, about: Outline, stage: Stage, form: str, most: int) -> Row:
    jobs = pending(settings, form, stage)
    done: Work = cost.total(job_cost(job, about, most) for job in jobs)
    counts = (done.requests, done.sent, done.received)
    return Row(stage, form, len(jobs), done.prompts, done.token_passes, operations(about, done), *counts)


def _hours(wanted: int, name: str, dtype: str, remote: bool) -> tuple[float | None, str]:
    """Hours for so many operations, and where that number comes from."""
    if not remote:
        seconds = wanted / (cost.SHARE_OF_RATE * cost.matmul_rate(dtype))
        return (
            seconds / 3600,
            f"at most, at the rate of {dtype} matrix products measured on this machine",
        )
    rate = scaling.measured_rate(name)
    if rate is None:
        return (
            None,
            "unknown, because benchmarks/gpu.py has not been run on a machine like the server",
        )
    return (
        wanted / rate / 3600,
        "at the rate recorded by benchmarks/gpu.py, waiting and transfer left out",
    )


def _room(weights: int, name: str, remote: bool) -> tuple[str, ...]:
    """What a person has to know before trying it here."""
    import torch

    from steerkit.memory import free_bytes

    if remote:
        return ()
    if name in MODELS and MODELS[name].remote_only:
        return (f"{name} runs on a server only: give --remote.",)
    free = free_bytes(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    if weights > free:
        return (
            f"The weights need {weights / 1e9:.0f} GB, and {free / 1e9:.0f} GB are free on this machine.",
        )
    return ()
