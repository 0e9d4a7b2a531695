# ruff: noqa
# fmt: off
from companion.figures.bias import GROUPS as COLORS  # shim
from companion.figures.bias import SPACE as SPACE
from companion.figures.bias import box_places as _places
from companion.figures.bias import draw_boxes as _our_boxes
from companion.figures.bias import options as _options
from companion.figures.bias import stripes as _stripes
