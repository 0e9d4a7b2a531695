# shim
from companion.data.datasets import Source, _downloader, names, read_source, sources  # noqa: F401
