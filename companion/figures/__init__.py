"""Figures: a data frame in, a matplotlib figure out. Nothing here reads files or models."""
