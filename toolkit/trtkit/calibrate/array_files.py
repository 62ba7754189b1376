"""Samples from .npy and .npz files, each one sample or a batch."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from trtkit.calibrate.samples import Sample, Skipped, WrongSample, batch_axis, files_sha256, rows
from trtkit.errors import RequestError
from trtkit.tensors import TensorSpec

SUFFIXES = frozenset({".npy", ".npz"})


class ArrayFiles:
    """Rows of .npy files (of a network with one input) and .npz files (an array for every input, by name).

    Which rows of which files are taken follows from `seed`; those are then read file by file, so that no file
    is opened for every row. A .npy file is mapped, not loaded.
    """

    def __init__(self, files: list[Path], inputs: tuple[TensorSpec, ...], seed: int) -> None:
        self._inputs = inputs
        places = [(path, row) for path in files for row in range(_length(path, inputs))]
        order = np.random.default_rng(seed).permutation(len(places))
        self._places = [places[index] for index in order]
        self.total: int | None = len(places)

    def read(self, start: int, stop: int) -> Iterator[Sample | Skipped]:
        taken = sorted(self._places[start:stop])
        for path in dict.fromkeys(path for path, _ in taken):
            arrays = _arrays(path, self._inputs)
            for row in (row for one, row in taken if one == path):
                yield from rows(f"{path.name}[{row}]", _row(arrays, row, self._inputs), self._inputs)

    def sha256(self, stop: int) -> str | None:
        taken = sorted(self._places[:stop])
        rows_taken = ",".join(str(row) for _, row in taken)
        return files_sha256(rows_taken, dict.fromkeys(path for path, _ in taken))


def _length(path: Path, inputs: tuple[TensorSpec, ...]) -> int:
    """How many samples the file holds, from its headers alone."""
    if batch_axis(inputs) is None:
        return 1
    shapes = _shapes(path, inputs)
    lengths = {
        spec.name: shapes[spec.name][0] if len(shapes[spec.name]) == len(spec.shape) else 1
        for spec in inputs
        if spec.name in shapes
    }
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise WrongSample(path.name, f"its arrays hold different numbers of samples ({told})")
    return next(iter(lengths.values()), 1)


def _shapes(path: Path, inputs: tuple[TensorSpec, ...]) -> dict[str, tuple[int, ...]]:
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                return {inputs[0].name: _header(file)}
        shapes = {}
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as file:
                    shapes[member.removesuffix(".npy")] = _header(file)
        return shapes
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from error


def _header(file: Any) -> tuple[int, ...]:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape: tuple[int, ...] = read(file)[0]
    return shape


def _arrays(path: Path, inputs: tuple[TensorSpec, ...]) -> Mapping[str, NDArray[Any]]:
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path) as archive:
                return dict(archive)
        if len(inputs) > 1:
            raise RequestError(
                f"{path.name} holds one array, the network takes {len(inputs)}",
                ("next", f"give .npz files with arrays named {', '.join(spec.name for spec in inputs)}"),
            )
        return {inputs[0].name: np.load(path, mmap_mode="r")}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from error


def _row(
    arrays: Mapping[str, NDArray[Any]], row: int, inputs: tuple[TensorSpec, ...]
) -> dict[str, NDArray[Any]]:
    """The `row` of arrays that are batches; what has no batch axis is whole."""
    ranks = {spec.name: len(spec.shape) for spec in inputs}
    if batch_axis(inputs) is None:
        return dict(arrays)
    return {
        name: array[row : row + 1] if array.ndim == ranks.get(name) else array
        for name, array in arrays.items()
    }


def _unreadable(path: Path, error: Exception) -> WrongSample:
    return WrongSample(
        path.name, f"it cannot be read as a {path.suffix} file: {error}", ("next", "save it again with numpy")
    )
