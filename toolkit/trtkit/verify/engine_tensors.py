"""Intermediate tensors of an engine: it is built again with every tensor of its network as an output."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from trtkit.onnx_graph import outputs_of, with_value_types
from trtkit.runners import Tensors
from trtkit.sidecar import Sidecar
from trtkit.verify.bisect import Values


def engine_values(model: onnx.ModelProto, sidecar: Sidecar, feeds: Tensors) -> Values:
    """The tensors of the network that `sidecar` tells of, built again from its `model`, for `feeds`.

    What is an output is not fused away. So an error that only a fused kernel makes may not show here.

    Raises:
        TrtkitError: it cannot be built with all outputs, or not run.
    """
    computed: dict[str, NDArray[Any]] = {}

    def values(names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
        if not computed:
            computed.update(_run_marked(model, sidecar, feeds))
        return {name: computed[name] for name in names if name in computed}

    return values


def build_marked(model: onnx.ModelProto, sidecar: Sidecar, folder: Path) -> Path:
    """The engine of `model` with all tensors as outputs, built as `sidecar` tells, in `folder`."""
    from trtkit.build import BuildOptions, build_engine

    marked = folder / "marked.onnx"
    onnx.save_model(_all_marked(model), str(marked))
    engine = folder / "marked.engine"
    profile = sidecar.profile
    options = BuildOptions(
        precision=sidecar.precision,
        workspace=sidecar.workspace,
        min_shapes={name: shapes.min for name, shapes in profile.items()},
        opt_shapes={name: shapes.opt for name, shapes in profile.items()},
        max_shapes={name: shapes.max for name, shapes in profile.items()},
        sms=sidecar.sms,
    )
    build_engine(marked, engine, options)
    return engine


def _all_marked(model: onnx.ModelProto) -> onnx.ModelProto:
    """With every tensor of a known type as an output, after the model's own.

    Marked in the file and not in TensorRT's network: so they pass the conversion to FP16 or BF16 by name.
    """
    marked = with_value_types(model)
    made = {name for node in marked.graph.node for name in outputs_of(node)}
    made -= {one.name for one in marked.graph.output}
    marked.graph.output.extend(one for one in marked.graph.value_info if one.name in made)
    return marked


def _run_marked(model: onnx.ModelProto, sidecar: Sidecar, feeds: Tensors) -> dict[str, NDArray[Any]]:
    from trtkit.runners.tensorrt import TensorRTRunner

    with tempfile.TemporaryDirectory(prefix="trtkit-verify-") as folder:
        runner = TensorRTRunner(build_marked(model, sidecar, Path(folder)))
        try:
            return runner.run({spec.name: feeds[spec.name].astype(spec.dtype) for spec in runner.inputs})
        finally:
            runner.close()
