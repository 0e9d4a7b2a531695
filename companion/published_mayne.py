from companion.published import (  # noqa: F401 - shim
    VECTOR,
    ZERO,
    best_layer,
    default_component,
    inputs,
    mayne,
    shared_features,
    signs,
    top_features,
)
