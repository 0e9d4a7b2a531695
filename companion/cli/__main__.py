"""`python -m companion.cli`, for when no script is installed."""

from companion.cli import main

main()
