"""Now in `companion.figures.formats`."""

from companion.figures.formats import KINDS  # noqa: F401  # shim
