"""The GPU of this container, if there is one."""

from __future__ import annotations

import importlib
import os
from typing import Any

from smoke.outcome import Skip

WITH_GPU = "SMOKE_WITH_GPU"
"""Set when the container was started with a GPU: then finding none is a failure and no reason to skip."""


def torch_on_gpu(otherwise: str = "no GPU") -> Any:
    """The module torch, which sees a GPU; Skip(`otherwise`) if there is none."""
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        return torch
    assert not os.environ.get(WITH_GPU), "the container was given a GPU, but torch finds none"
    raise Skip(otherwise)


def gpu_sm(torch: Any) -> str:
    """The first GPU's compute capability, as "86"."""
    return "".join(map(str, torch.cuda.get_device_capability(0)))


def refused(sm: str, expected: dict[str, Any], reason: str) -> Exception:
    """What to raise when TensorRT refuses this GPU: a failure if the image is meant for it, else a skip."""
    if sm in expected["sm"]:
        return AssertionError(reason)
    return Skip(
        "this GPU (SM {}) is none the image is for ({}): {}".format(sm, ", ".join(expected["sm"]), reason)
    )
