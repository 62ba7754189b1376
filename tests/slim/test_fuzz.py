"""Any library: it is refused, with its type, or what it runs stays, byte for byte."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.slim.library_factory import Code, Library, code
from tests.slim.loaded_image import registered
from trtforge.slim.errors import NothingRuns, NotUnderstood
from trtforge.slim.library import slim_library

ARCHITECTURES = [
    "sm_70",
    "sm_80",
    "sm_86",
    "sm_90",
    "sm_90a",
    "sm_100",
    "sm_100f",
    "compute_80",
    "compute_90",
]
SIZES = st.integers(0, 700).map(lambda words: 8 * words)


@st.composite
def codes(draw: st.DrawFn) -> Code:
    salt = str(draw(st.integers(0, 1 << 30)))
    return code(draw(st.sampled_from(ARCHITECTURES)), draw(SIZES), salt)


LIBRARIES = st.builds(
    Library,
    st.lists(st.lists(codes(), max_size=6), min_size=1, max_size=5),
    before=st.binary(max_size=40),
    behind=st.binary(max_size=40),
    stored=st.booleans(),
)
GPUS = st.lists(st.sampled_from(["70", "75", "80", "86", "89", "90", "100", "103"]), min_size=1, max_size=3)


def slimmed(data: bytes, gpus: list[str]) -> bytes | None:
    with tempfile.TemporaryDirectory() as folder:
        library, out = Path(folder, "library.so"), Path(folder, "slim.so")
        library.write_bytes(data)
        try:
            done = slim_library(library, out, gpus)
        except (NotUnderstood, NothingRuns):
            return None
        assert (done.before, done.after) == (len(data), out.stat().st_size)
        return out.read_bytes()


def is_part(some: list[tuple[int, bytes]], of: list[tuple[int, bytes]]) -> bool:
    """Whether `some` is `of` without some elements."""
    rest = iter(of)
    return all(any(one == other for other in rest) for one in some)


@given(LIBRARIES, GPUS)
@settings(max_examples=150, deadline=None)
def test_each_container_keeps_a_part_of_its_code_for_every_gpu_that_ran_it(
    library: Library, gpus: list[str]
) -> None:
    before = library.build()
    after = slimmed(before, gpus)
    if after is None:
        return
    for had, has in zip(registered(before), registered(after), strict=True):
        assert is_part(has, had)
        for gpu in map(int, gpus):
            runs = [number for number, _ in had if number // 10 == gpu // 10 and number <= gpu]
            assert not runs or has


MUTATIONS = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True), st.sampled_from([1, 2, 4, 8]), st.integers(0, (1 << 64) - 1)
    ),
    min_size=1,
    max_size=4,
)
ONE = Library(
    [[code("sm_80", 9000), code("sm_90", 9000)], [code("sm_90", 64), code("compute_80", 9000)]]
).build()
HEADERS = [i for i in range(len(ONE)) if i < 700 or i > len(ONE) - 1700]


@given(MUTATIONS, st.booleans())
@settings(max_examples=600, deadline=None)
def test_a_changed_library_is_refused_or_keeps_what_it_registers(
    mutations: list[tuple[float, int, int]], in_headers: bool
) -> None:
    data = bytearray(ONE)
    for where, width, value in mutations:
        at = HEADERS[int(where * len(HEADERS))] if in_headers else int(where * len(data))
        data[at : at + width] = (value & ((1 << (8 * width)) - 1)).to_bytes(width, "little")
    before = bytes(data[: len(ONE)])
    after = slimmed(before, ["90"])
    if after is not None:
        for had, has in zip(registered(before), registered(after), strict=True):
            assert is_part(has, had)


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_anything_else_is_refused(data: bytes) -> None:
    assert slimmed(data, ["90"]) is None
    assert slimmed(ONE[:64] + data, ["90"]) is None
