"""The wheel is chosen for the image's Python and platform, wherever trtforge itself runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtforge.errors import RequestError
from trtforge.index.wheel_tags import image_tags, rank

BEST_FIRST = [
    "torch-1-cp312-cp312-manylinux_2_28_x86_64.whl",
    "torch-1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "torch-1-cp312-abi3-manylinux_2_17_x86_64.whl",
    "torch-1-cp312-none-manylinux_2_28_x86_64.whl",
    "torch-1-cp39-abi3-manylinux2014_x86_64.whl",
    "torch-1-py3-none-manylinux_2_28_x86_64.whl",
    "torch-1-py2.py3-none-manylinux1_x86_64.whl",
    "torch-1-2-py3-none-any.whl",
    "torch-1-1-py3-none-any.whl",
    "torch-1-py3-none-any.whl",
]
UNFIT = [
    "torch-1-cp311-cp311-manylinux_2_28_x86_64.whl",
    "torch-1-cp313-cp313-manylinux_2_28_x86_64.whl",
    "torch-1-cp312-cp312t-manylinux_2_28_x86_64.whl",
    "torch-1-cp313-abi3-manylinux_2_28_x86_64.whl",
    "torch-1-cp312-cp312-manylinux_2_31_x86_64.whl",
    "torch-1-cp312-cp312-manylinux_2_28_aarch64.whl",
    "torch-1-cp312-cp312-musllinux_1_2_x86_64.whl",
    "torch-1-cp312-cp312-win_amd64.whl",
    "torch-1-py2-none-any.whl",
    "not-a-wheel.whl",
]


@given(st.permutations(BEST_FIRST + UNFIT))
def test_the_best_wheel_for_another_python_than_ours(offered: list[str]) -> None:
    tags = image_tags("3.12", "x86_64-manylinux_2_28")
    ranks = {wheel: place for wheel in offered if (place := rank(wheel, tags)) is not None}
    assert sorted(ranks, key=lambda wheel: ranks[wheel]) == [w for w in BEST_FIRST if w in ranks]
    assert set(ranks) == set(BEST_FIRST)


def test_an_arm_image_takes_arm_wheels() -> None:
    tags = image_tags("3.11", "aarch64-manylinux_2_35")
    assert rank("t-1-cp311-none-manylinux_2_35_aarch64.whl", tags) is not None
    assert rank("t-1-cp311-none-manylinux_2_28_x86_64.whl", tags) is None


@pytest.mark.parametrize(
    ("python", "platform"),
    [("3.11.2", "x86_64-manylinux_2_28"), ("3.11", "linux"), ("3", "x86_64-manylinux_2_28")],
)
def test_an_unknown_spelling_is_refused(python: str, platform: str) -> None:
    with pytest.raises(RequestError) as refusal:
        image_tags(python, platform)
    assert "x86_64-manylinux_2_28" in (refusal.value.fact("next") or "")
