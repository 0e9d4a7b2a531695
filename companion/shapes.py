from companion.outline import LENGTHS, SHAPES, config_of  # noqa: F401 - shim
