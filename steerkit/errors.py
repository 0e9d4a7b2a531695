"""The one exception users meet: what was expected, what was found, what was done, what to do next."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

NOT_WRITTEN, NOT_READ = "Nothing was written.", "Nothing was read."


class SteerkitError(Exception):
    """An error in the user's words; "nothing was written" is a frequent and important answer to what was done."""

    def __init__(self, expected: str, found: str, *, done: str = NOT_WRITTEN, next_step: str) -> None:
        self.expected, self.found, self.done, self.next_step = expected, found, done, next_step
        super().__init__(f"Expected {expected}; found {found}. {done} Next: {next_step}")


def need(holds: bool, expected: str, found: str, next_step: str, done: str = NOT_WRITTEN) -> None:
    """Refuse, in the user's words, what does not hold."""
    if not holds:
        raise SteerkitError(expected, found, done=done, next_step=next_step)


def one_of(what: str, value: str, known: Iterable[str], next_step: str = "choose one of these.") -> None:
    """Refuse a name that is not among the known ones: `one_of("an engine", "fast", ENGINES)`."""
    known = list(known)
    need(value in known, f"{what} ({', '.join(known)})", repr(value), next_step)


def named(error: BaseException) -> str:
    """What an exception says, after its type."""
    return f"{type(error).__name__}: {error}"


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its type when it says nothing."""
    return str(error).partition("\n")[0] or type(error).__name__


@contextmanager
def told(
    kinds: tuple, expected: str, next_step: str, done: str = NOT_WRITTEN, found: Callable = named
) -> Iterator[None]:
    """What goes wrong inside, in the user's words."""
    try:
        yield
    except kinds as error:
        raise SteerkitError(expected, found(error), done=done, next_step=next_step) from error
