"""Models loaded and ready to run, whatever runs them; verify, bench and serve all speak to this interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from trtkit.tensors import Profile, TensorSpec

Tensors = Mapping[str, NDArray[Any]]
"""Tensors by name, C-contiguous, on the host. bfloat16 is ml_dtypes'."""


class Runner(Protocol):
    """A model on one device. One thread runs it at a time; several runners may share its weights.

    inputs, outputs: in the model's order. profile: the shapes it can run, empty where any will do.
    name: what reports call it ("TensorRT FP16", "ONNX Runtime CPU").
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profile: Profile

    def run(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        """The outputs for `feeds`, which are right in name, type and shape (`check_feeds`).

        Raises:
            WorkFailed: it could not be computed; the runner can be used again unless the error says not.
        """
        ...

    def close(self) -> None:
        """Free what it holds; it is not used afterwards."""
        ...


@runtime_checkable
class OnDevice(Protocol):
    """A runner that can also compute without copies between host and device."""

    def resident(self, feeds: Tensors) -> Callable[[], None] | None:
        """A run that starts and ends on the device, waited for. None where host and device are one."""
        ...


def random_feeds(
    inputs: tuple[TensorSpec, ...], shapes: Mapping[str, tuple[int, ...]], seed: int = 0
) -> dict[str, NDArray[Any]]:
    """Feeds of these `shapes` that are the same in every run: floats are standard normal, integers 0 or 1."""
    random = np.random.default_rng(seed)
    feeds: dict[str, NDArray[Any]] = {}
    for spec in inputs:
        shape = shapes[spec.name]
        if np.issubdtype(np.dtype(spec.dtype), np.floating):
            feeds[spec.name] = random.standard_normal(shape, np.float32).astype(spec.dtype)
        else:
            feeds[spec.name] = random.integers(0, 2, shape).astype(spec.dtype)
    return feeds
