"""How large images are, what of, and how large they may be."""
