"""Shim."""

from steerkit.traces import HEAD_ROWS  # noqa: F401 - shim
from steerkit.trust import *  # noqa: F403 - shim
