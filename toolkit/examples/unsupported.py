"""Networks with an operator that does not reach TensorRT by itself, to see what trtkit says to them.

trtkit export unsupported.py:deformable                # ONNX has DeformConv from opset 19 on
trtkit export unsupported.py:deformable --opset 19     # exports; whether it builds is TensorRT's to say
trtkit export unsupported.py:custom                    # an operator of our own: ONNX has nothing for it
trtkit export unsupported.py:custom --translate unsupported.py:TRANSLATIONS
"""

from __future__ import annotations

from typing import Any

import torch
from onnxscript import opset18 as op
from torch import Tensor, nn
from torchvision.ops import deform_conv2d


class DeformableConvolution(nn.Module):
    """A convolution that learns where it looks (Dai et al., 2017)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.offset = nn.Conv2d(channels, 2 * 3 * 3, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(channels, channels, 3, 3) / 3)

    def forward(self, image: Tensor) -> Tensor:
        return deform_conv2d(image, self.offset(image), self.weight, padding=1)


def deformable() -> tuple[nn.Module, Tensor]:
    """A backbone with a deformable convolution as its second stage."""
    stages = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), DeformableConvolution(8), nn.ReLU())
    return nn.Sequential(stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)), torch.rand(
        1, 3, 32, 32
    )


@torch.library.custom_op("trtkit_examples::soft_clip", mutates_args=())
def soft_clip(x: Tensor, limit: float) -> Tensor:
    """`x`, bent so that it stays within -limit .. limit; imagine a CUDA kernel here."""
    return limit * torch.tanh(x / limit)


@soft_clip.register_fake
def _(x: Tensor, limit: float) -> Tensor:  # noqa: ARG001  # as the operator is called
    return torch.empty_like(x)


class Clipped(nn.Module):
    """A layer that calls the operator."""

    def forward(self, features: Tensor) -> Tensor:
        return soft_clip(features, 2.0)


def custom() -> tuple[nn.Module, Tensor]:
    """A small network around the custom operator."""
    return nn.Sequential(nn.Linear(16, 16), Clipped(), nn.Linear(16, 4)), torch.rand(1, 16)


def _soft_clip(x: Any, limit: float) -> Any:
    bound = op.Constant(value_float=limit)
    return op.Mul(bound, op.Tanh(op.Div(x, bound)))


TRANSLATIONS = {torch.ops.trtkit_examples.soft_clip.default: _soft_clip}
"""What the custom operator is in ONNX, for `--translate`."""
