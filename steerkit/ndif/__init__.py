"""Jobs on an NDIF server that survive both ends."""
