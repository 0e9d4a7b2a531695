"""Add to an autoencoder's report what it does to the model: the loss when its output takes the place of the stream.

    python tools/report_sae.py steerkit/data/sae/smollm2-135m --model smollm2-135m --tokens 20_000

In float32, whatever precision the activations for training were collected in, on windows of the same sources drawn with
another seed. Loss recovered is (loss with the stream set to its mean - loss with the autoencoder) / (loss with the mean
- loss of the model itself).
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from collect_activations import SHARES, SKIP, _windows

from steerkit.models import load_model
from steerkit.sae import load_sae

if TYPE_CHECKING:
    from collections.abc import Callable

    from steerkit.models import Model

SEED = 1_000_003  # not the seed of the training text


def main() -> None:
    """Measure, and write the numbers into report.json."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tokens", type=int, default=20_000)
    options = parser.parse_args()
    model, sae = load_model(options.model), load_sae(options.folder)
    path = options.folder / "report.json"
    report = json.loads(path.read_text())
    sources = {name: float(report["activations"]["tokens_by_source"].get(name, 0)) for name in SHARES}
    windows, _ = _windows(
        model,
        SimpleNamespace(seed=SEED, tokens=options.tokens, context=128, out=path, **sources),
    )
    stream = torch.cat([_stream(model, batch, sae.layer) for batch in windows.split(8)])
    mean = stream.mean(0)
    rebuilt = sae.decode(sae.encode(stream))
    losses = {
        "model": _loss(model, windows, sae.layer, lambda x: x),
        "autoencoder": _loss(model, windows, sae.layer, lambda x: sae.decode(sae.encode(x))),
        "mean": _loss(model, windows, sae.layer, lambda x: mean.expand_as(x)),
    }
    spliced = {
        "tokens": len(stream),
        "explained_float32": 1 - float((rebuilt - stream).square().sum() / (stream - mean).square().sum()),
        "loss": losses,
        "loss_recovered": (losses["mean"] - losses["autoencoder"]) / (losses["mean"] - losses["model"]),
    }
    path.write_text(json.dumps(report | {"spliced": spliced}, indent=1))
    print(json.dumps(spliced))


def _stream(model: Model, batch: torch.Tensor, layer: int) -> torch.Tensor:
    """Residual stream [tokens, d] after the block, first positions left out."""
    with torch.no_grad(), model.lm.trace(input_ids=batch, use_cache=False) as tracer:
        found = model.sites.layers[layer].output.save()
        tracer.stop()
    return found[:, SKIP:].reshape(-1, model.width).float()


def _loss(
    model: Model, windows: torch.Tensor, layer: int, change: Callable[[torch.Tensor], torch.Tensor]
) -> float:
    """Mean cross-entropy, in nats a token, with the stream after the block replaced by `change` of it."""
    total, count = 0.0, 0
    for batch in windows.split(4):
        stream = _stream(model, batch, layer)
        replaced = change(stream).view(len(batch), -1, model.width)
        with torch.no_grad(), model.lm.trace(input_ids=batch, use_cache=False):
            model.sites.layers[layer].output[:, SKIP:] = replaced
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
