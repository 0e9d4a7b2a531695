from companion.figures.settings import figure_6 as figure_6  # shim
from companion.figures.settings import scatter_matrix as scatter_matrix
