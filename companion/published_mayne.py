"""The published numbers of Mayne et al. 2024 (arXiv 2411.08790), with types.

`companion/data/published/mayne2024.json` holds the facts with source and precision. They are few: the paper's code was
never released, and the distributions of its figures are not in its text. All are of Gemma-2-2B after block 14 and of a
Gemma Scope autoencoder with 16,384 features; activations are in that autoencoder's units.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from steerkit.errors import SteerkitError

_PATH = Path(__file__).parent / "data" / "published" / "mayne2024.json"
VECTOR, ZERO = "corrigible-neutral-HHH", "zero"  # the inputs whose features are published


@cache
def mayne() -> dict[str, Any]:
    """Everything known of the paper's numbers, as stored; cached, so treat it as read-only."""
    return json.loads(_PATH.read_text(encoding="utf-8"))


def inputs() -> tuple[str, ...]:
    """Names of the inputs whose most active features are published."""
    return tuple(mayne()["top_features"])


def top_features(name: str) -> pd.DataFrame:
    """The five most active features of an input (Figure 2, Table 1): feature, activation, rank.

    Raises
    ------
    SteerkitError
        For an input whose features were not found; only those of `inputs()` are known.
    """
    if name not in inputs():
        raise SteerkitError(
            f"an input with published features ({', '.join(inputs())})",
            repr(name),
            done="Nothing was looked up.",
            next_step="take one of these; those of the other vectors of Table 1 were not found.",
        )
    features, activations = zip(*mayne()["top_features"][name], strict=True)
    ranks = range(1, len(features) + 1)
    return pd.DataFrame({"feature": features, "activation": activations, "rank": ranks})


def shared_features() -> int:
    """How many of the five features of the vector are also among those of the zero vector."""
    return len(set(top_features(VECTOR)["feature"]) & set(top_features(ZERO)["feature"]))


def default_component() -> tuple[int, float]:
    """Feature of Figure 3 and its encoder bias."""
    found = mayne()["default_component"]
    return int(found["feature"]), float(found["encoder_bias"])


def signs() -> tuple[int, int, float]:
    """Figure 4: the feature with a negative part in the vector, the spurious one, and the cosine of the two."""
    found = mayne()["signs"]
    return int(found["negative"]), int(found["spurious"]), float(found["cosine"])


def best_layer() -> tuple[int, int]:
    """Layer of the highest steerability (Figure 5) and the number of blocks of the model."""
    found = mayne()["layers"]
    return int(found["best"]), int(found["blocks"])
