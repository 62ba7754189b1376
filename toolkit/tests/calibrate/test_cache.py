"""The calibration cache: what is read is what was written, and what does not fit is not used."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtkit.calibrate.cache import CalibrationCache, read_cache, write_cache
from trtkit.calibrate.options import CalibrateOptions
from trtkit.errors import RequestError

floats = st.floats(allow_nan=False, allow_infinity=False, width=32)
caches = st.builds(
    CalibrationCache,
    onnx_sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    method=st.sampled_from(["entropy", "minmax"]),
    data_sha256=st.none() | st.just("d"),
    samples=st.integers(1, 1000),
    ranges=st.dictionaries(
        st.text(), st.tuples(floats, floats).map(lambda ends: (min(ends), max(ends))), max_size=5
    ),
)


@given(caches)
def test_what_is_read_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, cache: CalibrationCache
) -> None:
    path = tmp_path_factory.mktemp("cache") / "folder" / "cache.json"
    write_cache(cache, path)
    assert read_cache(path) == cache
    first = path.read_bytes()
    write_cache(cache, path)
    assert path.read_bytes() == first
    assert [one.name for one in path.parent.iterdir()] == ["cache.json"]


def cache(**changes: object) -> CalibrationCache:
    values = {
        "onnx_sha256": "a",
        "method": "entropy",
        "data_sha256": "d",
        "samples": 5,
        "ranges": {"x": (0.0, 1.0)},
    } | changes
    return CalibrationCache.model_validate(values)


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (cache(), None),
        (cache(ranges={"x": (0, 1), "y": (0, 1)}), None),
        (cache(onnx_sha256="b"), "another ONNX file"),
        (cache(method="minmax"), "minmax"),
        (cache(data_sha256="e"), "other samples"),
        (cache(data_sha256=None), "other samples"),
        (cache(ranges={"y": (0, 1)}), "other tensors"),
    ],
)
def test_it_fits_the_same_network_method_and_samples_alone(held: CalibrationCache, why: str | None) -> None:
    misfit = held.misfit("a", "d", CalibrateOptions("data"), ["x"])
    assert (misfit is None) if why is None else (misfit is not None and why in misfit)


def test_the_percentile_is_part_of_its_method() -> None:
    options = CalibrateOptions("data", method="percentile", percentile=99)
    assert not cache(method="percentile", percentile=99).misfit("a", "d", options, ["x"])
    assert cache(method="percentile", percentile=99.9).misfit("a", "d", options, ["x"])


def test_there_is_none_where_there_is_no_file(tmp_path: Path) -> None:
    assert read_cache(tmp_path / "none.json") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not JSON",
        b"{}",
        b"\xff\xfe",
        cache().model_dump_json().replace("1.0", "0.1").encode(),  # not a float32
        cache().model_dump_json().replace("0.0,1.0", "1.0,0.0").encode(),
        cache().model_dump_json().replace("0.0,1.0", "0.0,NaN").encode(),
    ],
)
def test_a_file_that_is_no_cache_is_neither_used_nor_overwritten(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(RequestError, match="not a calibration cache"):
        read_cache(path)
    assert path.read_bytes() == content
