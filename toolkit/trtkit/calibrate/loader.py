"""Samples from a data loader in Python, named "module:callable" or "FILE.py:callable"."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from trtkit.calibrate.samples import Sample, Skipped, WrongSample, rows
from trtkit.errors import RequestError
from trtkit.object_reference import because, named_object
from trtkit.tensors import TensorSpec


class Loader:
    """What the callable gives when called without arguments: an iterable of samples or batches.

    Each is a dict of arrays by input, a tuple or list of them in the network's order (what follows them, such
    as labels, is left out), or one array. torch tensors are taken for arrays. The loader's order is kept: it
    must be the same whenever it is called.

    Raises:
        RequestError: there is no such callable, or it fails.
    """

    def __init__(self, name: str, inputs: tuple[TensorSpec, ...]) -> None:
        self._name, self._inputs = name, inputs
        self._open = _callable(name)
        self.total: int | None = None

    def read(self, start: int, stop: int) -> Iterator[Sample | Skipped]:
        return islice(self._samples(), start, stop)

    def sha256(self, stop: int) -> str | None:  # noqa: ARG002  what a loader gives is not known beforehand
        return None

    def _samples(self) -> Iterator[Sample]:
        for index, given in enumerate(self._given()):
            name = f"{self._name}[{index}]"
            yield from rows(name, _named(name, given, self._inputs), self._inputs)

    def _given(self) -> Iterator[Any]:
        try:
            given = self._open()
            if not isinstance(given, Iterable):
                raise TypeError(f"it gives {type(given).__name__}, which is not iterable")
            yield from given
        except Exception as error:  # the loader is not ours
            raise _failed(self._name, error) from error


def _callable(name: str) -> Any:
    found = named_object(name)
    if not callable(found):
        raise _failed(name, TypeError(f"it is {type(found).__name__}, which cannot be called"))
    return found


def _failed(name: str, error: Exception) -> RequestError:
    return RequestError(
        f"the data loader {name} does not work",
        *because(error),
        ("next", "name module:callable; called without arguments, it returns an iterable of samples"),
    )


def _named(name: str, given: Any, inputs: tuple[TensorSpec, ...]) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return {str(key): _array(value) for key, value in given.items()}
    values = given if isinstance(given, (tuple, list)) else (given,)
    if len(values) < len(inputs):
        raise WrongSample(name, f"it has {len(values)} arrays, the network takes {len(inputs)}")
    return {spec.name: _array(value) for spec, value in zip(inputs, values, strict=False)}


def _array(value: Any) -> Any:
    """A torch tensor's memory as an array; torch itself is not needed for that."""
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value
