"""The two papers on top of `steerkit`: data, protocol, figures, claims, store, command line."""

import warnings

# Of every notebook's first import: a bar that nothing here draws.
warnings.filterwarnings("ignore", message="IProgress not found")
