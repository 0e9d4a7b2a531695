from companion.claims import FEWEST, FIRST_SHIFT, LEAST  # noqa: F401  # shim
