"""Train a sparse autoencoder like those of Gemma Scope on stored activations, with SAELens' own trainers.

    python tools/train_sae.py activations.npy --out sae

Reads what `tools/collect_activations.py` wrote (float16 or float32 [tokens, d] and a json beside it). Writes a SAELens
folder that `steerkit.sae.load_sae` and sae-lens open, and the first part of `report.json`; `tools/report_sae.py` adds
what is measured on other text. Needs sae-lens 6 (not a dependency of steerkit; an environment of its own is best).

Two stages, because JumpReLU training alone leaves most features dead with as few tokens as a laptop can do:

1. BatchTopK, which keeps the number of active features at what was asked for and revives dead ones, on activations less
   their mean. The mean is more than half of their squared norm, and biases move by at most the learning rate a step, so
   that thousands of steps are too few to learn it. It is then folded into the biases: `OUT/first` reads activations as
   they are. A run that was interrupted goes on from there. With `--mean input` nothing is subtracted or folded, and
   everything else is the same: what the zero vector activates depends on this choice.
2. JumpReLU with a threshold for each feature and the L0 penalty of Rajamanoharan et al. 2024 (arXiv 2407.14435), from
   the first stage's weights, on activations as they are and without subtraction of the decoder bias, as in Gemma Scope
   (arXiv 2408.05147). Leaving out a feature of activation t costs about t squared, so the penalty that keeps the number
   of active features is the square of the first stage's threshold.

Attention sinks are left out, as the first position is: one token in some thousands with a norm a hundred times the usual
would make up most of the squared error.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from report_sae import reconstruction

from steerkit.sae import Sae, load_sae

if TYPE_CHECKING:
    from sae_lens import TrainingSAE

WATCHED = 0.05  # of the tokens, from the end, are not trained on; a check at the end of the training, no more
SAMPLE = 50_000  # tokens for the norms
SINK = 4  # times the median norm


def main() -> None:
    """Train, save, write down how."""
    options = _options()
    torch.manual_seed(options.seed)
    rows = np.load(options.activations, mmap_mode="r")
    about = json.loads(options.activations.with_suffix(".json").read_text(encoding="utf-8"))
    train, watched = np.split(rows, [len(rows) - int(len(rows) * WATCHED)])
    mean, scale, limit = _statistics(train, options.seed)
    start = time.perf_counter()
    batches = partial(_batches, train, scale, limit, options.batch)
    if not (options.out / "first" / "cfg.json").exists():
        folded = mean * scale * (options.mean == "folded")
        _save(_first(options, folded, batches(options.seed)), about, options.out / "first")
    sae = _second(options, load_sae(options.out / "first"), batches(options.seed + 1))
    sae.fold_activation_norm_scaling_factor(scale)
    sae.fold_W_dec_norm()  # decoder rows of unit norm: thresholds and biases are in the units of the activations
    _save(sae, about, options.out)
    report = {
        "trained": {
            "by": f"SAELens {version('sae-lens')}: BatchTopK, then JumpReLU with an L0 penalty",
            "tokens_distinct": len(train),
            "tokens_seen": sum(n // options.batch * options.batch for n in (options.first, options.second)),
            "seconds": round(time.perf_counter() - start),
            "sinks_left_out_above_norm": limit,
            "settings": {k: str(v) for k, v in vars(options).items() if k not in ("activations", "out")},
        },
        "activations": about,
        "watched": _check(load_sae(options.out), watched, limit),
    }
    (options.out / "report.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report["watched"]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("activations", type=Path, help="the .npy file")
    parser.add_argument("--out", type=Path, required=True, help="folder of the autoencoder")
    parser.add_argument("--mean", choices=["folded", "input"], default="folded", help="where the mean goes")
    parser.add_argument("--features", type=int, default=4608, help="width of the autoencoder")
    parser.add_argument("--active", type=float, default=100, help="features per token after the first stage")
    parser.add_argument(
        "--first", type=int, default=800_000, help="tokens of the first stage, repeated ones too"
    )
    parser.add_argument("--second", type=int, default=600_000, help="tokens of the second stage")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--autocast", action="store_true", help="matrix products in bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return options


def _first(options: argparse.Namespace, mean: torch.Tensor, batches: Iterator[torch.Tensor]) -> TrainingSAE:
    from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig

    shape = {"d_in": len(mean), "d_sae": options.features, "apply_b_dec_to_input": False}
    sae = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(k=options.active, **shape))
    _fit(sae, options, options.first, (rows - mean for rows in batches), decay=False)
    with torch.no_grad():  # the same features of x as of x - mean
        sae.b_enc.sub_(mean @ sae.W_enc)
        sae.b_dec.add_(mean)
    return sae


def _second(options: argparse.Namespace, start: Sae, batches: Iterator[torch.Tensor]) -> TrainingSAE:
    from sae_lens import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig

    threshold = float(start.threshold.median())
    config = JumpReLUTrainingSAEConfig(
        d_in=start.width,
        d_sae=start.n_features,
        apply_b_dec_to_input=False,
        jumprelu_sparsity_loss_mode="step",
        jumprelu_bandwidth=threshold / 4,
        l0_coefficient=threshold**2,
    )
    sae = JumpReLUTrainingSAE(config)
    with torch.no_grad():
        for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"):
            getattr(sae, name).copy_(getattr(start, name))
    return _fit(sae, options, options.second, batches, decay=True)


def _fit(
    sae: TrainingSAE,
    options: argparse.Namespace,
    tokens: int,
    batches: Iterator[torch.Tensor],
    *,
    decay: bool,
) -> TrainingSAE:
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    steps = tokens // options.batch
    config = SAETrainerConfig(
        total_training_samples=steps * options.batch,
        train_batch_size_samples=options.batch,
        lr=options.lr,
        lr_end=options.lr / 50,
        lr_warm_up_steps=min(100, steps // 10),
        lr_decay_steps=steps // 2 if decay else 0,
        dead_feature_window=150,
        autocast=options.autocast,
    )
    return SAETrainer(config, sae, batches).fit()


def _save(sae: TrainingSAE, about: dict[str, Any], folder: Path) -> None:
    from sae_lens.saes.sae import SAEMetadata

    hook = f"blocks.{about['layer']}.hook_resid_post"
    sae.cfg.metadata = SAEMetadata(model_name=about["model"], hook_name=hook, source="tools/train_sae.py")
    sae.save_inference_model(folder)


def _statistics(train: np.ndarray, seed: int) -> tuple[torch.Tensor, float, float]:
    """Mean activation [d], factor that makes the mean norm sqrt(d), and the norm above which a token is a sink."""
    chosen = np.sort(np.random.default_rng(seed).choice(len(train), min(SAMPLE, len(train)), replace=False))
    rows = torch.from_numpy(train[chosen].astype(np.float32))
    norms = rows.norm(dim=1)
    limit = SINK * float(norms.median())
    usual = norms <= limit
    return rows[usual].mean(0), float(train.shape[1] ** 0.5 / norms[usual].mean()), limit


def _batches(train: np.ndarray, scale: float, limit: float, batch: int, seed: int) -> Iterator[torch.Tensor]:
    """Rows in random order, every row once an epoch, for ever; a batch lacks the sinks it would have had."""
    rng = np.random.default_rng(seed)
    batch = min(batch, len(train))
    while True:
        order = rng.permutation(len(train))
        for begin in range(0, len(order) - batch + 1, batch):
            # Sorted within the batch: neighbours on the disk are read together.
            rows = torch.from_numpy(train[np.sort(order[begin : begin + batch])].astype(np.float32))
            yield rows[rows.norm(dim=1) <= limit] * scale


@torch.no_grad()
def _check(sae: Sae, watched: np.ndarray, limit: float) -> dict[str, float]:
    """L0 and explained variance on the rows at the end of the file: whether the training went well."""
    rows = torch.from_numpy(watched[: 20 * 1024].astype(np.float32))
    rows = rows[rows.norm(dim=1) <= limit]
    return reconstruction(sae, rows)[1]


if __name__ == "__main__":
    main()
