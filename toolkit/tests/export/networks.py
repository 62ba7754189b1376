# mypy: disable-error-code="misc, untyped-decorator"
"""Tiny networks to export. Tests name them as sources, so that only the export itself imports PyTorch."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


def convolutional() -> nn.Module:
    """Convolution, batch norm, dropout; in training mode, its statistics no longer the initial ones."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip
    net(torch.randn(16, 3, 12, 12))
    return net.train()


def with_example() -> tuple[nn.Module, Tensor]:
    return convolutional(), torch.rand(2, 3, 12, 12)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 6), nn.Linear(5, 6)

    def forward(self, image: Tensor, state: Tensor, scale: Tensor | None = None) -> dict[str, Any]:
        mixed = self.left(image) + self.right(state)
        return {"mixed": mixed if scale is None else mixed * scale, "parts": (image.sum(1), state.argmax(1))}


class Tokens(nn.Module):
    """Embedding and attention over a sequence of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 16)
        self.project = nn.Linear(16, 48)
        self.head = nn.Linear(16, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = self.project(self.embed(tokens)).unflatten(-1, (2, 24)).transpose(1, 2).chunk(3, -1)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.head(mixed.transpose(1, 2).flatten(2).mean(1))


def tokens_with_ids() -> tuple[nn.Module, dict[str, Tensor]]:
    return Tokens(), {"tokens": torch.randint(0, 100, (2, 7))}


class Pair(NamedTuple):
    boxes: Tensor
    scores: Tensor


class Detector(nn.Module):
    def forward(self, x: Tensor) -> Pair:
        return Pair(x[:, :4] * 2, x[:, 4:].sigmoid())


class Unbatched(nn.Module):
    """A function of one vector, without a batch."""

    def forward(self, state: Tensor) -> Tensor:
        return (state * state).cumsum(0)


class FixedBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, -1)


class Length(nn.Module):
    """The batch size as a number of Python: a trace takes it for a constant."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), 2, -1)


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x - 1


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0


class NotANumber(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - 100).log()


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class Counted(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        return x, 3


class Complex(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft(x)


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


class Deep(nn.Module):
    """Attention two modules down."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleDict({"mix": Attention()})

    def forward(self, x: Tensor) -> Tensor:
        return self.body["mix"](x).relu()


@torch.library.custom_op("trtkit_tests::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    return x + x


@twice.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return twice(x)


def custom() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), Twice()))


def _thrice(x: Any) -> Any:
    from onnxscript import opset18 as op

    return op.Add(op.Add(x, x), x)


def _twice(x: Any) -> Any:
    from onnxscript import opset18 as op

    return op.Add(x, x)


RIGHT = {torch.ops.trtkit_tests.twice.default: _twice}
WRONG = {torch.ops.trtkit_tests.twice.default: _thrice}
NOT_A_MODEL = 7


def gives_a_list() -> list[int]:
    return [1, 2]


def fails() -> nn.Module:
    raise ValueError("no weights on this disk")


def traced(to: str) -> None:
    torch.jit.trace(convolutional().eval(), torch.rand(2, 3, 12, 12)).save(to)


def traced_in_training(to: str) -> None:
    torch.jit.trace(convolutional().train(), torch.rand(2, 3, 12, 12), check_trace=False).save(to)


def traced_custom(to: str) -> None:
    torch.jit.trace(custom().eval(), torch.rand(2, 4)).save(to)


def scripted_attention(to: str) -> None:
    torch.jit.script(nn.Sequential(nn.ReLU(), Attention())).save(to)


def program(to: str, *, dynamic: bool = True) -> None:
    shapes = ({0: torch.export.Dim.DYNAMIC},) if dynamic else None
    net = convolutional().eval()
    torch.export.save(torch.export.export(net, (torch.rand(2, 3, 12, 12),), dynamic_shapes=shapes), to)


def weights(to: str, *, wrapped: bool = False) -> None:
    torch.manual_seed(5)
    state = convolutional().state_dict()
    torch.save({"state_dict": state, "epoch": 3} if wrapped else state, to)


def other_weights(to: str) -> None:
    torch.save({"fc.weight": torch.zeros(2, 2)}, to)
