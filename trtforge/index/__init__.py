"""Packages: resolved by uv, fetched by hash, and built where they exist only as source."""
