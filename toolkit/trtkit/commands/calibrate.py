"""`trtkit calibrate`."""

from __future__ import annotations


def calibrate() -> None:
    """To come."""
