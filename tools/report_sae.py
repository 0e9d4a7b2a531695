"""Measure a trained autoencoder on text that it was not trained on, and write the numbers into its report.

    python tools/report_sae.py companion/data/sae/smollm2-135m --activations activations.npy

Text: the windows that `tools/collect_activations.py` did not run, without those that have a run of 16 tokens in common
with any window it did run. A run that is in more than one of a hundred windows is the chat template, and does not count.
So no document, and no question or paragraph of one, is on both sides.

Everything in float32, with the stored weights. Explained variance is about the mean; a feature is dead when no token of
this text activates it. Loss recovered is (loss with the stream set to its mean - loss with the autoencoder) / (loss with
the mean - loss of the model itself). Sinks, and the first position of each window, keep their activations throughout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from collect_activations import SKIP, activations

from companion.models import load_model
from steerkit.model import Model
from steerkit.sae import Sae, load_sae

RUN = 16  # tokens in a row that two texts do not have in common by chance
TEMPLATE = 0.01  # share of windows above which a run is the template's
BATCH = 8


def main() -> None:
    """Measure, and write the numbers into report.json."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--activations", type=Path, required=True, help="the .npy file it was trained on")
    parser.add_argument("--tokens", type=int, default=40_000, help="for all but the loss")
    parser.add_argument("--spliced", type=int, default=8_000, help="of them for the loss: three more runs")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    path = options.folder / "report.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    limit, about = report["trained"]["sinks_left_out_above_norm"], report["activations"]
    windows = np.load(options.activations.with_suffix(".windows.npy")).astype(np.int64)
    free = torch.from_numpy(without_shared_text(windows[: about["windows"]], windows[about["windows"] :]))
    model, sae = load_model(about["model"]), load_sae(options.folder)
    chosen = free[: -(-options.tokens // (free.shape[1] - SKIP))]
    measured = {"windows_of_other_text": len(free), "precision": "float32", "sha256": sae.sha256}
    measured |= _quality(model, sae, chosen, limit)
    measured["spliced"] = _spliced(model, sae, chosen[: -(-options.spliced // free.shape[1])], limit)
    measured["zero_vector_activates"] = int((sae.encode(torch.zeros(sae.width)) > 0).sum())
    path.write_text(json.dumps(report | {"held_out": measured}, indent=1))
    print(json.dumps(measured))


def without_shared_text(known: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Those of the other windows [n, context] that have no run of `RUN` tokens in common with the known ones."""
    # Runs across the borders of windows count too: the windows were cut from one stream.
    runs, counts = np.unique(_hashes(known.reshape(1, -1)), return_counts=True)
    counted = runs[counts <= max(1, TEMPLATE * len(known))]
    return others[~np.isin(_hashes(others), counted).any(axis=1)]


def _hashes(tokens: np.ndarray) -> np.ndarray:
    """One number for each run of `RUN` tokens, [n, s] -> [n, s - RUN + 1]."""
    runs = tokens.shape[1] - RUN + 1
    found = np.zeros((len(tokens), runs), np.uint64)
    for i in range(RUN):
        found = found * np.uint64(1_000_003) + tokens[:, i : i + runs].astype(np.uint64) + np.uint64(1)
    return found


@torch.no_grad()
def _quality(model: Model, sae: Sae, windows: torch.Tensor, limit: float) -> dict[str, Any]:
    stream = torch.cat([activations(model, batch, sae.layer) for batch in windows.split(BATCH)])
    kept = stream[stream.norm(dim=1) <= limit]
    fired, found = reconstruction(sae, kept)
    return found | {
        "sinks": len(stream) - len(kept),
        "text_sha256": hashlib.sha256(windows.numpy().tobytes()).hexdigest(),
        "dead_share": float((fired == 0).float().mean()),
        "dense_share": float((fired > 0.1 * len(kept)).float().mean()),
    }


def reconstruction(sae: Sae, rows: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
    """On how many of the rows [n, d] each feature is active [f], and L0 and explained variance."""
    fired, error = torch.zeros(sae.n_features), 0.0
    for part in rows.split(1024):
        features = sae.encode(part)
        fired += (features > 0).sum(0)
        error += float((sae.decode(features) - part).square().sum())
    explained = 1 - error / float((rows - rows.mean(0)).square().sum())
    return fired, {"tokens": len(rows), "l0": float(fired.sum() / len(rows)), "explained": explained}


def _spliced(model: Model, sae: Sae, windows: torch.Tensor, limit: float) -> dict[str, Any]:
    stream = torch.cat([activations(model, batch, sae.layer) for batch in windows.split(BATCH)])
    mean = stream[stream.norm(dim=1) <= limit].mean(0)
    changes = {
        "model": lambda x: x,
        "autoencoder": lambda x: sae.decode(sae.encode(x)),
        "mean": mean.expand_as,
    }
    losses = {name: _loss(model, windows, sae.layer, limit, change) for name, change in changes.items()}
    recovered = (losses["mean"] - losses["autoencoder"]) / (losses["mean"] - losses["model"])
    return {"tokens": len(stream), "loss": losses, "loss_recovered": recovered}


def _loss(
    model: Model,
    windows: torch.Tensor,
    layer: int,
    limit: float,
    change: Callable[[torch.Tensor], torch.Tensor],
) -> float:
    """Mean cross-entropy, in nats a token, with the stream after the block replaced by `change` of it."""
    total, count = 0.0, 0
    for batch in windows.split(BATCH):
        stream = activations(model, batch, layer)
        usual = stream.norm(dim=1, keepdim=True) <= limit
        replaced = torch.where(usual, change(stream), stream).view(len(batch), -1, model.width)
        with torch.no_grad(), model.lm.trace(input_ids=batch, use_cache=False):
            model.layers[layer].output[:, SKIP:] = replaced
            logits = model.lm.output.logits.save()
        # Predictions at the positions that were replaced, of the tokens that follow them.
        scores = logits[:, SKIP:-1].float().log_softmax(-1)
        wanted = batch[:, SKIP + 1 :, None]
        total -= float(scores.gather(-1, wanted).sum())
        count += wanted.numel()
    assert math.isfinite(total)
    return total / count


if __name__ == "__main__":
    main()
