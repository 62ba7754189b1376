"""Samples: what the network is fed in calibration, one row of a batch at a time, from wherever they are.

A source is read as a stream; nothing is kept, so memory does not grow with the number of samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trtkit.errors import RequestError
from trtkit.sidecar import file_sha256
from trtkit.tensors import TensorSpec, shape_text

Feeds = dict[str, NDArray[Any]]

Batch = tuple[Feeds, int]
"""Feeds, and how many rows of them are samples; further ones fill up a batch of fixed size."""

KINDS = {"f": "f", "i": "iu", "u": "u", "b": "b"}
"""Kinds of numpy's types: what an input takes -> what may be given. Integers are no floats here: images as
uint8 have not been normalised."""


@dataclass(frozen=True)
class Sample:
    """One sample. name: where it is from, for messages. feeds: its tensors by input; where the network has a
    batch axis, each is a batch of one."""

    name: str
    feeds: Feeds


@dataclass(frozen=True)
class Skipped:
    """A file that could not be read, and was left out."""

    name: str
    reason: str


class SampleSource(Protocol):
    """Where samples come from, in an order that is the same in every run.

    total: how many there are, files that cannot be read included; None where only reading all would tell.
    """

    total: int | None

    def read(self, start: int, stop: int) -> Iterator[Sample | Skipped]:
        """The samples from `start` up to `stop` in its order; fewer where it ends before.

        Raises:
            RequestError: one of them is not what the network takes.
        """
        ...

    def sha256(self, stop: int) -> str | None:
        """Of the files that the samples up to `stop` come from and of how they are prepared; None where they
        come from no files, so that only reading them would tell whether they are still the same."""
        ...


class WrongSample(RequestError):
    """A sample is not what the network takes. sample: its name; reason: what is wrong."""

    def __init__(self, sample: str, reason: str, *facts: tuple[str, str]) -> None:
        super().__init__(f"{sample} does not fit the network", ("because", reason), *facts)
        self.sample = sample
        self.reason = reason


def files_sha256(preparation: str, files: Iterable[Path]) -> str:
    """Of how samples are made of files, and of the files' bytes."""
    digest = hashlib.sha256(preparation.encode())
    for path in files:
        with suppress(OSError):  # one that cannot be read is no sample
            digest.update(file_sha256(path).encode())
    return digest.hexdigest()


def batch_axis(inputs: tuple[TensorSpec, ...]) -> int | None:
    """The size of the batches that the network is fed: 1 where the batch is dynamic, else its fixed size;
    None where its inputs have no first axis in common, so that a sample must come whole."""
    sizes = {spec.shape[0] if spec.shape else None for spec in inputs}
    size = sizes.pop() if len(sizes) == 1 else None
    return 1 if size == -1 else size


def rows(name: str, tensors: Mapping[str, Any], inputs: tuple[TensorSpec, ...]) -> Iterator[Sample]:
    """What a file or a loader gave, checked and cut into samples.

    tensors: an array for every input: a batch, or one sample without the batch axis.

    Raises:
        WrongSample: a name, type, shape or value is wrong.
    """
    feeds = _feeds(name, tensors, inputs)
    if batch_axis(inputs) is None:
        yield Sample(name, feeds)
        return
    sizes = {len(array) for array in feeds.values()}
    if len(sizes) > 1:
        lengths = ", ".join(f"{key}: {len(array)}" for key, array in feeds.items())
        raise WrongSample(name, f"its inputs are batches of different sizes ({lengths})")
    for index in range(sizes.pop()):
        yield Sample(name, {key: array[index : index + 1] for key, array in feeds.items()})


def batches(samples: Iterable[Sample], size: int) -> Iterator[Batch]:
    """Batches of `size`; the last is filled up by repeating its last sample."""
    group: list[Sample] = []
    for sample in samples:
        group.append(sample)
        if len(group) == size:
            yield _joined(group, size)
            group = []
    if group:
        yield _joined(group, size)


def _joined(group: list[Sample], size: int) -> Batch:
    if size == 1:
        return group[0].feeds, 1
    filled = group + group[-1:] * (size - len(group))
    names = group[0].feeds
    return {name: np.concatenate([sample.feeds[name] for sample in filled]) for name in names}, len(group)


def _feeds(name: str, tensors: Mapping[str, Any], inputs: tuple[TensorSpec, ...]) -> Feeds:
    missing = [spec.name for spec in inputs if spec.name not in tensors]
    if missing:
        raise WrongSample(
            name,
            f"it has no {', '.join(missing)}; it has {', '.join(map(str, tensors)) or 'nothing'}",
            ("next", f"give arrays named {', '.join(spec.name for spec in inputs)}"),
        )
    return {spec.name: _fitted(name, np.asarray(tensors[spec.name]), spec, inputs) for spec in inputs}


def _fitted(name: str, array: NDArray[Any], spec: TensorSpec, inputs: tuple[TensorSpec, ...]) -> NDArray[Any]:
    """`array` as a batch of the network's type."""
    batch = batch_axis(inputs)
    if batch is not None and array.ndim == len(spec.shape) - 1:
        array = array[np.newaxis]
    wanted = spec.shape if batch is None else (-1, *spec.shape[1:])
    if not TensorSpec(spec.name, spec.dtype, wanted).admits(array.shape):
        raise WrongSample(
            name,
            f"{spec.name} is {shape_text(array.shape)}; the network takes {shape_text(wanted)}",
            ("next", "give samples of that shape, with the batch axis or without"),
        )
    if array.dtype.kind not in KINDS[np.dtype(spec.dtype).kind]:
        raise WrongSample(
            name,
            f"{spec.name} is {array.dtype}; the network takes {spec.dtype}",
            ("next", "prepare samples as for inference: scaled, normalised and of the network's type"),
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise WrongSample(
            name, f"{spec.name} holds NaN or infinite values", ("next", "correct it, or leave it out")
        )
    return np.ascontiguousarray(array, spec.dtype)
