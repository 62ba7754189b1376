"""What is verified: an engine with its sidecar, or an ONNX file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import onnx

from trtkit.build.onnx_file import read_onnx
from trtkit.devices import NO_GPU, gpus
from trtkit.errors import EnvironmentLack, RequestError, TrtkitError
from trtkit.precision import held_precision
from trtkit.runners import Runner
from trtkit.runners.onnxruntime import OnnxRuntimeRunner
from trtkit.sidecar import Precision, Sidecar, file_sha256, read_sidecar
from trtkit.tensors import Profile, TensorSpec
from trtkit.verify.marked import marked_runner, runs_in_half, with_barriers
from trtkit.verify.report import Check


@dataclass(frozen=True)
class Subject:
    """Opened for verification. runner: None where it cannot run here, and then one of the checks says why.

    sidecar: an engine's; model: an ONNX file's.
    """

    path: Path
    precision: Precision
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profile: Profile
    runner: Runner | None
    checks: tuple[Check, ...]
    sidecar: Sidecar | None = None
    model: onnx.ModelProto | None = field(default=None, repr=False)


def open_subject(path: Path, reference: Path | None) -> Subject:
    """The engine or ONNX file `path`.

    Raises:
        RequestError: it cannot be read, has no sidecar, or its sidecar is another's.
    """
    if not path.is_file():
        raise RequestError(f"there is no file {path}", ("next", "name an engine, or an ONNX file"))
    return _onnx(path) if path.suffix == ".onnx" else _engine(path, reference)


def _onnx(path: Path) -> Subject:
    file = read_onnx(path)
    model = file.model
    precision = held_precision(model)
    checks: list[Check] = []
    runner: OnnxRuntimeRunner | None = None
    if runs_in_half(model):
        runner = marked_runner(with_barriers(model))
    else:
        try:
            runner = OnnxRuntimeRunner(path)
        except RequestError as error:
            if precision != "bf16":
                raise
            reason = f"ONNX Runtime's CPU does not compute in BF16: {error.fact('because')}"
            checks.append(Check(name="run", status="skipped", text=reason))
    return Subject(path, precision, file.inputs, file.outputs, {}, runner, tuple(checks), model=model)


def _engine(path: Path, reference: Path | None) -> Subject:
    sidecar = read_sidecar(path)
    checks = [Check(name="sidecar", status="passed", text="it is this engine's: the SHA-256 is the same")]
    if reference is not None:
        same = file_sha256(reference) == sidecar.onnx_sha256
        text = f"built from {'' if same else 'another file than '}{reference.name}"
        checks.append(Check(name="onnx", status="passed" if same else "note", text=text))
    checks += [Check(name=one.kind, status="note", text=one.text) for one in sidecar.caveats]
    runner: Runner | None = None
    if not gpus():
        checks.append(Check(name="fit", status="skipped", text=NO_GPU))
    else:
        try:
            from trtkit.runners.tensorrt import TensorRTRunner

            runner = TensorRTRunner(path)
            checks.append(Check(name="fit", status="passed", text="it loads on this GPU"))
        except TrtkitError as error:
            because = error.fact("because")
            text = f"{error.problem}{f': {because}' if because else ''}"
            lacks = isinstance(error, EnvironmentLack)
            checks.append(Check(name="fit", status="skipped" if lacks else "failed", text=text))
    return Subject(
        path,
        sidecar.precision,
        sidecar.inputs,
        sidecar.outputs,
        sidecar.profile,
        runner,
        tuple(checks),
        sidecar,
    )
