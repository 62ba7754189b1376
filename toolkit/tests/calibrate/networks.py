"""Small networks to calibrate, written as ONNX; their weights are the same in every run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.parser import parse_graph


def write_network(path: Path, text: str, opset: int = 17, **weights: tuple[int, ...]) -> Path:
    """Write the network that `text` tells in ONNX's own language.

    weights: the shape of each initialiser; its values are normal, and so scaled that signals keep their size.
    """
    random = np.random.default_rng(7)
    graph = parse_graph(text)
    for name, shape in weights.items():
        fan_in = np.prod(shape[1:]) if len(shape) > 2 else shape[0]
        values = random.standard_normal(shape, np.float32) * np.float32((2 / fan_in) ** 0.5)
        graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    for index, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type.lower()}{index}"
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    return path


def residual(path: Path) -> Path:
    """A stem, a residual block with a shortcut of its own, one without, and a classifier of 10; 3x16x16."""
    return write_network(
        path,
        """residual (float[batch,3,16,16] image) => (float[batch,10] scores) {
          s = Conv<pads=[1,1,1,1]>(image, w0)
          x = Relu(s)
          a = Conv<pads=[1,1,1,1],strides=[2,2]>(x, w1)
          ar = Relu(a)
          b = Conv<pads=[1,1,1,1]>(ar, w2)
          short = Conv<strides=[2,2]>(x, w3)
          sum = Add(b, short)
          y = Relu(sum)
          c = Conv<pads=[1,1,1,1]>(y, w4)
          sum2 = Add(c, y)
          z = Relu(sum2)
          p = GlobalAveragePool(z)
          f = Flatten(p)
          scores = Gemm<transB=1>(f, w5, b5)
        }""",
        w0=(8, 3, 3, 3), w1=(16, 8, 3, 3), w2=(16, 16, 3, 3), w3=(16, 8, 1, 1), w4=(16, 16, 3, 3),
        w5=(10, 16), b5=(10,),
    )  # fmt: skip


def separable(path: Path) -> Path:
    """Depthwise and pointwise convolutions with pooling, and a transposed one; 3x16x16 to 4x16x16."""
    return write_network(
        path,
        """separable (float[batch,3,16,16] image) => (float[batch,4,16,16] mask) {
          s = Conv<pads=[1,1,1,1]>(image, w0, b0)
          x = Relu(s)
          d = Conv<pads=[1,1,1,1],group=8>(x, w1)
          e = Conv(d, w2)
          r = Relu(e)
          m = MaxPool<kernel_shape=[2,2],strides=[2,2]>(r)
          v = AveragePool<kernel_shape=[3,3],pads=[1,1,1,1]>(m)
          c = Conv<pads=[1,1,1,1]>(v, w3)
          mask = ConvTranspose<kernel_shape=[2,2],strides=[2,2]>(c, w4)
        }""",
        w0=(8, 3, 3, 3), b0=(8,), w1=(8, 1, 3, 3), w2=(16, 8, 1, 1), w3=(16, 16, 3, 3), w4=(16, 4, 2, 2),
    )  # fmt: skip


def attention(path: Path) -> Path:
    """One transformer block over 12 tokens of 32: two heads, a residual MLP; the projections are MatMuls."""
    return write_network(
        path,
        """attention (float[batch,12,32] tokens) => (float[batch,12,32] out)
        <int64[4] heads = {0, 12, 2, 16}, int64[3] joined = {0, 12, 32}, float scale = {0.25},
         float half = {0.5}, float one = {1.0}, float root = {0.70710678}> {
          n = LayerNormalization<axis=-1>(tokens, g1)
          q0 = MatMul(n, wq)
          k0 = MatMul(n, wk)
          v0 = MatMul(n, wv)
          q1 = Reshape(q0, heads)
          k1 = Reshape(k0, heads)
          v1 = Reshape(v0, heads)
          q = Transpose<perm=[0,2,1,3]>(q1)
          k = Transpose<perm=[0,2,3,1]>(k1)
          v = Transpose<perm=[0,2,1,3]>(v1)
          s0 = MatMul(q, k)
          s1 = Mul(s0, scale)
          s = Softmax<axis=-1>(s1)
          a0 = MatMul(s, v)
          a1 = Transpose<perm=[0,2,1,3]>(a0)
          a2 = Reshape(a1, joined)
          a = MatMul(a2, wo)
          r = Add(tokens, a)
          m0 = LayerNormalization<axis=-1>(r, g2)
          m1 = MatMul(m0, wm)
          m2 = Add(m1, bm)
          e0 = Mul(m2, root)
          e1 = Erf(e0)
          e2 = Add(e1, one)
          e3 = Mul(m2, e2)
          e = Mul(e3, half)
          o0 = MatMul(e, wn)
          out = Add(r, o0)
        }""",
        wq=(32, 32), wk=(32, 32), wv=(32, 32), wo=(32, 32), wm=(32, 64), wn=(64, 32), bm=(64,),
        g1=(32,), g2=(32,),
    )  # fmt: skip


def classifier(path: Path) -> Path:
    """Vectors of 8 to scores of 5."""
    return write_network(
        path,
        """classifier (float[batch,8] x) => (float[batch,5] scores) {
          a = MatMul(x, w0)
          h = Relu(a)
          scores = MatMul(h, w1)
        }""",
        w0=(8, 16),
        w1=(16, 5),
    )


def sensitive(path: Path) -> Path:
    """As `classifier`, but the node called "fragile" reads a tensor in which one channel is a thousand times
    larger than the others, and makes up for it: in INT8 the others are lost. "sturdy" reads it too, and does
    not care."""
    write_network(
        path,
        """sensitive (float[batch,8] x) => (float[batch,5] scores) {
          a = MatMul(x, w0)
          h0 = Relu(a)
          h = Mul(h0, spread)
          s0 = MatMul(h, w1)
          s1 = MatMul(h, w2)
          scores = Add(s0, s1)
        }""",
        w0=(8, 16),
        w1=(16, 5),
        w2=(16, 5),
        spread=(16,),
    )
    model = onnx.load(str(path))
    arrays = {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in model.graph.initializer}
    arrays["spread"][:] = 1
    arrays["spread"][0] = 1000
    arrays["w1"][0] /= 1000
    arrays["w2"][:] = 0
    arrays["w2"][0] = 1e-4
    del model.graph.initializer[:]
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    model.graph.node[3].name, model.graph.node[4].name = "fragile", "sturdy"
    onnx.save(model, str(path))
    return path
