"""A run made to fit into a night: fewer items of every data set, never fewer data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from companion.tan import jobs

if TYPE_CHECKING:
    from companion.profiles import Settings, Shift, Sweep
    from companion.tan.jobs import Job

LEAST = 8  # items: two of each word and letter
PARTS = {
    "grid": "",
    "placebo": "",
    "sweep": "sweep",
    "shift": "shift",
}  # stage -> part of a profile with its sizes


def fitted(
    settings: Settings, works: Sequence[tuple[Job, float]], share: float
) -> tuple[Settings, list[str]]:
    """Settings that take `share` of the time, and what they leave out, in words.

    `works` are jobs with what each costs. In every part of a profile and format the largest sets are cut first, to one
    number of training and one of test groups; a number never falls below `LEAST`.
    """
    found = [(PARTS[job.stage], job.format, _groups(job), cost) for job, cost in works]
    limits = _largest(found)
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        left = sum(cost * _kept(sizes, _cut(limits[part, form], middle)) for part, form, sizes, cost in found)
        low, high = (middle, high) if left <= share * sum(cost for *_, cost in found) else (low, middle)
    cut = {each: _cut(sizes, low) for each, sizes in limits.items()}
    for name in dict.fromkeys(part for part, _ in cut):
        forms = {form: sizes for (part, form), sizes in cut.items() if part == name}
        owner = _sized(getattr(settings, name) if name else settings, forms)
        settings = replace(settings, **{name: owner}) if name else owner
    return settings, [_said(*each, limits[each], cut[each]) for each in cut if cut[each] != limits[each]]


def _groups(job: Job) -> tuple[int, int]:
    """How many groups of items a job trains and tests on."""
    split = jobs.split_of(job)
    return len(set(split.groups(split.train))), len(set(split.groups(split.test)))


def _largest(found: Sequence[tuple]) -> dict[tuple[str, str], tuple[int, int]]:
    limits: dict[tuple[str, str], tuple[int, int]] = {}
    for part, form, sizes, _ in found:
        before = limits.get((part, form), (0, 0))
        limits[part, form] = max(before[0], sizes[0]), max(before[1], sizes[1])
    return limits


def _cut(sizes: tuple[int, int], share: float) -> tuple[int, int]:
    train, test = (max(min(LEAST, size), int(share * size)) for size in sizes)
    return train, test


def _kept(sizes: tuple[int, int], limits: tuple[int, int]) -> float:
    """The share of its time that a job keeps, training and test counted alike."""
    return sum(min(1.0, most / max(1, size)) for size, most in zip(sizes, limits, strict=True)) / 2


def _sized(owner: Settings | Sweep | Shift, forms: dict[str, tuple[int, int]]) -> Settings | Sweep | Shift:
    train, test = ({form: sizes[side] for form, sizes in forms.items()} for side in (0, 1))
    return replace(owner, train=train, test=test)


def _said(part: str, form: str, all_of: tuple[int, int], kept: tuple[int, int]) -> str:
    what = f"{part or 'grid and placebo'}, {form}"
    return f"{what}: {kept[0]} of up to {all_of[0]} training and {kept[1]} of up to {all_of[1]} test items; the rest is left out."
