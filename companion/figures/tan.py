# ruff: noqa
# fmt: off
from companion.figures.tan_layers import layer_sweep as layer_sweep, layer_sweep_alt as layer_sweep_alt  # shim
