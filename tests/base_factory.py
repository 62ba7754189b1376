"""A base that a user brought, without any image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtforge.axes import BroughtBase, Variant
from trtforge.base import Base
from trtforge.cells import Cells

if TYPE_CHECKING:
    from trtforge.matrix import Matrix

REFERENCE = f"registry.acme.example/torch@sha256:{'a' * 64}"

FITTING = Base(
    image=REFERENCE,
    manifest=f"sha256:{'b' * 64}",  # type: ignore[arg-type]  # a NewType of str
    layers=7,
    python="3.11.9",
    interpreter="/opt/conda/bin/python",
    prefix="/opt/conda",
    purelib="/opt/conda/lib/python3.11/site-packages",
    scripts="/opt/conda/bin",
    uid=1234,
    gid=50,
    directories={"/opt/conda": "2775 1234 50", "/opt": "755 0 0"},
    torch="2.9.1+cu128",
    cuda="12.8",
    glibc="2.35",
    headers="/usr/local/cuda/include/cuda_runtime.h",
    nvidia=("NVIDIA_VISIBLE_DEVICES",),
    entrypoint=(),
    packages={"torch": "2.9.1+cu128", "numpy": "1.26.4", "oddity": "unknown"},
)


def cells_with_base(matrix: Matrix) -> Cells:
    """Our matrix with one more OS, acme-torch."""
    stated = BroughtBase(base=REFERENCE, python="3.11", glibc="2.35")
    axes = matrix.axes.model_copy(
        update={
            "os": {**matrix.axes.os, "acme-torch": stated},
            "variant": {**matrix.axes.variant, "devel": Variant(image="devel")},
        }
    )
    return Cells(matrix.model_copy(update={"axes": axes}))
