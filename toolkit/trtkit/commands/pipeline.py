"""`trtkit pipeline`."""

from __future__ import annotations


def pipeline() -> None:
    """To come."""
