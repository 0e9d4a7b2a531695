from companion.data.datasets import Source, names, read_source, sources  # noqa: F401 - shim
