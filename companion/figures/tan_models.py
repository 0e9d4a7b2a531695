from companion.figures.settings import figure_6 as figure_6, scatter_matrix as scatter_matrix  # shim
