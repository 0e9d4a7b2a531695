# shim
from companion.outline import LENGTHS, config_of  # noqa: F401
from companion.registry import MODELS

SHAPES = {name: spec.shape for name, spec in MODELS.items() if spec.shape}
