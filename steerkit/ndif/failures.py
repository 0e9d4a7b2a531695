"""What went wrong on the way to a server or on it, in words; and whether it can pass.

NDIF reports nearly everything as one exception with a text. The texts were collected from a real server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from steerkit.errors import SteerkitError


class RemoteFailure(SteerkitError):
    """Something that happened on the way to a server, or on it.

    Attributes
    ----------
    where : "on the way" or "on the server", with the line of ours where there is one
    passing : the same request may go through in a moment
    again : the job is gone, and may be sent anew
    memory : the job was too large for the server's memory
    """

    def __init__(
        self,
        expected: str,
        found: str,
        *,
        done: str = "Finished jobs are kept.",
        next_step: str,
        where: str = "on the server",
        passing: bool = False,
        again: bool = False,
        memory: bool = False,
    ) -> None:
        super().__init__(expected, f"{found} ({where})", done=done, next_step=next_step)
        self.where, self.passing, self.again, self.memory = where, passing, again, memory


@dataclass(frozen=True)
class _Known:
    """One row of the table: a pattern of the server's text, what it means, what to do."""

    pattern: str
    found: str
    next_step: str
    passing: bool = False
    again: bool = False
    memory: bool = False


_KEY = "get one from the people who run the server and put it into NDIF_API_KEY, or run `nnsight login`."
_LATER = "run the command again; it goes on where it stopped."
_KNOWN = (
    _Known(r"Missing or invalid API key", "no key, or one that it does not accept", _KEY),
    _Known(r"Invalid API key", "a key that it does not accept", _KEY),
    _Known(
        r"Could not deploy this model",
        "a model that it does not have and cannot get",
        "ask for a model that the server offers (`nnsight.status()`), or for a folder that it can read.",
    ),
    _Known(
        r"Error starting model",
        "a model that it cannot start",
        "see the server's log; the model may be too large for it.",
    ),
    _Known(
        r"payload could not be read",
        "a request that it cannot read",
        "compare Python, nnsight and torch there and here: `nnsight.compare()`.",
    ),
    _Known(
        r"exceeded the execution timeout",
        "a job that took longer than it allows",
        "ask for fewer layers, multipliers or vectors at a time, or raise the server's limit.",
    ),
    _Known(
        r"error parsing the body",
        "a request that it cannot take in",
        "the server needs anyio<4.15; or ask for fewer vectors at a time.",
    ),
    _Known(
        r"OutOfMemoryError|out of memory|allocate memory",
        "no memory left",
        "ask for fewer conditions at a time.",
        memory=True,
    ),
    _Known(
        r"reconnecting|Service temporarily unavailable|\b50[234]\b|Too Many Requests|\b429\b",
        "a server that is busy or restarting",
        _LATER,
        passing=True,
        again=True,
    ),
    _Known(
        r"Error submitting request to model deployment",
        "a worker that died or was restarted",
        _LATER,
        again=True,
    ),
)


def explain(error: BaseException, what: str, host: str, secret: str | None = None) -> RemoteFailure:
    """The failure behind an exception of nnsight, httpx or the operating system.

    Parameters
    ----------
    what : what was asked for, such as "an answer for smollm2-135m"
    host : of the server
    secret : the key, which must not be in a message; servers quote it
    """
    text = _scrubbed(str(error), secret)
    if _unreachable(error):
        return RemoteFailure(
            what,
            f"no connection to {host} ({_last_line(text) or type(error).__name__})",
            next_step=f"check the address and that the server is up, then {_LATER}",
            where="on the way",
            passing=True,
        )
    for known in _KNOWN:
        if re.search(known.pattern, text, re.IGNORECASE):
            return RemoteFailure(
                what,
                f"{known.found}: {_last_line(text)}",
                next_step=known.next_step,
                where=f"on the server {host}",
                passing=known.passing,
                again=known.again,
                memory=known.memory,
            )
    return RemoteFailure(
        what,
        f"an exception: {_last_line(text)}",
        next_step="run it with a small model on this machine, where the traceback is whole.",
        where=f"on the server {host}{_our_line(text)}",
    )


def _unreachable(error: BaseException | None) -> bool:
    """Whether the connection failed, rather than what was said over it."""
    import httpx

    kinds: tuple[Any, ...] = (ConnectionError, TimeoutError, httpx.TransportError)
    if error is None:
        return False
    return (
        isinstance(error, kinds)
        or type(error).__module__.partition(".")[0] == "websocket"
        or _unreachable(error.__cause__)
    )


def _scrubbed(text: str, secret: str | None) -> str:
    """The text without the key, whole or as the last part of it that a server may quote."""
    return text.replace(secret, "(the key)") if secret else text


def _last_line(text: str) -> str:
    """What a traceback ends with, shortened: type and message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300].rstrip(".") if lines else ""


def _our_line(text: str) -> str:
    """The innermost line of this package in a server's traceback."""
    found = re.findall(r'File "[^"]*?steerkit[/\\]([\w/\\]+\.py)", line (\d+)', text)
    return f", steerkit/{found[-1][0]}:{found[-1][1]}" if found else ""
