"""Which autoencoder file, read by which convention, gives the published numbers of the zero vector.

Mayne et al. 2024 state an encoder bias of 86.20 for feature 4888 and an activation of 89.06 at zero. f(0) is the bias
where the decoder bias is not subtracted, and b_enc - b_dec @ W_enc where it is.
"""

from collections.abc import Iterator, Sequence

import pandas as pd

from companion import published
from companion.saes import SCOPE_NAMES, open_sae
from steerkit.errors import SteerkitError, need
from steerkit.sae import Sae

CLOSE = 0.02  # printed with two decimals, from weights that some readers round to half precision
NAMES = ("encoder bias", "f(0)")  # of the published numbers
PLAIN, SUBTRACTED = "b_enc", "b_enc - b_dec @ W_enc"


def candidates(names: Sequence[str], feature: int, download: bool) -> Iterator[tuple[str, Sae | str]]:
    """Each file, opened, or the reason why it cannot be had; without names the Gemma Scope files of layer 14."""
    reason = ""
    for name in names or SCOPE_NAMES:
        try:
            if reason and name in SCOPE_NAMES:  # one attempt tells whether the hub can be reached
                raise SteerkitError(name, reason, next_step="")
            sae = open_sae(name, download=download)
        except SteerkitError as error:
            reason = error.found if name in SCOPE_NAMES else reason
            advice = "; fetch it with download=True" if name in SCOPE_NAMES and not download else ""
            yield name, f"missing: {error.found}{advice}"
            continue
        known = f"a feature from 0 to {sae.n_features - 1}"
        need(0 <= feature < sae.n_features, known, str(feature), "choose one of these.")
        yield name, sae


def bias_row(name: str, fits: str, *values: float) -> dict[str, str]:
    """One file beside the published numbers; `fits` says which it gives, or why it gives none."""
    shown = [*(f"{value:.4f}" for value in values), "", ""][:2]
    row = {"file": name} | dict(zip((PLAIN, SUBTRACTED), shown, strict=True))
    bias, zero = _published()
    return row | {"published bias": f"{bias:.2f}", "published f(0)": f"{zero:.2f}", "fits": fits}


def verdict(plain: float, subtracted: float) -> str:
    """Which published number each of the two values is, within rounding."""
    ours, theirs = {PLAIN: plain, SUBTRACTED: subtracted}, dict(zip(NAMES, _published(), strict=True))
    pairs = [(what, name) for what in ours for name in theirs if abs(ours[what] - theirs[name]) <= CLOSE]
    return "; ".join(f"{what} is the published {name}" for what, name in pairs) or "neither number"


def top_row(name: str, convention: str, top: pd.DataFrame) -> dict[str, str]:
    """The five most active features of zero under one convention, and how many of the published ones are among them."""
    theirs = set(published.top_features(published.ZERO)["feature"])
    cells = [*(f"{int(row.feature)} ({row.activation:.2f})" for row in top.itertuples()), *[""] * 5]
    shared = f"{len(theirs & set(top['feature']))} of {len(theirs)}"
    ranks = {str(rank): cell for rank, cell in enumerate(cells[:5], 1)}
    return {"file": name, "convention": convention, **ranks, "also published": shared}


def _published() -> tuple[float, float]:
    zero = published.top_features(published.ZERO)["activation"].iloc[0]
    return published.default_component()[1], float(zero)
