"""What is verified against what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trtkit.tensors import Shape


@dataclass(frozen=True)
class VerifyOptions:
    """How to verify.

    reference: an FP32 ONNX file. torch: a PyTorch model as `trtkit export` takes it; then that is what all is
        compared with, the ONNX file included. At least one of them.
    shapes: further shapes to try, besides the profile's: each names every dynamic input.
    data: an .npz file of inputs by name, or a folder of such files, in place of random numbers.
    seed: of the random numbers; the same give the same.
    bisect: name the first layer that goes wrong; of each subject that fails, at the first shapes
        where it does. What cannot be bisected is a note of the report.
    cosine: the least cosine similarity, in place of what the precision allows. top1: the least top-1
        agreement; it is not judged otherwise, since on random numbers it says little.
    """

    reference: Path | None = None
    torch: str | None = None
    shapes: tuple[Mapping[str, Shape], ...] = ()
    data: Path | None = None
    seed: int = 0
    bisect: bool = False
    cosine: float | None = None
    top1: float | None = None
