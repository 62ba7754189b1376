"""The work of many cells as one graph, on this machine or on many (docs/scale.md)."""
