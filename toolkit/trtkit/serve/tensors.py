"""Tensors on the wire: KServe's names of types, bytes and JSON lists to arrays and back.

Source: Open Inference Protocol v2 (KServe), "Tensor Data Types"; Triton's binary tensor data extension.
"""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from trtkit.serve.refusal import Refusal
from trtkit.tensors import Shape, shape_text

DATATYPES = {
    "BOOL": "bool",
    "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
    "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "FP16": "float16", "FP32": "float32", "FP64": "float64", "BF16": "bfloat16",
}  # fmt: skip
"""KServe's name -> numpy's. BYTES is not among them: no model here takes texts."""

KSERVE = {name: datatype for datatype, name in DATATYPES.items()}

_DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name) for name in DATATYPES.values()
}

MAX_SIZE = 1 << 40
"""Bytes of a tensor above which its shape is nonsense; well below where numpy's sizes overflow."""

MAX_RANK = 32
"""Dimensions of a tensor: what the oldest numpy we run on can do."""


def dtype_of(name: str) -> np.dtype[Any]:
    """numpy's type of this name; "bfloat16" too."""
    return _DTYPES[name]


def tensor_size(name: str, dtype: str, shape: Shape) -> int:
    """Bytes of such a tensor.

    Raises:
        Refusal: it is too large to be meant.
    """
    itemsize = _DTYPES[dtype].itemsize
    # numpy's sizes overflow although one dimension is 0
    if len(shape) > MAX_RANK or math.prod(max(size, 1) for size in shape) * itemsize > MAX_SIZE:
        raise Refusal(400, f"the shape {shape_text(shape)} of {name} is too large", ("next", "correct it"))
    return math.prod(shape) * itemsize


def from_bytes(name: str, data: memoryview, dtype: str, shape: Shape) -> NDArray[Any]:
    """A view of `data`, little endian and row by row; copied only where its memory is not aligned.

    Raises:
        Refusal: its length is not what the type and shape need.
    """
    need = tensor_size(name, dtype, shape)
    if len(data) != need:
        raise Refusal(
            400,
            f"{name} has {len(data)} bytes; {dtype} {shape_text(shape)} needs {need}",
            ("next", "send the values row by row, little endian, without padding"),
        )
    if dtype == "bool":
        return np.not_equal(np.frombuffer(data, np.uint8), 0).reshape(shape)
    return np.require(np.frombuffer(data, _DTYPES[dtype]).reshape(shape), requirements="A")


def from_json(name: str, data: object, dtype: str, shape: Shape) -> NDArray[Any]:
    """The values in a JSON list, nested or flat.

    Raises:
        Refusal: they are not as many as the shape says, or not all of the type.
    """
    tensor_size(name, dtype, shape)
    kind = _DTYPES[dtype]
    try:
        if not isinstance(data, list):
            raise ValueError("no list")
        values: NDArray[Any] = np.array(data)
        if kind.kind in "iu" and values.dtype.kind not in "iu" and values.size:
            values = np.array(data, object)  # numpy makes floats of whole numbers around 2**63
    except ValueError as error:  # lists of different lengths
        raise _bad_values(name, dtype, shape, str(error)) from error
    if values.size != math.prod(shape):
        raise _bad_values(name, dtype, shape, f"there are {values.size}")
    if values.size and not _fits(values, kind):
        raise _bad_values(name, dtype, shape, "some are of another type, or out of its range")
    with np.errstate(over="ignore"):  # what becomes infinite is refused with the infinite
        return values.astype(kind).reshape(shape)


def _fits(values: NDArray[Any], kind: np.dtype[Any]) -> bool:
    """Whether `values`, as JSON has them, are values of `kind`."""
    if kind.kind not in "iu":
        return values.dtype.kind in ("b" if kind.kind == "b" else "iuf")
    if values.dtype.kind not in "iu" and not all(type(value) is int for value in values.flat):
        return False
    limits = np.iinfo(kind)
    return bool(limits.min <= int(values.min()) and int(values.max()) <= limits.max)


def _bad_values(name: str, dtype: str, shape: Shape, because: str) -> Refusal:
    return Refusal(
        400,
        f"the data of {name} are not {math.prod(shape)} values of {dtype}",
        ("because", because),
        ("shape", shape_text(shape)),
        ("next", "send a flat list, row by row, or binary data"),
    )


def to_bytes(tensor: NDArray[Any]) -> memoryview:
    """The tensor's memory, row by row; no copy where it lies so already."""
    return np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data


def to_json(tensor: NDArray[Any]) -> list[Any]:
    """The values, flat; bfloat16 and float16 as the floats they are."""
    flat = tensor.reshape(-1)
    values: list[Any] = (flat.astype(np.float32) if flat.dtype.kind == "V" else flat).tolist()
    return values
