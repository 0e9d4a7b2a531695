"""Where traces run: the address of a server, or this machine."""

import os
from urllib.parse import urlsplit

from steerkit.errors import need

OFF = "off"


def server(given: str | None = None, profile: str = "") -> str | None:
    """The address to run on: the one given, else STEERKIT_REMOTE, else the profile's; "off" and nothing mean here."""
    url = (given or os.environ.get("STEERKIT_REMOTE") or profile or OFF).strip()
    if url == OFF:
        return None
    parts = urlsplit(url)
    secret = parts.username or parts.password
    sound = parts.scheme in ("http", "https") and parts.hostname and not secret
    expected = "the address of an NDIF server, such as https://api.ndif.us, or off"
    found = "an address with a name or password in it" if secret else repr(url)
    next_step = "mend --remote, STEERKIT_REMOTE or the profile; a key goes into NDIF_API_KEY."
    need(bool(sound), expected, found, next_step, done="Nothing was sent.")
    return url.rstrip("/")


def host_of(url: str) -> str:
    """Name and port of a server, for manifests and messages."""
    return urlsplit(url).netloc


def on_this_machine(url: str) -> bool:
    """Whether a server listens here only, and so reads the folders that we read."""
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
