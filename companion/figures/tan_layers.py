from companion.figures.layers import layer_sweep as layer_sweep  # shim
