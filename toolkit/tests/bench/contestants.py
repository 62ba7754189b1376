"""Runners that do what a test says, and can be made in another process."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trtkit.bench.contender import Contender
from trtkit.errors import EnvironmentLack, WorkFailed
from trtkit.runners import Tensors
from trtkit.sidecar import Precision
from trtkit.tensors import Profile, ShapeRange, TensorSpec

INPUT = TensorSpec("input", "float32", (-1, 4))
OUTPUT = TensorSpec("output", "float32", (-1, 4))

Act = Callable[[int, NDArray[Any]], NDArray[Any]]
"""What a run does: its number from 0, and the input -> the output."""


class ActingRunner:
    """A `Runner` whose runs are `act`."""

    def __init__(self, act: Act, profile: Profile | None = None) -> None:
        self.name = "acting"
        self.inputs: tuple[TensorSpec, ...] = (INPUT,)
        self.outputs: tuple[TensorSpec, ...] = (OUTPUT,)
        self.profile: Profile = profile or {}
        self._act, self._runs = act, 0

    def run(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        self._runs += 1
        return {"output": self._act(self._runs - 1, feeds["input"])}

    def close(self) -> None:
        pass


def contestant(
    title: str, act: Act, precision: Precision = "fp32", profile: Profile | None = None
) -> Contender:
    return Contender(title, precision, partial(ActingRunner, act, profile))


def doubles(_run: int, tensor: NDArray[Any]) -> NDArray[Any]:
    return tensor * 2


def doubles_roughly(_run: int, tensor: NDArray[Any]) -> NDArray[Any]:
    """Off by 2 in a thousand: more than FP32 may be, and less than TF32."""
    return tensor * np.float32(2.004)


def doubles_after(seconds: float, _run: int, tensor: NDArray[Any]) -> NDArray[Any]:
    time.sleep(seconds)
    return tensor * 2


def squares(_run: int, tensor: NDArray[Any]) -> NDArray[Any]:
    return tensor**2


def gives_nan(_run: int, tensor: NDArray[Any]) -> NDArray[Any]:
    return np.full_like(tensor, np.nan)


def dies_at(fatal: int, run: int, tensor: NDArray[Any]) -> NDArray[Any]:
    if run == fatal:
        print("the driver says farewell", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return tensor * 2


def fails_at(fatal: int, run: int, tensor: NDArray[Any]) -> NDArray[Any]:
    if run == fatal:
        raise WorkFailed("the GPU is out of memory", ("because", "1 GiB was asked for"))
    return tensor * 2


def hangs(_run: int, tensor: NDArray[Any]) -> NDArray[Any]:
    time.sleep(3600)
    return tensor


def prints(_run: int, tensor: NDArray[Any]) -> NDArray[Any]:
    print("noise on stdout", flush=True)
    return tensor * 2


def lacks(reason: str) -> ActingRunner:
    raise EnvironmentLack(reason)


def exits(code: int) -> ActingRunner:
    os._exit(code)


def needs_a_module() -> ActingRunner:
    import no_such_module  # type: ignore[import-not-found]  # noqa: F401

    return ActingRunner(doubles)


def up_to(batch: int) -> Profile:
    return {"input": ShapeRange(min=(1, 4), opt=(1, 4), max=(batch, 4))}
