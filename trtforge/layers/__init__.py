"""Layers: what they are made from, and how each kind is made."""
