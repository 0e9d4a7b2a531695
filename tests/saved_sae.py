"""An autoencoder as a folder in the spelling of SAELens 6: what the reader is tested against."""

import json
from pathlib import Path

from safetensors.torch import save_file

from steerkit.sae import ARRAYS, Sae

PLAIN = {"dtype": "float32", "device": "cpu", "normalize_activations": "none", "reshape_activations": "none"}


def save_sae(sae: Sae, folder: Path | str) -> None:
    """Write `cfg.json` and `sae_weights.safetensors`; a batchtopk one as the jumprelu one that it is at inference."""
    kind = {"batchtopk": "jumprelu", "relu": "standard"}.get(sae.kind, sae.kind)
    # The version is that of the spelling; older ones are taken for version 4 or 5.
    metadata = {"sae_lens_version": "6.0.0", "model_name": sae.model, "source": sae.source}
    metadata |= {"hook_name": sae.hook, "hook_layer": sae.layer}
    shape = {"d_in": sae.width, "d_sae": sae.n_features, "apply_b_dec_to_input": sae.subtract_decoder_bias}
    config = PLAIN | shape | {"architecture": kind, "metadata": metadata}
    if kind == "topk":
        config |= {"k": int(sae.k), "rescale_acts_by_decoder_norm": False}
    weights = {name: getattr(sae, name).contiguous() for name in ARRAYS if getattr(sae, name) is not None}
    Path(folder).mkdir(parents=True, exist_ok=True)
    save_file(weights, Path(folder) / "sae_weights.safetensors")
    (Path(folder) / "cfg.json").write_text(json.dumps(config, indent=1))
