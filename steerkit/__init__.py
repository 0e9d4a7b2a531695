"""steerkit: steering vectors, extracted, applied and analysed through nnsight.

Companion to Tan et al. 2024 (reliability and generalisation of steering vectors) and Mayne et al. 2024
(decomposing them with sparse autoencoders). Importing this imports neither torch nor matplotlib.

Dimension letters, the same everywhere: `p` prompts (examples), `s` sequence positions, `d` model width,
`l` layers, `k` multipliers, `v` vectors, `f` SAE features. A layer is a 0-based decoder block; the residual
stream at layer l is the output of block l.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "SteerkitError": "errors",
    "load_model": "load",
    "wrap": "model",
    "Model": "model",
    "Prompter": "prompts",
    "Example": "prompts",
    "differences": "extraction",
    "mean_difference": "extraction",
    "resampled": "extraction",
    "Vectors": "vectors",
    "load_vectors": "vectors",
    "evaluate": "grid",
    "Grid": "grid",
    "slopes": "steerability",
    "summary": "steerability",
    "variance_parts": "stats",
    "bootstrap": "stats",
    "rank_correlation": "stats",
}

__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first used."""
    if name not in _HOME:
        message = f"module 'steerkit' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"steerkit.{_HOME[name]}"), name)
