"""`trtkit serve`."""

from __future__ import annotations


def serve() -> None:
    """To come."""
