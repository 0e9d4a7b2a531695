"""An autoencoder as a folder in the spelling of SAELens 6: what the reader is tested against."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from steerkit.sae import ARRAYS, Sae


def save_sae(sae: Sae, folder: Path | str) -> None:
    """Write `cfg.json` and `sae_weights.safetensors`; a batchtopk one as the jumprelu one that it is at inference."""
    kind = {"batchtopk": "jumprelu", "relu": "standard"}.get(sae.kind, sae.kind)
    arrays = {name: getattr(sae, name) for name in ARRAYS}
    config = {
        "architecture": kind,
        "d_in": sae.width,
        "d_sae": sae.n_features,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": sae.subtract_decoder_bias,
        "normalize_activations": "none",
        "reshape_activations": "none",
        **({"k": int(sae.k), "rescale_acts_by_decoder_norm": False} if kind == "topk" else {}),
        "metadata": {
            "sae_lens_version": "6.0.0",  # the spelling; older ones are taken for version 4 or 5
            "model_name": sae.model,
            "hook_name": sae.hook,
            "hook_layer": sae.layer,
            "source": sae.source,
        },
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    weights = {name: array.contiguous() for name, array in arrays.items() if array is not None}
    save_file(weights, Path(folder) / "sae_weights.safetensors")
    (Path(folder) / "cfg.json").write_text(json.dumps(config, indent=1))
