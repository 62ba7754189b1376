"""Tensors by name: what a model takes and gives, and the shapes an engine is built for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trtkit.errors import RequestError

Shape = tuple[int, ...]
"""A concrete shape: every dimension 0 or more."""


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a model.

    dtype: numpy's name of the type ("float32", "int64", "bool"), or "bfloat16".
    shape: -1 where a dimension is dynamic.
    """

    name: str
    dtype: str
    shape: Shape

    @property
    def dynamic(self) -> bool:
        return -1 in self.shape

    def admits(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of `shape` is one of these, the profile aside."""
        return len(shape) == len(self.shape) and all(
            want in (-1, have) for want, have in zip(self.shape, shape, strict=True)
        )

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {shape_text(self.shape)}"


@dataclass(frozen=True)
class ShapeRange:
    """The shapes of one input that an optimisation profile covers; `opt` is what it is fastest at."""

    min: Shape
    opt: Shape
    max: Shape

    def covers(self, shape: Sequence[int]) -> bool:
        return len(shape) == len(self.min) and all(
            low <= have <= high for low, have, high in zip(self.min, shape, self.max, strict=True)
        )


Profile = Mapping[str, ShapeRange]
"""An optimisation profile: the range of every input with a dynamic dimension."""


def shape_text(shape: Iterable[int]) -> str:
    """(-1, 3, 224, 224) as "?x3x224x224", trtexec's spelling."""
    return "x".join("?" if size < 0 else str(size) for size in shape) or "scalar"


_SHAPE = re.compile(r"(?P<name>.+):(?P<shape>\d+(x\d+)*|scalar)")


def parse_shapes(texts: Iterable[str]) -> dict[str, Shape]:
    """Shapes in trtexec's spelling: ["input:1x3x224x224"], or several in one text, joined with commas.

    Raises:
        RequestError: a text is not of that form, or names an input twice.
    """
    shapes: dict[str, Shape] = {}
    for text in (one.strip() for joined in texts for one in joined.split(",") if one.strip()):
        match = _SHAPE.fullmatch(text)
        if not match:
            raise RequestError(
                f"{text!r} is not a shape", ("next", "write name:1x3x224x224, as trtexec does")
            )
        name, shape = match["name"], match["shape"]
        if name in shapes:
            raise RequestError(f"two shapes for the input {name!r}", ("next", "give one"))
        shapes[name] = () if shape == "scalar" else tuple(map(int, shape.split("x")))
    return shapes
