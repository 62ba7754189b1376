"""Smoke tests: what runs inside every image, with the image's Python and only its standard library."""
