"""Networks that a conversion to FP16 or BF16 can go wrong with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from tests.tiny_network import convolutional, network


def layer_norm(scale: float = 1.0) -> onnx.ModelProto:
    """Layer normalisation, written out; the sum of squares of what it normalises grows with `scale`."""
    return network(
        """layer_norm (float[batch,16] x) => (float[batch,4] y) {
          scaled = Mul(x, scale)
          mean = ReduceMean<axes=[-1]>(scaled)
          centred = Sub(scaled, mean)
          two = Constant<value_float=2.0>()
          [square] squared = Pow(centred, two)
          [variance] variance = ReduceMean<axes=[-1]>(squared)
          epsilon = Constant<value_float=1e-12>()
          [guarded] guarded = Add(variance, epsilon)
          [root] deviation = Sqrt(guarded)
          [normalised] normal = Div(centred, deviation)
          y = MatMul(normal, w)
        }""",
        weights={"scale": np.float32(scale), "w": (16, 4)},
    )


def attention() -> onnx.ModelProto:
    """Causal self-attention, its mask made of FP32's least value, as exporters do."""
    return network(
        """attention (float[batch,5,8] x) => (float[batch,5,8] y) {
          normal = LayerNormalization(x, gain, bias)
          q = MatMul(normal, wq)
          k = MatMul(normal, wk)
          v = MatMul(normal, wv)
          kt = Transpose<perm=[0,2,1]>(k)
          scores = MatMul(q, kt)
          [masked] masked = Add(scores, mask)
          [softmax] weights = Softmax(masked)
          mixed = MatMul(weights, v)
          y = Add(mixed, x)
        }""",
        weights={
            "gain": (8,), "bias": (8,), "wq": (8, 8), "wk": (8, 8), "wv": (8, 8),
            "mask": np.triu(np.full((5, 5), np.finfo(np.float32).min), 1),
        },
    )  # fmt: skip


def resized() -> onnx.ModelProto:
    """Operators with inputs that stay float32 or integer: Resize, Clip, TopK. Which of two near values is
    the larger may change, so the places are no output."""
    return network(
        """resized (float[batch,3,8,8] x) => (float[batch,4,16,2] y) {
          big = Resize<mode="nearest">(x, , scales)
          c = Conv(big, w)
          clipped = Clip(c, low, high)
          y, at = TopK(clipped, count)
        }""",
        weights={
            "scales": np.array([1, 1, 2, 2], np.float32), "w": (4, 3, 1, 1), "low": np.float32(-1),
            "high": np.float32(6), "count": np.array([2]),
        },
    )  # fmt: skip


def branches() -> onnx.ModelProto:
    """An If, whose branches take tensors and weights from around them and have their own."""
    return network(
        """branches (float[batch,4] x) => (float[batch,3] y) {
          sum = ReduceSum<keepdims=0>(x)
          positive = Greater(sum, zero)
          chosen = If (positive) <
            then_branch = yes () => (float[batch,4] t) {
              factor = Constant<value_float=0.2>()
              t = Mul(x, factor)
            },
            else_branch = no () => (float[batch,4] e) { e = Neg(x) }
          >
          y = MatMul(chosen, w)
        }""",
        weights={"zero": np.float32(0), "w": (4, 3)},
    )


def embedded() -> onnx.ModelProto:
    """Integer inputs only."""
    return network(
        """embedded (int64[batch,4] ids, int64[batch,4,1] positions) => (float[batch,4,8] y) {
          words = Gather(table, ids)
          place = Cast<to=1>(positions)
          small = Mul(place, step)
          y = Add(words, small)
        }""",
        weights={"table": (10, 8), "step": np.float32(1e-2)},
    )


def large() -> onnx.ModelProto:
    """Reaches some 1e5 in between, beyond FP16, and gives ordinary values."""
    return network(
        """large (float[batch,8] x) => (float[batch,4] y) {
          [up] up = Mul(x, factor)
          [product] product = MatMul(up, w)
          [down] down = Mul(product, inverse)
          y = Relu(down)
        }""",
        weights={"factor": np.float32(60000), "w": (8, 4), "inverse": np.float32(1 / 60000)},
    )


def outputs_inside() -> onnx.ModelProto:
    """Outputs that other nodes take as well, one of them of a node that stays in FP32."""
    return network(
        """outputs_inside (float[batch,8] x) => (float[batch,8] h, float[batch,8] y, float[batch,8] z) {
          h = Relu(x)
          y = Exp(h)
          z = Sqrt(y)
        }"""
    )


NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "convolutional": convolutional,
    "layer norm": layer_norm,
    "layer norm of large values": lambda: layer_norm(1000),
    "attention": attention,
    "resized": resized,
    "branches": branches,
    "embedded": embedded,
    "large": large,
    "outputs inside": outputs_inside,
}
