"""A model folder, or one file of it: which file is served here, by what, and why."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from trtkit.cuda import current_gpu
from trtkit.devices import gpus
from trtkit.errors import RequestError, TrtkitError
from trtkit.fit import check_fit
from trtkit.flavour import find_tensorrt
from trtkit.runners import Runner
from trtkit.serve.model import Model, batch_limit
from trtkit.serve.tensors import KSERVE
from trtkit.sidecar import Precision, Preprocess, Sidecar, read_sidecar

Backend = Literal["auto", "tensorrt", "onnxruntime"]

FASTEST_FIRST: tuple[Precision, ...] = ("int8", "fp16", "bf16", "tf32", "fp32")

DESCRIPTION = "model.json"
"""Beside an ONNX file: what a sidecar tells of an engine."""


class Description(BaseModel):
    """How images become the input, and what the outputs are called, of an ONNX file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preprocess: Preprocess | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """What is asked for.

    backend: auto takes TensorRT where an engine fits, and ONNX Runtime otherwise. engine: one of the folder's
    engines. name: what clients call the model, None for the folder's or file's name. max_batch: rows of a run
    at most. contexts: runs at a time. threads: of ONNX Runtime on the CPU, None for one a core.
    """

    backend: Backend = "auto"
    engine: str | None = None
    name: str | None = None
    max_batch: int = 32
    contexts: int | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Opened:
    """A model that is ready to run. because: why this file and backend, for who started the service.

    held: what is freed with it. save: keeps what was learned for the next start; `close` does it too.
    """

    model: Model
    runners: tuple[Runner, ...]
    file: Path
    because: str
    held: ExitStack
    save: Callable[[], None] = lambda: None

    def close(self) -> None:
        """Free the runners, and then what they share. No run may go on."""
        self.held.close()


def open_model(path: Path, choice: Choice) -> Opened:
    """Load what `choice` asks for from `path`, a folder, an .engine or an .onnx file.

    Raises:
        RequestError: there is nothing to serve, or nothing that fits; the facts tell why of every engine.
        EnvironmentLack: the backend, or the GPU it needs, is not here.
        WorkFailed: the model cannot be loaded.
    """
    engines, onnxes = _files(path, choice)
    name = choice.name or (path.resolve().name if path.is_dir() else path.name.partition(".")[0])
    choice = replace(choice, name=name)
    if choice.backend == "onnxruntime" or not engines:
        if choice.backend == "tensorrt" or not onnxes:
            wanted = "an engine" if choice.backend == "tensorrt" else "an .onnx file"
            raise RequestError(
                f"there is no {wanted.split(' ', 1)[1]} in {path}"
                if path.is_dir()
                else f"{path} is not {wanted}",
                ("next", "build one: trtkit build MODEL.onnx"),
            )
        return _onnx(onnxes, choice, "there is no engine" if not engines else "it was asked for")
    try:
        engine, sidecar = choose_engine(engines)
    except TrtkitError as error:
        if choice.backend == "auto" and onnxes and not choice.engine:
            return _onnx(onnxes, choice, f"no engine runs here: {error.problem}")
        raise
    return _engine(engine, sidecar, choice)


def _files(path: Path, choice: Choice) -> tuple[list[Path], list[Path]]:
    """The engines and the ONNX files that come into question."""
    if path.is_dir():
        engines, onnxes = sorted(path.glob("*.engine")), sorted(path.glob("*.onnx"))
    elif path.is_file():
        engines = [path] if path.suffix == ".engine" else []
        onnxes = [path] if path.suffix == ".onnx" else []
    else:
        raise RequestError(
            f"there is no {path}", ("next", "name a model folder, an .engine or an .onnx file")
        )
    if choice.engine is not None:
        named = [one for one in engines if choice.engine in (one.name, one.stem)]
        if not named:
            has = ", ".join(one.name for one in engines) or "none"
            raise RequestError(f"there is no engine {choice.engine!r} in {path}", ("has", has))
        return named, []
    if not engines and not onnxes:
        raise RequestError(
            f"there is nothing to serve in {path}" if path.is_dir() else f"{path.name} cannot be served",
            ("next", "name a folder with an .engine or .onnx file, or such a file"),
        )
    return engines, onnxes


