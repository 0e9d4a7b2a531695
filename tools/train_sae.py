"""Train a sparse autoencoder on stored activations with SAELens' own trainer, and report how good it is.

    python tools/train_sae.py activations.npy --out sae --passes 2_500_000

Reads what `tools/collect_activations.py` wrote (float16 or float32 [tokens, d] and a json beside it). Writes a SAELens
folder that `steerkit.sae.load_sae` and sae-lens open, and `report.json`. Needs sae-lens 6 (not a dependency of steerkit;
an environment of its own is best) and steerkit on the path.

It trains a BatchTopK autoencoder, which keeps the number of active features at what was asked for and revives dead ones,
and which SAELens saves as JumpReLU with the threshold it learned. (SAELens' own JumpReLU training, tried on synthetic
sparse data with the same number of tokens, explained less and left most features dead.) There is an encoder bias, and
the decoder bias is not subtracted from the input, as in Gemma Scope.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from steerkit.sae import Sae, load_sae

HELD_OUT = 0.05  # of the tokens, from the end: other documents than those trained on
SAMPLE = 50_000  # tokens for the mean and the norm


def main() -> None:
    """Train, save, measure."""
    options = _options()
    torch.manual_seed(options.seed)
    rows = np.load(options.activations, mmap_mode="r")
    about = json.loads(options.activations.with_suffix(".json").read_text())
    held_out = max(1, int(len(rows) * HELD_OUT))
    train, test = rows[:-held_out], rows[-held_out:]
    start = time.perf_counter()
    _train(options, train, about)
    seconds = time.perf_counter() - start
    report = _measure(load_sae(options.out, expect_width=rows.shape[1], expect_layer=about["layer"]), test)
    report |= {
        "architecture_trained": "batchtopk",
        "tokens_distinct": len(train),
        "tokens_seen": options.passes // options.batch * options.batch,
        "seconds": round(seconds),
        "settings": {
            name: str(value) for name, value in vars(options).items() if name not in ("activations", "out")
        },
        "activations": about,
    }
    (options.out / "report.json").write_text(json.dumps(report, indent=1))
    print(json.dumps({name: report[name] for name in ("l0", "explained", "dead_share", "seconds")}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("activations", type=Path, help="the .npy file")
    parser.add_argument("--out", type=Path, required=True, help="folder of the autoencoder")
    parser.add_argument("--features", type=int, default=4608, help="width of the autoencoder")
    parser.add_argument("--active", type=float, default=50, help="active features per token to aim at")
    parser.add_argument(
        "--passes", type=int, default=2_500_000, help="tokens to train on, repetitions counted"
    )
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--autocast", action="store_true", help="matrix products in bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return options


def _train(options: argparse.Namespace, train: np.ndarray, about: dict[str, Any]) -> None:
    """Fit in units where activations have mean norm sqrt(d), then fold the unit into the weights and save."""
    from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.training.sae_trainer import SAETrainer

    mean, scale = _center_and_scale(train, options.seed)
    shape = {"d_in": train.shape[1], "d_sae": options.features}
    sae = BatchTopKTrainingSAE(
        BatchTopKTrainingSAEConfig(k=options.active, apply_b_dec_to_input=False, **shape)
    )
    with torch.no_grad():
        sae.b_dec.copy_(mean * scale)
        # The input keeps its mean (the convention of Gemma Scope), so the encoder bias starts by taking it out.
        sae.b_enc.copy_(-(mean * scale) @ sae.W_enc)
    steps = options.passes // options.batch
    config = SAETrainerConfig(
        total_training_samples=steps * options.batch,
        train_batch_size_samples=options.batch,
        lr=options.lr,
        lr_end=options.lr / 10,
        lr_warm_up_steps=min(200, steps // 10),
        lr_decay_steps=steps // 4,
        dead_feature_window=max(20, steps // 20),
        autocast=options.autocast,
    )
    SAETrainer(config, sae, _batches(train, scale, options.batch, options.seed)).fit()
    sae.fold_activation_norm_scaling_factor(scale)
    sae.cfg.metadata = SAEMetadata(
        model_name=about["model"],
        hook_name=f"blocks.{about['layer']}.hook_resid_post",
        source="tools/train_sae.py",
    )
    sae.save_inference_model(options.out)


def _center_and_scale(train: np.ndarray, seed: int) -> tuple[torch.Tensor, float]:
    """Mean activation [d] and the factor that makes the mean norm sqrt(d)."""
    chosen = np.sort(np.random.default_rng(seed).choice(len(train), min(SAMPLE, len(train)), replace=False))
    sample = torch.from_numpy(train[chosen].astype(np.float32))
    return sample.mean(0), float(train.shape[1] ** 0.5 / sample.norm(dim=1).mean())


def _batches(train: np.ndarray, scale: float, batch: int, seed: int) -> Iterator[torch.Tensor]:
    """Rows in random order, every row once an epoch, for ever."""
    rng = np.random.default_rng(seed)
    batch = min(batch, len(train))
    while True:
        order = rng.permutation(len(train))
        for begin in range(0, len(order) - batch + 1, batch):
            # Sorted within the batch: neighbours on the disk are read together.
            yield torch.from_numpy(train[np.sort(order[begin : begin + batch])].astype(np.float32)) * scale


@torch.no_grad()
def _measure(sae: Sae, test: np.ndarray) -> dict[str, Any]:
    """L0, explained variance (about the mean) and dead features on held-out tokens, with the package's own reader."""
    mean = torch.zeros(sae.width, dtype=torch.float64)
    for part in _parts(test):
        mean += part.double().sum(0) / len(test)
    active, error, total = torch.zeros(sae.n_features), 0.0, 0.0
    for part in _parts(test):
        features = sae.encode(part)
        active += (features > 0).sum(0)
        error += float((sae.decode(features) - part).double().square().sum())
        total += float((part - mean).square().sum())
    return {
        "features": sae.n_features,
        "held_out_tokens": len(test),
        "l0": float(active.sum() / len(test)),
        "explained": 1 - error / total,
        "dead_share": float((active == 0).float().mean()),
        "dense_share": float((active > 0.1 * len(test)).float().mean()),
    }


def _parts(test: np.ndarray) -> Iterator[torch.Tensor]:
    for begin in range(0, len(test), 2048):
        yield torch.from_numpy(test[begin : begin + 2048].astype(np.float32))


if __name__ == "__main__":
    main()
