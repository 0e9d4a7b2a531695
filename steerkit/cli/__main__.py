"""`python -m steerkit.cli`, for when no script is installed."""

from steerkit.cli import main

main()
