from companion.weights import ACCEPT_VARIABLE, consent  # noqa: F401 - shim
