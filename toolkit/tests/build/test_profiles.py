from __future__ import annotations

from collections.abc import Mapping
from itertools import starmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtkit.build.profiles import resolve_profile, uncovered
from trtkit.errors import RequestError
from trtkit.tensors import Shape, ShapeRange, TensorSpec

IMAGE = TensorSpec("image", "float32", (-1, 3, 224, 224))
FREE = TensorSpec("free", "float32", (-1, 3, -1, -1))
FIXED = TensorSpec("fixed", "float32", (2, 3))


def resolved(
    *inputs: TensorSpec,
    low: Mapping[str, Shape] | None = None,
    opt: Mapping[str, Shape] | None = None,
    high: Mapping[str, Shape] | None = None,
    names: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, ShapeRange]:
    return dict(resolve_profile(inputs, names or {}, low or {}, opt or {}, high or {}))


def test_a_dynamic_batch_is_1_4_and_8_unless_said_otherwise() -> None:
    assert resolved(IMAGE, FIXED) == {
        "image": ShapeRange((1, 3, 224, 224), (4, 3, 224, 224), (8, 3, 224, 224))
    }


def test_what_is_given_is_taken() -> None:
    span = resolved(
        FREE, low={"free": (1, 3, 32, 32)}, opt={"free": (2, 3, 64, 64)}, high={"free": (8, 3, 512, 512)}
    )["free"]
    assert span == ShapeRange((1, 3, 32, 32), (2, 3, 64, 64), (8, 3, 512, 512))


def test_an_optimum_alone_is_all_three() -> None:
    assert resolved(IMAGE, opt={"image": (2, 3, 224, 224)})["image"].min == (2, 3, 224, 224)


def test_fixed_shapes_may_be_given_and_are_not_in_the_profile() -> None:
    assert resolved(FIXED, opt={"fixed": (2, 3)}) == {}


def test_a_dynamic_dimension_that_is_no_batch_is_named() -> None:
    with pytest.raises(RequestError) as caught:
        resolved(FREE, names={"free": ("batch", "", "height", "width")})
    assert "dimension 2 ('height') of input 'free'" in caught.value.problem
    assert "free:Nx3xNxN" in (caught.value.fact("next") or "")


def test_one_without_a_name_is_told_by_its_place() -> None:
    with pytest.raises(RequestError, match="dimension 2 of input 'free'"):
        resolved(FREE)


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"opt": {"picture": (1, 3, 224, 224)}}, "no input 'picture'"),
        ({"low": {"image": (1, 3, 224, 224)}}, "no optimum shape"),
        ({"opt": {"image": (1, 3, 224)}}, "does not fit"),
        ({"opt": {"image": (1, 3, 224, 225)}}, "does not fit"),
        ({"opt": {"fixed": (3, 3)}}, "does not fit"),
        ({"opt": {"image": (4, 3, 224, 224)}, "low": {"image": (5, 3, 224, 224)}}, "not in order"),
        ({"opt": {"image": (4, 3, 224, 224)}, "high": {"image": (3, 3, 224, 224)}}, "not in order"),
    ],
)
def test_what_cannot_be_a_profile(shapes: dict[str, dict[str, Shape]], said: str) -> None:
    with pytest.raises(RequestError, match=said) as caught:
        resolved(IMAGE, FIXED, **shapes)  # type: ignore[arg-type]
    assert caught.value.fact("next")


class TestUncovered:
    profile = resolve_profile((IMAGE, FIXED), {}, {}, {}, {})

    @pytest.mark.parametrize(
        ("shapes", "missed"),
        [
            ({}, 0),
            ({"image": (1, 3, 224, 224)}, 0),
            ({"image": (8, 3, 224, 224), "fixed": (2, 3)}, 0),
            ({"image": (9, 3, 224, 224)}, 1),
            ({"image": (1, 3, 224)}, 1),
            ({"image": (16, 3, 224, 224), "fixed": (3, 3)}, 2),
        ],
    )
    def test_shapes_outside_are_told(self, shapes: dict[str, Shape], missed: int) -> None:
        assert len(uncovered((IMAGE, FIXED), self.profile, shapes)) == missed

    def test_a_shape_of_no_input_is_a_wrong_request(self) -> None:
        with pytest.raises(RequestError, match="no input 'x'"):
            uncovered((IMAGE,), self.profile, {"x": (1,)})


sizes = st.integers(1, 64)


@st.composite
def requests(draw: st.DrawFn) -> tuple[TensorSpec, list[Shape]]:
    """An input, and three shapes of it in order."""
    rank = draw(st.integers(0, 4))
    spans = [sorted(draw(st.tuples(sizes, sizes, sizes))) for _ in range(rank)]
    dynamic = [draw(st.booleans()) for _ in range(rank)]
    spans = [span if free else [span[1]] * 3 for span, free in zip(spans, dynamic, strict=True)]
    shape = tuple(-1 if free else span[0] for span, free in zip(spans, dynamic, strict=True))
    return TensorSpec("x", "float32", shape), [tuple(span[at] for span in spans) for at in range(3)]


@given(requests())
def test_a_profile_covers_what_it_was_asked_for_and_nothing_beyond(
    request_: tuple[TensorSpec, list[Shape]],
) -> None:
    spec, (low, opt, high) = request_
    profile = resolved(spec, low={"x": low}, opt={"x": opt}, high={"x": high})
    assert set(profile) == ({"x"} if spec.dynamic else set())
    assert not any(uncovered((spec,), profile, {"x": shape}) for shape in (low, opt, high))
    beyond = tuple(size + 1 for size in high)
    assert not spec.shape or uncovered((spec,), profile, {"x": beyond})


@given(requests(), st.permutations([0, 1, 2]))
def test_shapes_out_of_order_are_refused(request_: tuple[TensorSpec, list[Shape]], order: list[int]) -> None:
    spec, shapes = request_
    low, opt, high = (shapes[at] for at in order)
    in_order = all(starmap(lambda a, b, c: a <= b <= c, zip(low, opt, high, strict=True)))
    try:
        resolved(spec, low={"x": low}, opt={"x": opt}, high={"x": high})
        assert in_order
    except RequestError:
        assert not in_order