def choose_engine(engines: list[Path]) -> tuple[Path, Sidecar]:
    """The fastest of `engines` that fits the GPU and the TensorRT at hand.

    Raises:
        EnvironmentLack: there is no GPU or no TensorRT.
        RequestError: none fits; a fact for each engine tells why.
    """
    tensorrt, gpu = find_tensorrt(), current_gpu()
    fitting: list[tuple[Path, Sidecar]] = []
    reasons: list[tuple[str, str]] = []
    for engine in engines:
        try:
            sidecar = read_sidecar(engine)
            check_fit(sidecar, tensorrt, gpu)
            fitting.append((engine, sidecar))
        except RequestError as error:  # noqa: PERF203  every engine has its own reason
            why = [text for label, text in error.facts if label != "next"]
            reasons.append((engine.name, "; ".join([error.problem, *why])))
    if not fitting:
        raise RequestError(
            f"none of the engines fits {gpu.name} (SM {gpu.sm}) and {tensorrt}",
            *reasons,
            ("next", "build one on this machine: trtkit build MODEL.onnx"),
        )
    return min(fitting, key=lambda one: FASTEST_FIRST.index(one[1].precision))


def _engine(engine: Path, sidecar: Sidecar, choice: Choice) -> Opened:
    from trtkit.runners.engine import LoadedEngine
    from trtkit.runners.tensorrt import TensorRTRunner

    with ExitStack() as stack:
        loaded = LoadedEngine(engine, sidecar)
        stack.callback(loaded.close)
        runners = []
        for _ in range(choice.contexts or 2):  # two: while one computes, the other's copies go on
            runners.append(TensorRTRunner(loaded))
            stack.callback(runners[-1].close)
        model = _model(runners[0], "tensorrt_plan", choice, sidecar.preprocess, sidecar.labels)
        because = f"{sidecar.precision} is the fastest that fits this GPU"
        return Opened(model, tuple(runners), engine, because, stack.pop_all(), loaded.save)


def _onnx(onnxes: list[Path], choice: Choice, because: str) -> Opened:
    from trtkit.runners.onnxruntime import PROVIDERS, OnnxRuntimeRunner

    if len(onnxes) > 1:
        raise RequestError(
            "there are several ONNX files",
            ("has", ", ".join(one.name for one in onnxes)),
            ("next", "name the one to serve"),
        )
    import onnxruntime

    (onnx,) = onnxes
    gpu = bool(gpus()) and PROVIDERS["cuda"] in onnxruntime.get_available_providers()
    description = _description(onnx.with_name(DESCRIPTION))
    with ExitStack() as stack:
        runner = OnnxRuntimeRunner(onnx, provider="cuda" if gpu else "cpu", threads=choice.threads)
        stack.callback(runner.close)
        model = _model(runner, "onnxruntime_onnx", choice, description.preprocess, description.labels)
        # ONNX Runtime runs one session on several threads; so they share it, and its weights.
        return Opened(model, (runner,) * (choice.contexts or 1), onnx, because, stack.pop_all())


def _model(
    runner: Runner, platform: str, choice: Choice, preprocess: Preprocess | None, labels: tuple[str, ...]
) -> Model:
    foreign = [str(spec) for spec in (*runner.inputs, *runner.outputs) if spec.dtype not in KSERVE]
    if foreign:
        raise RequestError(
            "the KServe protocol has no type for some tensors of this model ('object' is text)",
            ("tensors", ", ".join(foreign)),
            ("next", "export it with inputs and outputs of plain types: float32, float16, bool or int"),
        )
    if preprocess and len(runner.inputs) != 1:
        raise RequestError(
            f"`preprocess` makes one input of an image, and the model has {len(runner.inputs)}",
            ("next", "take it out of the model's description"),
        )
    assert choice.name is not None
    limit = batch_limit(runner.inputs, runner.outputs, runner.profile, choice.max_batch)
    return Model(
        choice.name, platform, runner.inputs, runner.outputs, runner.profile, limit, preprocess, labels
    )


def _description(path: Path) -> Description:
    try:
        return Description.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Description()
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise RequestError(f"{path.name} cannot be read", ("because", f"{place}: {first['msg']}")) from error
