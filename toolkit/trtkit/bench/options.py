"""What a benchmark is asked to do, and the inputs it is done on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from trtkit.errors import RequestError
from trtkit.sidecar import read_sidecar
from trtkit.tensors import Shape, TensorSpec, shape_text


class BenchOptions(BaseModel):
    """What to measure, and how long.

    model: a PyTorch model, as `trtkit export` takes it, and weights for it. onnx: the same network as ONNX
        file. engines: of it, with their sidecars. What is not given is a row that was skipped.
    batches: batch sizes, in the order they are measured.
    shapes: of inputs, where the files do not fix them; the first dimension is the batch, whatever is said.
    rounds: how often all rows are measured at each batch, in turn. round_seconds: of one row in one round.
    warm_up_seconds: at most, before a row's first round at a batch; it ends when latencies have settled.
    seed: of the inputs, and of a model's weights where they are random (as `trtkit export` has it).
    timeout_seconds: the longest a row may take for an answer (loading, compiling, a round); then its process
        is ended.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = None
    weights: Path | None = None
    onnx: Path | None = None
    engines: tuple[Path, ...] = ()
    batches: tuple[int, ...] = Field(default=(1,), min_length=1)
    shapes: dict[str, Shape] = {}
    rounds: int = Field(default=5, ge=1)
    round_seconds: float = Field(default=1.0, gt=0)
    warm_up_seconds: float = Field(default=10.0, ge=0)
    seed: int = 0
    timeout_seconds: float = Field(default=300.0, gt=0)

    @field_validator("batches")
    @classmethod
    def _batches_are_distinct(cls, batches: tuple[int, ...]) -> tuple[int, ...]:
        if min(batches) < 1 or len(set(batches)) < len(batches):
            raise ValueError("batch sizes are 1 or more, and each is given once")
        return batches


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs that all rows share; outputs may be unknown (empty)."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def shapes(self, batch: int, given: Mapping[str, Shape]) -> dict[str, Shape]:
        """The inputs' shapes at `batch`.

        Raises:
            RequestError: a dimension is open, and `given` does not say it.
        """
        return {spec.name: _shape(spec, batch, given.get(spec.name)) for spec in self.inputs}


def _shape(spec: TensorSpec, batch: int, given: Shape | None) -> Shape:
    if given is not None and not spec.admits(given):
        raise RequestError(
            f"the input {spec.name} is {shape_text(spec.shape)}, not {shape_text(given)}",
            ("next", f"say --shapes {spec.name}:... with dimensions that fit"),
        )
    have = given or spec.shape
    fixed = spec.shape[0] if spec.shape else 0
    if fixed >= 0 and fixed != batch:
        raise RequestError(
            f"the input {spec.name} is {shape_text(spec.shape)}: it has no batch of {batch}",
            (
                "next",
                f"say --batch {fixed}, or export the model with a dynamic batch" if fixed else "export it",
            ),
        )
    shape = (batch, *have[1:])
    if min(shape, default=0) < 0:
        raise RequestError(
            f"the input {spec.name} is {shape_text(spec.shape)}: which shape shall it have?",
            ("next", f"say --shapes {spec.name}:{shape_text(max(size, 1) for size in shape)}, for one"),
        )
    return shape


def signature_of(options: BenchOptions) -> Signature:
    """What the network takes and gives: as the ONNX file says; else a sidecar; else the model's source.

    Raises:
        RequestError: nothing says it, or a file cannot be read.
    """
    if options.onnx is not None:
        return _onnx_signature(options.onnx)
    if options.engines:
        sidecar = read_sidecar(options.engines[0])
        return Signature(sidecar.inputs, sidecar.outputs)
    if options.model is not None:
        from trtkit.runners.torch import TorchRunner

        examples = (TensorSpec(name, "float32", shape) for name, shape in options.shapes.items())
        model = TorchRunner(options.model, inputs=tuple(examples), weights=options.weights)
        return Signature(model.inputs, ())
    raise RequestError("there is nothing to measure", ("next", "give --model, --onnx or --engine"))


def _onnx_signature(path: Path) -> Signature:
    from trtkit.onnx_graph import load_onnx, value_spec

    graph = load_onnx(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = tuple(value_spec(value) for value in graph.input if value.name not in weights)
    return Signature(inputs, tuple(map(value_spec, graph.output)))
