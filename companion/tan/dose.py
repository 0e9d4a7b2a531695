"""How strong a vector is: its norm, and how much it moves next tokens of a neutral text.

Multipliers of different vectors, layers and models are not the same dose. Beside steerability per unit multiplier the
records therefore allow it per unit of norm, and per root of a Kullback-Leibler divergence, which grows with the square of
a vector. The text (`neutral.txt`) is ours, about ordinary things, and in no data set here.
"""

from typing import Any

import pandas as pd

from companion.data.datasets import HERE
from steerkit import Model, Vectors
from steerkit.errors import need

FEW = 2  # placebos whose divergence is measured: label-shuffled ones
MATCHED = ("shuffled", "other", "random")  # kinds that have the norm of the vector


def neutral_tokens(model: Model) -> list[int]:
    """The neutral text as this model reads it."""
    text = " ".join((HERE / "neutral.txt").read_text(encoding="utf-8").split())
    start = [model.tokenizer.bos_token_id] if model.template.bos else []
    return [*start, *model.tokenizer(text, add_special_tokens=False).input_ids]


def dose_of(model: Model, vectors: Vectors, multiplier: float) -> dict[str, Any]:
    """What one steered layer gets, as plain numbers for a manifest.

    norm (L2, by vector), residual_norm (median over tokens of the text at
    this layer, the first left out), multiplier, and kl: by vector, nats a token from the unsteered to the steered
    distribution of next tokens when `multiplier` times the vector is added at every token.
    """
    from steerkit import traces
    from steerkit.remote import run

    [layer], values = vectors.layers, vectors.values[:, 0]
    named = dict(zip(vectors.names, values, strict=True))
    measured = ["full", *[name for name in named if name.startswith("shuffled")][:FEW]]
    deltas = multiplier * vectors.select(names=measured).values[:, 0]
    moved, norms = run(model, traces.divergences, neutral_tokens(model), layer, deltas)
    return {
        "norm": {name: _short(value.norm()) for name, value in named.items() if not name.startswith(MATCHED)},
        "residual_norm": _short(norms.median()),
        "multiplier": multiplier,
        "kl": dict(zip(measured, map(_short, moved), strict=True)),
    }


def _short(value: Any) -> float:
    """Five digits, which is more than a dose means."""
    return float(f"{float(value):.5g}")


def by_dose(table: pd.DataFrame) -> pd.DataFrame:
    """Steerability of the data sets of a PLACEBO table by dose, and the doses; one row a data set.

    Columns dataset; norm, difference_norm, residual_norm; kl and kl_shuffled (nats a token on the neutral text, of the
    vector and mean of its label-shuffled placebos); steerability per multiplier, per norm (of the residual stream),
    and per √kl (its effect at the multiplier of the divergence, over the root of that divergence).
    """
    slopes, rows = table[table["vector"] == "full"].groupby("dataset")["slope"].mean(), []
    for manifest in table.attrs["manifests"]:
        dose, name = manifest.get("dose"), manifest["inputs"]["dataset"]
        step = "record the placebos again with `steerkit record PROFILE --stage placebo`."
        need(bool(dose), f"the dose of the vector of {name}", "a record made before doses were kept", step)
        kl, norm = dose["kl"]["full"], dose["norm"]["full"]
        shuffled = [value for key, value in dose["kl"].items() if key.startswith("shuffled")]
        lengths = {key: dose[key] for key in ("difference_norm", "residual_norm")}
        about = {"dataset": name, "norm": norm, **lengths, "kl": kl}
        about["kl_shuffled"] = sum(shuffled) / len(shuffled)
        about |= {"per multiplier": slopes[name], "per norm": slopes[name] * dose["residual_norm"] / norm}
        rows.append(about | {"per √kl": slopes[name] * dose["multiplier"] / kl**0.5})
    return pd.DataFrame(rows)
