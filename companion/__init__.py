"""The two papers on top of `steerkit`: data, protocol, figures, claims, store, command line."""
