"""The one exception users meet: what was expected, what was found, what was done, what to do next."""

from __future__ import annotations

from collections.abc import Iterable


class SteerkitError(Exception):
    """An error in the user's words.

    Parameters
    ----------
    expected, found : str
        What should have been there, and what was.
    done : str
        What steerkit did about it ("nothing was written" is a frequent and important answer).
    next_step : str
        What the user can do now.
    """

    def __init__(
        self, expected: str, found: str, *, done: str = "Nothing was written.", next_step: str
    ) -> None:
        self.parts = {"expected": expected, "found": found, "done": done, "next_step": next_step}
        self.expected, self.found, self.done, self.next_step = expected, found, done, next_step
        super().__init__(f"Expected {expected}; found {found}. {done} Next: {next_step}")


def need(holds: bool, expected: str, found: str, next_step: str, done: str = "Nothing was written.") -> None:
    """Refuse, in the user's words, what does not hold."""
    if not holds:
        raise SteerkitError(expected, found, done=done, next_step=next_step)


def one_of(what: str, value: str, known: Iterable[str], next_step: str = "choose one of these.") -> None:
    """Refuse a name that is not among the known ones: `one_of("an engine", "fast", ENGINES)`."""
    known = list(known)
    need(value in known, f"{what} ({', '.join(known)})", repr(value), next_step)
