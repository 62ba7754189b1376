"""Samples from images, arrays and loaders; what is wrong with them is told by name."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.calibrate.image_set import write_images
from trtkit.calibrate.samples import Sample, SampleSource, Skipped, WrongSample, batch_axis, batches
from trtkit.calibrate.sources import open_source
from trtkit.errors import RequestError
from trtkit.sidecar import Preprocess
from trtkit.tensors import TensorSpec

SMALL = Preprocess(resize=18, crop=16)
IMAGE = (TensorSpec("image", "float32", (-1, 3, 16, 16)),)
VECTOR = (TensorSpec("x", "float32", (-1, 4)),)
TEXT = (TensorSpec("ids", "int64", (-1, -1)), TensorSpec("mask", "float32", (-1, -1)))


def opened(data: Path | str, inputs: tuple[TensorSpec, ...] = VECTOR, seed: int = 0) -> SampleSource:
    return open_source(str(data), inputs, SMALL, seed)


def names(source: SampleSource, start: int = 0, stop: int = 1000) -> list[str]:
    return [one.name for one in source.read(start, stop)]


def values(source: SampleSource, name: str = "x") -> list[float]:
    return [float(one.feeds[name].flat[0]) for one in source.read(0, 1000) if isinstance(one, Sample)]


class TestImages:
    def test_all_are_found_and_shuffled_by_the_seed_alone(self, tmp_path: Path) -> None:
        folder = write_images(tmp_path, 12)
        (folder / "readme.txt").write_text("no image")
        (folder / ".hidden.png").write_bytes(b"")
        first = names(opened(folder, IMAGE))
        assert sorted(first) == sorted(str(path.relative_to(folder)) for path in folder.glob("class*/*"))
        assert first != sorted(first)
        assert names(opened(folder, IMAGE)) == first
        assert names(opened(folder, IMAGE, seed=1)) != first
        assert names(opened(folder, IMAGE), 3, 7) == first[3:7]

    def test_each_is_a_batch_of_one_of_the_networks_shape(self, tmp_path: Path) -> None:
        for one in opened(write_images(tmp_path, 3), IMAGE).read(0, 3):
            assert isinstance(one, Sample)
            assert one.feeds["image"].shape == (1, 3, 16, 16)

    def test_one_that_cannot_be_read_is_skipped_with_the_reason(self, tmp_path: Path) -> None:
        folder = write_images(tmp_path, 4)
        (folder / "class0" / "0002.jpg").write_bytes(b"\xff\xd8\xff damaged")
        found = [one for one in opened(folder, IMAGE).read(0, 4) if isinstance(one, Skipped)]
        assert [one.name for one in found] == ["class0/0002.jpg"]
        assert found[0].reason

    def test_a_network_of_another_size_is_told_what_to_do(self, tmp_path: Path) -> None:
        wide = (TensorSpec("image", "float32", (-1, 3, 299, 299)),)
        with pytest.raises(RequestError) as raised:
            opened(write_images(tmp_path, 1), wide)
        assert '"crop": 299' in (raised.value.fact("next") or "")

    def test_a_network_that_takes_no_images_is_told_so(self, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match="does not take images"):
            opened(write_images(tmp_path, 1), TEXT)


class TestArrays:
    def test_single_samples_and_batches_are_one_stream_of_rows(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.full(4, 7, np.float32))
        np.save(tmp_path / "b.npy", np.arange(12, dtype=np.float32).reshape(3, 4))
        source = opened(tmp_path)
        assert source.total == 4
        assert sorted(values(source)) == [0, 4, 7, 8]

    def test_which_rows_are_taken_is_shuffled_but_no_file_is_read_twice(self, tmp_path: Path) -> None:
        for index in range(3):
            np.savez(
                tmp_path / f"{index}.npz", x=np.arange(40, dtype=np.float32).reshape(10, 4) + 100 * index
            )
        taken = names(opened(tmp_path), 0, 12)
        files = [name.split("[")[0] for name in taken]
        assert files == sorted(files)
        assert set(taken) != set(names(opened(tmp_path, seed=1), 0, 12))
        assert not set(taken) & set(names(opened(tmp_path), 12, 30))

    def test_npz_files_have_every_input_by_name(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "t.npz", ids=np.ones((2, 5), np.int32), mask=np.ones((2, 5), np.float16), other=1)
        for one in opened(tmp_path / "t.npz", TEXT).read(0, 9):
            assert isinstance(one, Sample)
            assert {name: (a.shape, a.dtype.name) for name, a in one.feeds.items()} == {
                "ids": ((1, 5), "int64"),
                "mask": ((1, 5), "float32"),
            }

    @pytest.mark.parametrize(
        ("array", "reason"),
        [
            (np.zeros((2, 5), np.float32), "1x5"),
            (np.zeros((2, 2, 4), np.float32), "2x2x4"),
            (np.zeros((2, 4), np.uint8), "uint8"),
            (np.zeros((2, 4), np.complex64), "complex64"),
            (np.array([[1, 2, np.nan, 4]], np.float32), "NaN"),
            (np.array([[1, 2, np.inf, 4]], np.float32), "infinite"),
        ],
    )
    def test_a_sample_that_does_not_fit_is_named(
        self, array: np.ndarray, reason: str, tmp_path: Path
    ) -> None:
        np.save(tmp_path / "bad.npy", array)
        with pytest.raises(WrongSample) as raised:
            names(opened(tmp_path))
        assert "bad.npy" in raised.value.sample
        assert reason in raised.value.reason

    def test_a_damaged_file_is_named(self, tmp_path: Path) -> None:
        for name in ("bad.npy", "bad.npz"):
            folder = tmp_path / name[-3:]
            folder.mkdir()
            (folder / name).write_bytes(b"\x93NUMPY nonsense")
            with pytest.raises(WrongSample) as raised:
                opened(folder)
            assert raised.value.sample == name

    def test_a_missing_input_is_told_with_what_is_there(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "t.npz", ids=np.ones((2, 5), np.int64), masks=np.ones((2, 5), np.float32))
        with pytest.raises(WrongSample, match="fit") as raised:
            names(opened(tmp_path, TEXT))
        assert "no mask" in raised.value.reason
        assert "masks" in raised.value.reason

    def test_inputs_with_batches_of_different_sizes_are_refused(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "t.npz", ids=np.ones((2, 5), np.int64), mask=np.ones((3, 5), np.float32))
        with pytest.raises(WrongSample, match="fit") as raised:
            opened(tmp_path, TEXT)
        assert "ids: 2, mask: 3" in raised.value.reason


LOADERS = """
import numpy as np

