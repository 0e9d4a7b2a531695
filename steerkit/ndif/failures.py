"""What went wrong on the way to a server or on it, in words; and whether it can pass.

NDIF reports nearly everything as one exception with a text. The texts were collected from a real server.
"""

import re
from typing import Any

from steerkit.errors import SteerkitError

THERE, KEPT = "on the server", "Finished jobs are kept."
PIECE = 6  # letters of a key that are not repeated


class RemoteFailure(SteerkitError):
    """Something that happened on the way to a server, or on it; `where` says which, with the line of ours in it.

    `flags`: "passing", the same request may go through in a moment; "again", the job is gone, and may be sent anew;
    "memory", the job was too large for the server's memory.
    """

    def __init__(
        self, expected: str, found: str, next_step: str, *flags: str, where: str = THERE, done: str = KEPT
    ) -> None:
        super().__init__(expected, f"{found} ({where})", done=done, next_step=next_step)
        self.where = where
        self.passing, self.again, self.memory = (each in flags for each in ("passing", "again", "memory"))


_NO_MEMORY = "OutOfMemoryError|out of memory|allocate memory"
_BUSY = r"reconnecting|Service temporarily unavailable|\b50[234]\b|Too Many Requests|\b429\b"
_KEY = "get one from the people who run the server and put it into NDIF_API_KEY, or run `nnsight login`."
_OFFERED = "ask for a model that the server offers (`nnsight.status()`), or for a folder that it can read."
_LOG = "see the server's log; the model may be too large for it."
VERSIONS = "compare Python, nnsight and torch there and here: `nnsight.compare()`."
_FEWER = "ask for fewer layers, multipliers or vectors at a time, or raise the server's limit."
_ANYIO = "the server needs anyio<4.15; or ask for fewer vectors at a time."
LATER = "run the command again; it goes on where it stopped."
# A pattern of the server's text, what it means, what to do, and what may pass.
_KNOWN = (
    ("Missing or invalid API key", "no key, or one that it does not accept", _KEY),
    ("Invalid API key", "a key that it does not accept", _KEY),
    ("Could not deploy this model", "a model that it does not have and cannot get", _OFFERED),
    ("Error starting model", "a model that it cannot start", _LOG),
    ("payload could not be read", "a request that it cannot read", VERSIONS),
    ("exceeded the execution timeout", "a job that took longer than it allows", _FEWER),
    ("error parsing the body", "a request that it cannot take in", _ANYIO),
    (_NO_MEMORY, "no memory left", "ask for fewer conditions at a time.", "memory"),
    (_BUSY, "a server that is busy or restarting", LATER, "passing", "again"),
    ("Error submitting request to model deployment", "a worker that died or was restarted", LATER, "again"),
)


def explain(error: BaseException, what: str, host: str, secret: str | None = None) -> RemoteFailure:
    """The failure behind an exception of nnsight, httpx or the operating system.

    `what` was asked of `host`; `secret` is the key, of which nothing must be in a message, and which servers quote.
    """
    text = str(error)
    lines, there = [line.strip() for line in text.splitlines() if line.strip()], f"{THERE} {host}"
    lines = [line for line in lines if not line.startswith("For more information check")]  # httpx's
    line = lines[-1][:300].rstrip(".") if lines else ""  # what a traceback ends with: type and message
    if secret and any(secret[at : at + PIECE] in line for at in range(max(1, len(secret) - PIECE + 1))):
        line = "words with the key in them"
    if _unreachable(error):
        found = f"no connection to {host} ({line or type(error).__name__})"
        next_step = f"check the address and that the server is up, then {LATER}"
        return RemoteFailure(what, found, next_step, "passing", where="on the way")
    for pattern, found, next_step, *flags in _KNOWN:
        if re.search(pattern, text, re.IGNORECASE):
            return RemoteFailure(what, f"{found}: {line}", next_step, *flags, where=there)
    ours = re.findall(r'File "[^"]*?steerkit[/\\]([\w/\\]+\.py)", line (\d+)', text)  # innermost last
    there += f", steerkit/{ours[-1][0]}:{ours[-1][1]}" if ours else ""
    next_step = "run it with a small model on this machine, where the traceback is whole."
    return RemoteFailure(what, f"an exception: {line}", next_step, where=there)


def _unreachable(error: BaseException | None) -> bool:
    """Whether the connection failed, rather than what was said over it."""
    import httpx

    kinds: tuple[Any, ...] = (ConnectionError, TimeoutError, httpx.TransportError)
    closed = type(error).__module__.partition(".")[0] == "websocket"
    return error is not None and (isinstance(error, kinds) or closed or _unreachable(error.__cause__))
