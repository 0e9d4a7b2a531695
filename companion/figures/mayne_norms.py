"""Now in `companion.figures.autoencoder`."""

from companion.figures.autoencoder import COLORS  # noqa: F401  # shim