class Tensor:
    def __init__(self, a): self.a = a
    def detach(self): return self
    def cpu(self): return self
    def numpy(self): return self.a

def row(value): return np.full(4, value, np.float32)
def dicts(): return [{"x": row(i)} for i in range(3)]
def labelled(): return ((np.stack([row(2 * i), row(2 * i + 1)]), np.array([0, 1])) for i in range(3))
def tensors(): return [Tensor(row(5))]
def arrays(): yield row(1); yield row(2)
def empty(): return []
def breaks():
    yield row(1)
    raise RuntimeError("the disk is gone")
def number(): return 5
def wrong(): return [row(1)[:2]]
constant = 3
"""


@pytest.fixture
def loaders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_loaders.py").write_text(LOADERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_loaders", raising=False)


@pytest.mark.usefixtures("loaders")
class TestLoader:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [("dicts", [0, 1, 2]), ("labelled", [0, 1, 2, 3, 4, 5]), ("tensors", [5]), ("arrays", [1, 2])],
    )
    def test_dicts_tuples_tensors_and_arrays_are_taken(self, name: str, expected: list[float]) -> None:
        source = opened(f"my_loaders:{name}")
        assert values(source) == expected
        assert values(source) == expected  # and again

    @pytest.mark.parametrize(
        ("name", "because"),
        [
            ("breaks", "RuntimeError: the disk is gone"),
            ("number", "not iterable"),
            ("constant", "cannot be called"),
        ],
    )
    def test_one_that_fails_is_told_without_a_traceback(self, name: str, because: str) -> None:
        with pytest.raises(RequestError) as raised:
            names(opened(f"my_loaders:{name}"))
        assert because in (raised.value.fact("because") or "")

    def test_where_it_failed_is_told(self) -> None:
        with pytest.raises(RequestError) as raised:
            names(opened("my_loaders:breaks"))
        assert "my_loaders.py:" in (raised.value.fact("at") or "")

    def test_a_module_that_is_not_there(self) -> None:
        with pytest.raises(RequestError) as raised:
            opened("no_such_module:loader")
        assert "no_such_module" in raised.value.problem

    def test_a_name_that_is_not_there(self) -> None:
        with pytest.raises(RequestError, match="my_loaders has no 'missing'"):
            opened("my_loaders:missing")

    def test_a_loader_in_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "beside.py").write_text("def one():\n    return iter([[[0.5] * 4]])\n")
        with pytest.raises(RequestError, match="there is no file"):
            opened(f"{tmp_path}/elsewhere.py:one")
        opened(f"{tmp_path}/beside.py:one")

    def test_a_sample_that_does_not_fit_is_named(self) -> None:
        with pytest.raises(WrongSample) as raised:
            names(opened("my_loaders:wrong"))
        assert raised.value.sample == "my_loaders:wrong[0]"


class TestWhatIsThere:
    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match="holds no samples"):
            opened(tmp_path)

    def test_images_and_arrays_in_one_folder(self, tmp_path: Path) -> None:
        np.save(write_images(tmp_path, 1) / "a.npy", np.zeros(4))
        with pytest.raises(RequestError, match="both images and arrays"):
            opened(tmp_path)

    @pytest.mark.parametrize("data", ["nowhere", "no/where:ever", "C:\\x"])
    def test_nothing(self, data: str) -> None:
        with pytest.raises(RequestError, match="no samples at"):
            opened(data)


@given(number=st.integers(0, 20), size=st.integers(1, 7))
def test_batches_hold_every_sample_once_and_are_full(number: int, size: int) -> None:
    samples = [Sample(str(i), {"x": np.full((1, 2), i, np.float32)}) for i in range(number)]
    made = list(batches(samples, size))
    assert all(feeds["x"].shape == (size, 2) for feeds, _ in made)
    rows = [float(feeds["x"][row, 0]) for feeds, count in made for row in range(count)]
    assert rows == list(range(number))


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [([(-1, 3)], 1), ([(8, 3)], 8), ([(8, 3), (8,)], 8), ([(8, 3), (2,)], None), ([(1, 3), ()], None)],
)
def test_the_batch_axis_is_what_all_inputs_share(shapes: list[tuple[int, ...]], expected: int | None) -> None:
    assert (
        batch_axis(tuple(TensorSpec(str(i), "float32", shape) for i, shape in enumerate(shapes))) == expected
    )
