# ruff: noqa
# fmt: off
from companion.figures.bias import PARTS as COLORS  # shim
