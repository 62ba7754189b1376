"""A size, compressed and on disk."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from trtforge.terminal import megabytes

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Size:
    """compressed: bytes of gzip, what a registry holds and a pull moves; on_disk: bytes of the tars in it,
    about what they take on a disk. A difference of two may be negative."""

    compressed: int = 0
    on_disk: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.compressed + other.compressed, self.on_disk + other.on_disk)

    def __sub__(self, other: Size) -> Size:
        return Size(self.compressed - other.compressed, self.on_disk - other.on_disk)

    def __bool__(self) -> bool:
        return (self.compressed, self.on_disk) != (0, 0)

    def says(self) -> str:
        """It in words."""
        return f"{human(self.compressed)} compressed, {human(self.on_disk)} on disk"

    def says_change(self) -> str:
        """It in words, as a change."""
        return f"{signed(self.compressed)} compressed, {signed(self.on_disk)} on disk"


def total(sizes: Iterable[Size]) -> Size:
    """The sum of `sizes`."""
    return reduce(add, sizes, Size())


def human(size: int) -> str:
    """`size` bytes, for people: three digits or so, whatever its scale."""
    if abs(size) >= 1e7 or size == 0:
        return megabytes(size)
    if abs(size) >= 1e5:
        return f"{size / 1e6:.1f} MB"
    return f"{size / 1e3:.1f} kB" if abs(size) >= 1000 else f"{size} B"


def signed(size: int) -> str:
    """`size` bytes more or less, for people."""
    return f"{'-' if size < 0 else '+'}{human(abs(size))}"
