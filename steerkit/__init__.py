"""steerkit: steering vectors, extracted, applied and analysed through nnsight.

It knows no paper, no data set and no model by name. Importing it imports neither torch nor matplotlib.

Dimension letters, the same everywhere: `p` prompts (examples), `s` sequence positions, `d` model width,
`l` layers, `k` multipliers, `v` vectors, `f` SAE features. A layer is a 0-based decoder block; the residual
stream at layer l is the output of block l.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same for type checkers and editors, which run no `__getattr__`
    from steerkit.decomposition import decompose as decompose, top_features as top_features
    from steerkit.errors import SteerkitError as SteerkitError
    from steerkit.extraction import differences as differences, extract as extract, shuffled as shuffled
    from steerkit.formats import ask as ask, ledger as ledger
    from steerkit.generation import generate as generate
    from steerkit.gradient import gradients as gradients
    from steerkit.grid import Grid as Grid, evaluate as evaluate
    from steerkit.load import load_model as load_model
    from steerkit.model import Model as Model, wrap as wrap
    from steerkit.prompts import Example as Example
    from steerkit.sae import load_sae as load_sae
    from steerkit.stats import mean_interval as mean_interval, rank_correlation as rank_correlation
    from steerkit.steerability import slopes as slopes, summary as summary
    from steerkit.vectors import Vectors as Vectors, load_vectors as load_vectors

__version__ = "0.1.0"

_HOME = {
    "load_model": "load",  # a folder or hub id becomes a Model, here or on a server
    "wrap": "model",  # an nnsight model that is in memory already becomes one
    "Model": "model",
    "ask": "formats",  # plain texts become examples
    "Example": "prompts",
    "ledger": "formats",  # which token is read, steered and scored
    "extract": "extraction",  # examples become vectors
    "differences": "extraction",  # the same, example by example
    "shuffled": "extraction",  # placebos: the same with labels drawn at random
    "gradients": "gradient",  # the slope at multiplier 0 of any vector
    "Vectors": "vectors",
    "load_vectors": "vectors",
    "evaluate": "grid",  # the score of every example under every vector, layer and multiplier
    "Grid": "grid",
    "slopes": "steerability",  # steerability, example by example
    "summary": "steerability",  # and block by block
    "mean_interval": "stats",  # a mean with its t interval
    "rank_correlation": "stats",
    "generate": "generation",  # steered text
    "load_sae": "sae",
    "top_features": "decomposition",
    "decompose": "decomposition",  # a vector as a sum of decoder directions
    "SteerkitError": "errors",
}

__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first used."""
    if name not in _HOME:
        message = f"module 'steerkit' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"steerkit.{_HOME[name]}"), name)
