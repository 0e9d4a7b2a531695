"""The command line: `program` puts the commands together, the other modules hold them."""

from companion.cli.program import app, main

__all__ = ["app", "main"]
