"""Shim."""

from steerkit.grid import Cell  # noqa: F401 - shim
from steerkit.grid import _by_layer as by_layer  # noqa: F401 - shim
from steerkit.grid import direct as evaluate_question  # noqa: F401 - shim
