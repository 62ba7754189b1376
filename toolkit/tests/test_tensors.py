"""Tensors, shapes and ranges of shapes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtkit.errors import RequestError
from trtkit.tensors import ShapeRange, TensorSpec, parse_shapes, shape_text

Shapes = st.lists(st.integers(0, 4096), max_size=5).map(tuple)
Names = st.from_regex(r"[A-Za-z_][\w.:/]{0,8}", fullmatch=True)


@given(shapes=st.dictionaries(Names, Shapes, max_size=4))
def test_what_is_written_is_read_again(shapes: dict[str, tuple[int, ...]]) -> None:
    texts = [f"{name}:{shape_text(shape)}" for name, shape in shapes.items()]
    assert parse_shapes(texts) == shapes
    assert parse_shapes([",".join(texts)]) == shapes


@pytest.mark.parametrize("text", ["x", "x:", ":1x3", "x:1x", "x:-1x3", "x:1X3", "x=1x3", "x:1.5"])
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="is not a shape"):
        parse_shapes([text])


def test_an_input_is_named_once() -> None:
    with pytest.raises(RequestError, match="two shapes"):
        parse_shapes(["x:1", "y:1,x:2"])


@given(shape=Shapes.filter(len))
def test_a_dynamic_dimension_admits_any_size_and_a_fixed_one_its_own(shape: tuple[int, ...]) -> None:
    spec = TensorSpec("x", "float32", (-1, *shape[1:]))
    assert spec.dynamic
    assert spec.admits(shape)
    assert spec.admits((shape[0] + 1, *shape[1:]))
    assert not spec.admits((*shape, 1))
    assert not TensorSpec("x", "float32", shape).admits((shape[0] + 1, *shape[1:]))


@given(low=Shapes, more=st.integers(0, 3))
def test_a_range_covers_its_ends_and_nothing_outside(low: tuple[int, ...], more: int) -> None:
    high = tuple(size + more for size in low)
    span = ShapeRange(low, low, high)
    assert span.covers(low)
    assert span.covers(high)
    assert not span.covers((*low, 1))
    for axis in range(len(low)):
        assert not span.covers([*high[:axis], high[axis] + 1, *high[axis + 1 :]])


def test_a_tensor_is_told_as_trtexec_writes_it() -> None:
    assert str(TensorSpec("x", "float16", (-1, 3, 224))) == "x float16 ?x3x224"
    assert shape_text(()) == "scalar"
