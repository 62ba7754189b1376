"""A layer, whatever graph it is of: an ONNX file, ONNX Runtime's optimised graph, a TensorRT engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trtkit.tensors import Shape

PRECISIONS = ("fp4", "fp8", "int4", "int8", "fp16", "bf16", "fp32", "fp64")
"""From the narrowest: what a layer reads in the narrowest of is what it computes in."""

FAMILIES: dict[str, tuple[str, ...]] = {
    "convolution": ("conv", "correlation", "cask"),
    "matrix": ("gemm", "matmul", "matrix", "fullyconnected", "attention", "mha", "runtime_fusion", "einsum"),
    "pooling": ("pool", "reduce", "resize", "argm", "topk"),
    "quantise": ("quantize", "quantise"),
    "layout": (
        "reformat", "shuffle", "transpose", "reshape", "cast", "identity", "concat", "slice", "split",
        "gather", "squeeze", "flatten", "expand", "pad", "copy", "move", "noop", "shape", "tile",
    ),
    "pointwise": ("",),
}  # fmt: skip
"""What a layer is at heart -> parts of names that ONNX and TensorRT give such types; the first that fits."""


@dataclass(frozen=True)
class LayerTensor:
    """A tensor between layers. dtype: "fp16", "int64", "" where nobody says; shape: -1 where dynamic, None
    where unknown; format: of its memory, "NCHW", "NHWC", "NHWC8", "NC/32HW32", "" where nobody says."""

    name: str
    dtype: str
    shape: Shape | None
    format: str = ""


@dataclass(frozen=True)
class Layer:
    """One layer. inputs, outputs: the tensors that flow, weights left out.

    type: as its graph calls it ("Conv", "CaskConvolution", "kgen"). precision: what it computes in, "" where
        nobody says. fused: the ONNX nodes that became it, in order; one where it was not fused.
    tactic: TensorRT's kernel, "" for others. weights: bytes.
    """

    name: str
    type: str
    precision: str
    inputs: tuple[LayerTensor, ...]
    outputs: tuple[LayerTensor, ...]
    fused: tuple[str, ...] = ()
    tactic: str = ""
    weights: int = 0

    @property
    def family(self) -> str:
        """Which of FAMILIES it belongs to, by its type; or by its name, where TensorRT's type only says that
        the kernel is generated ("kgen") or fused."""
        told = self.type.lower()
        if told in {"kgen", "pointwise", "fusion", ""}:
            told = f"{self.type} {self.name}".lower()
            if "mha" in told:
                return "matrix"
            return "pointwise"
        return next(family for family, parts in FAMILIES.items() if any(part in told for part in parts))


def precision_of(inputs: Iterable[LayerTensor], outputs: Iterable[LayerTensor]) -> str:
    """The narrowest type that it reads, of those one computes in; else that it writes."""
    for tensors in (inputs, outputs):
        known = {tensor.dtype for tensor in tensors} & set(PRECISIONS)
        if known:
            return min(known, key=PRECISIONS.index)
    return ""


def counts(names: Sequence[str]) -> dict[str, int]:
    """How many there are of each; the most first, then by name."""
    found = {name: names.count(name) for name in set(names)}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
