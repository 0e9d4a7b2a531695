"""Terms of use: shown before the first download, accepted by the user, recorded with the weights."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from steerkit.errors import SteerkitError

if TYPE_CHECKING:
    from companion.registry import Terms

ACCEPT_VARIABLE = "STEERKIT_ACCEPT"


def accepted() -> set[str]:
    """Keys of the terms that the environment variable STEERKIT_ACCEPT names, separated by commas."""
    return {key.strip() for key in os.environ.get(ACCEPT_VARIABLE, "").split(",") if key.strip()}


def consent(model: str, terms: Terms) -> dict[str, str]:
    """What a manifest records of the user's consent.

    Raises
    ------
    SteerkitError
        When the user has not accepted the terms; the message is where they are shown.
    """
    if terms.key not in accepted():
        raise SteerkitError(
            f"that you accept the terms of use of {model}: {terms.address}",
            f"{ACCEPT_VARIABLE} without {terms.key!r}. Notice: {terms.notice}",
            done="Nothing was downloaded.",
            next_step=f"read the terms and, if you accept them, run again with {ACCEPT_VARIABLE}={terms.key}; "
            "every figure that shows one model builds without this one.",
        )
    today = datetime.now(UTC).date().isoformat()
    return {"terms": terms.address, "notice": terms.notice, "accepted": today}
