"""What went wrong on the way to a server or on it, in words; and whether it can pass.

NDIF reports nearly everything as one exception with a text. The texts were collected from a real server.
"""

from __future__ import annotations

import re
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


_NO_MEMORY = "OutOfMemoryError|out of memory|allocate memory"
_BUSY = r"reconnecting|Service temporarily unavailable|\b50[234]\b|Too Many Requests|\b429\b"
_KEY = "get one from the people who run the server and put it into NDIF_API_KEY, or run `nnsight login`."
_OFFERED = "ask for a model that the server offers (`nnsight.status()`), or for a folder that it can read."
_LOG = "see the server's log; the model may be too large for it."
_VERSIONS = "compare Python, nnsight and torch there and here: `nnsight.compare()`."
_FEWER = "ask for fewer layers, multipliers or vectors at a time, or raise the server's limit."
_ANYIO = "the server needs anyio<4.15; or ask for fewer vectors at a time."
_LATER = "run the command again; it goes on where it stopped."
# A pattern of the server's text, what it means, what to do, and what may pass.
_KNOWN = (
    ("Missing or invalid API key", "no key, or one that it does not accept", _KEY),
    ("Invalid API key", "a key that it does not accept", _KEY),
    ("Could not deploy this model", "a model that it does not have and cannot get", _OFFERED),
    ("Error starting model", "a model that it cannot start", _LOG),
    ("payload could not be read", "a request that it cannot read", _VERSIONS),
    ("exceeded the execution timeout", "a job that took longer than it allows", _FEWER),
    ("error parsing the body", "a request that it cannot take in", _ANYIO),
    (_NO_MEMORY, "no memory left", "ask for fewer conditions at a time.", "memory"),
    (_BUSY, "a server that is busy or restarting", _LATER, "passing", "again"),
    ("Error submitting request to model deployment", "a worker that died or was restarted", _LATER, "again"),
)


def explain(error: BaseException, what: str, host: str, secret: str | None = None) -> RemoteFailure:
    """The failure behind an exception of nnsight, httpx or the operating system.

    `what` was asked of `host`; `secret` is the key, which must not be in a message, and which servers quote.
    """
    text = str(error).replace(secret, "(the key)") if secret else str(error)
    line, there = _last_line(text), f"on the server {host}"
    if _unreachable(error):
        found = f"no connection to {host} ({line or type(error).__name__})"
        next_step = f"check the address and that the server is up, then {_LATER}"
        return RemoteFailure(what, found, next_step=next_step, where="on the way", passing=True)
    for pattern, found, next_step, *flags in _KNOWN:
        if re.search(pattern, text, re.IGNORECASE):
            passing = dict.fromkeys(flags, True)
            return RemoteFailure(what, f"{found}: {line}", next_step=next_step, where=there, **passing)
    next_step = "run it with a small model on this machine, where the traceback is whole."
    return RemoteFailure(what, f"an exception: {line}", next_step=next_step, where=there + _our_line(text))


def _unreachable(error: BaseException | None) -> bool:
    """Whether the connection failed, rather than what was said over it."""
    import httpx

    kinds: tuple[Any, ...] = (ConnectionError, TimeoutError, httpx.TransportError)
    closed = type(error).__module__.partition(".")[0] == "websocket"
    return error is not None and (isinstance(error, kinds) or closed or _unreachable(error.__cause__))


def _last_line(text: str) -> str:
    """What a traceback ends with, shortened: type and message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300].rstrip(".") if lines else ""


def _our_line(text: str) -> str:
    """The innermost line of this package in a server's traceback."""
    found = re.findall(r'File "[^"]*?steerkit[/\\]([\w/\\]+\.py)", line (\d+)', text)
    return f", steerkit/{found[-1][0]}:{found[-1][1]}" if found else ""
