"""Which autoencoder file, read by which convention, gives the published numbers of the zero vector.

Mayne et al. 2024 state an encoder bias of 86.20 for feature 4888 and an activation of 89.06 at zero. f(0) is the bias
where the decoder bias is not subtracted, and b_enc - b_dec @ W_enc where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from companion import published_mayne
from companion.saes import SCOPE_NAMES, open_sae
from steerkit.decomposition import top_features
from steerkit.errors import SteerkitError
from steerkit.sae import Sae

CLOSE = 0.02  # printed with two decimals, from weights that some readers round to half precision
PLAIN, SUBTRACTED = "b_enc", "b_enc - b_dec @ W_enc"


def candidates(names: Sequence[str], feature: int, download: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Biases of one feature, and top features of zero, for each candidate file and both conventions.

    Parameters
    ----------
    names : autoencoders by name or path; empty: the Gemma Scope files of layer 14
    feature : index of the feature
    download : whether missing files may be fetched

    Returns
    -------
    DataFrame, DataFrame
        file, b_enc, b_enc - b_dec @ W_enc, published bias, published f(0), fits; and file, convention, 1 to 5, also
        published. A file that cannot be had has its reason in `fits`, and no rows in the second table.
    """
    rows, tops, reason = [], [], ""
    for name in names or SCOPE_NAMES:
        try:
            if reason and name in SCOPE_NAMES:  # one attempt tells whether the hub can be reached
                raise SteerkitError(name, reason, next_step="")
            sae = open_sae(name, download=download)
        except SteerkitError as error:
            reason = error.found if name in SCOPE_NAMES else reason
            rows.append(_row(name, None, None, f"missing: {error.found}{_advice(name, download)}"))
            continue
        values = biases(sae, feature)
        rows.append(_row(name, *values, verdict(*values)))
        tops += [_top(name, sae, subtracted) for subtracted in (False, True)]
    heads = ["file", "convention", "1", "2", "3", "4", "5", "also published"]
    return pd.DataFrame(rows), pd.DataFrame(tops, columns=heads)


def biases(sae: Sae, feature: int) -> tuple[float, float]:
    """(b_enc, b_enc - b_dec @ W_enc) of one feature, in float64.

    Raises
    ------
    SteerkitError
        For a feature that the autoencoder does not have.
    """
    if not 0 <= feature < sae.n_features:
        raise SteerkitError(
            f"a feature from 0 to {sae.n_features - 1}", str(feature), next_step="choose one of these."
        )
    bias = float(sae.b_enc[feature])
    return bias, bias - float(sae.b_dec.double() @ sae.W_enc[:, feature].double())


def verdict(plain: float, subtracted: float) -> str:
    """Which published number each of the two values is, within rounding."""
    _, bias = published_mayne.default_component()
    zero = float(published_mayne.top_features(published_mayne.ZERO)["activation"].iloc[0])
    found = [
        f"{what} is the published {name}"
        for what, value in ((PLAIN, plain), (SUBTRACTED, subtracted))
        for name, number in (("encoder bias", bias), ("f(0)", zero))
        if abs(value - number) <= CLOSE
    ]
    return "; ".join(found) or "neither number"


def _row(name: str, plain: float | None, subtracted: float | None, fits: str) -> dict:
    _, bias = published_mayne.default_component()
    zero = published_mayne.top_features(published_mayne.ZERO)["activation"].iloc[0]
    shown = ["" if value is None else f"{value:.4f}" for value in (plain, subtracted)]
    return {
        "file": name,
        PLAIN: shown[0],
        SUBTRACTED: shown[1],
        "published bias": f"{bias:.2f}",
        "published f(0)": f"{zero:.2f}",
        "fits": fits,
    }


def _advice(name: str, download: bool) -> str:
    return "; fetch it with download=True" if name in SCOPE_NAMES and not download else ""


def _top(name: str, sae: Sae, subtracted: bool) -> tuple:
    """The five most active features of zero under one convention."""
    read = replace(sae, subtract_decoder_bias=subtracted)
    found = top_features(read, sae.b_dec.new_zeros(sae.width), 5)
    theirs = set(published_mayne.top_features(published_mayne.ZERO)["feature"])
    cells = [f"{int(row.feature)} ({row.activation:.2f})" for row in found.itertuples()]
    shared = f"{len(theirs & set(found['feature']))} of {len(theirs)}"
    return name, SUBTRACTED if subtracted else PLAIN, *(cells + [""] * 5)[:5], shared
