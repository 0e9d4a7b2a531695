"""Now in `companion.mayne.activations`."""

from companion.mayne.activations import answer_activations, examples, picked, residuals, spread  # noqa: F401  # shim
