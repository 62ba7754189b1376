"""Optimisation profiles: what was asked for, made whole, or refused by the dimension that is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trtkit.errors import RequestError
from trtkit.tensors import Profile, Shape, ShapeRange, TensorSpec, shape_text

BATCHES = (1, 4, 8)
"""The default minimum, optimum and maximum of a dynamic batch."""


def resolve_profile(
    inputs: Sequence[TensorSpec],
    dimensions: Mapping[str, Sequence[str]],
    min_shapes: Mapping[str, Shape],
    opt_shapes: Mapping[str, Shape],
    max_shapes: Mapping[str, Shape],
) -> Profile:
    """The range of every dynamic input.

    Args:
        dimensions: what an input's dimensions are called, for errors.

    Raises:
        RequestError: shapes of an input that does not exist, of another rank or fixed size, out of order, or
            not given where they are needed.
    """
    known = {spec.name for spec in inputs}
    for name in (*min_shapes, *opt_shapes, *max_shapes):
        if name not in known:
            raise RequestError(
                f"there is no input {name!r}", ("inputs", ", ".join(map(str, inputs))), ("next", "name one")
            )
    profile = {}
    for spec in inputs:
        given = (min_shapes.get(spec.name), opt_shapes.get(spec.name), max_shapes.get(spec.name))
        if any(shape is not None for shape in given):
            span = _given(spec, *given)
        else:
            span = _default(spec, dimensions.get(spec.name, ()))
        if spec.dynamic:
            profile[spec.name] = span
    return profile


def uncovered(inputs: Sequence[TensorSpec], profile: Profile, shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    """Of the `shapes` that will be asked of an engine, those it cannot run, each as one sentence.

    Raises:
        RequestError: a shape is of an input that does not exist.
    """
    specs = {spec.name: spec for spec in inputs}
    sentences = []
    for name, shape in shapes.items():
        if name not in specs:
            raise RequestError(
                f"there is no input {name!r}", ("inputs", ", ".join(map(str, inputs))), ("next", "name one")
            )
        span = profile.get(name)
        if span and not span.covers(shape):
            sentences.append(
                f"{name} {shape_text(shape)} is outside the profile, "
                f"{shape_text(span.min)} to {shape_text(span.max)}"
            )
        elif not span and not specs[name].admits(shape):
            sentences.append(
                f"{name} {shape_text(shape)} is not {shape_text(specs[name].shape)}, which is fixed"
            )
    return tuple(sentences)


def _given(spec: TensorSpec, low: Shape | None, opt: Shape | None, high: Shape | None) -> ShapeRange:
    if opt is None:
        raise RequestError(
            f"input {spec.name!r} has no optimum shape",
            (
                "next",
                f"add --opt-shapes {spec.name}:{shape_text(high or low or ())}, what most requests will be",
            ),
        )
    span = ShapeRange(low if low is not None else opt, opt, high if high is not None else opt)
    for word, shape in (("minimum", span.min), ("optimum", span.opt), ("maximum", span.max)):
        if not spec.admits(shape):
            raise RequestError(
                f"the {word} {shape_text(shape)} does not fit input {spec.name!r}",
                ("input", f"{shape_text(spec.shape)}: ? is dynamic, all else is fixed by the ONNX file"),
                ("next", "give that many dimensions, and the fixed sizes as they are"),
            )
    for index, (least, best, most) in enumerate(zip(span.min, span.opt, span.max, strict=True)):
        if not least <= best <= most:
            raise RequestError(
                f"dimension {index} of input {spec.name!r} is not in order: "
                f"minimum {least}, optimum {best}, maximum {most}",
                ("next", "make minimum <= optimum <= maximum"),
            )
    return span


def _default(spec: TensorSpec, names: Sequence[str]) -> ShapeRange:
    for index, size in enumerate(spec.shape):
        if size < 0 and index > 0:
            called = f" ({names[index]!r})" if index < len(names) and names[index] else ""
            example = f"{spec.name}:{'x'.join(str(size) if size >= 0 else 'N' for size in spec.shape)}"
            raise RequestError(
                f"dimension {index}{called} of input {spec.name!r} is dynamic, and has no default",
                ("input", shape_text(spec.shape)),
                ("next", f"give --min-shapes, --opt-shapes and --max-shapes {example}, each N a number"),
            )
    low, opt, high = (tuple(batch if size < 0 else size for size in spec.shape) for batch in BATCHES)
    return ShapeRange(low, opt, high)
