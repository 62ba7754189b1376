"""Every name of TensorRT's API that trtkit uses exists in every version where it is used."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest
from packaging.version import Version

import trtkit
from tests.bindings.api import Api, union
from tests.bindings.installed import Bindings
from tests.bindings.uses import Use, typed_functions, uses
from trtkit.build.config import HARDWARE_LEVELS
from trtkit.calibrate.trt_calibrator import CLASSES
from trtkit.flavour import TensorRT

pytestmark = pytest.mark.packages

PACKAGE = Path(trtkit.__file__).parent


@dataclass(frozen=True)
class Only:
    """Symbols that are used with some versions alone. where: with which. because: what makes it so."""

    symbols: tuple[str, ...]
    where: Callable[[TensorRT], bool]
    because: str


ONLY = (
    Only(
        ("module.ComputeCapability", "ComputeCapability.__members__"),
        lambda tensorrt: tensorrt.builds_without_gpu,
        "TensorRT-RTX alone builds for GPUs that are named",
    ),
    Only(
        (
            "ICudaEngine.create_runtime_config",
            "IRuntimeConfig.create_runtime_cache",
            "IRuntimeConfig.set_runtime_cache",
        ),
        lambda tensorrt: tensorrt.flavour == "tensorrt-rtx",
        "TensorRT-RTX alone compiles kernels when it loads an engine, and keeps them",
    ),
    Only(
        ("ILayer.precision", "ILayer.set_output_type"),
        lambda tensorrt: not tensorrt.strongly_typed,
        "in a strongly typed network the ONNX file gives every tensor its type",
    ),
    Only(
        tuple(f"module.{name}" for name in CLASSES.values()),
        lambda tensorrt: tensorrt.calibrates,
        "TensorRT 11 has no calibrators",
    ),
    Only(
        ("HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY",),
        lambda tensorrt: tensorrt.flavour == "tensorrt" and tensorrt.version >= Version("10.9"),
        "10.9 brought it; before, the option is refused",
    ),
    Only(
        ("NetworkDefinitionCreationFlag.EXPLICIT_BATCH",),
        lambda tensorrt: tensorrt.version.major < 11 and tensorrt.flavour == "tensorrt",
        "11 has no other networks, and no flag for them; where it is absent it is not set",
    ),
)

NAMED_AT_RUN_TIME = {
    "module.*": tuple(CLASSES.values()),
    "HardwareCompatibilityLevel.*": tuple(HARDWARE_LEVELS.values()),
    "NetworkDefinitionCreationFlag.*": ("EXPLICIT_BATCH", "STRONGLY_TYPED"),
}
"""What getattr() is asked for, where that is not a constant."""

NOT_OF_THE_LEAN = {
    "module.init_libnvinfer_plugins",
    "module.TensorFormat",
    "EngineInspector.get_engine_information",
}
"""What is used unless the runtime is the lean one, which has no plug-ins of its own, formats or inspector."""


def test_every_symbol_exists_where_it_is_used(apis: dict[Bindings, Api]) -> None:
    missing = [
        f"{path}:{use.line}: {bindings} has no {symbol}"
        for path, use in used_by_trtkit(union(apis.values()))
        for symbol in spelt_out(use)
        for bindings, api in apis.items()
        if is_used(symbol, bindings.tensorrt) and not has(api, symbol)
    ]
    assert not missing, "\n".join(missing)


def test_what_is_said_to_be_of_some_versions_is_used_and_is_not_in_all(apis: dict[Bindings, Api]) -> None:
    """Otherwise the table would excuse what needs no excuse."""
    used = {symbol for _, use in used_by_trtkit(union(apis.values())) for symbol in spelt_out(use)}
    for only in ONLY:
        for symbol in only.symbols:
            assert symbol in used
            assert not all(has(api, symbol) for api in apis.values()), symbol
            assert any(has(api, symbol) for api in apis.values()), symbol


def test_what_runs_an_engine_needs_nothing_that_the_lean_runtime_lacks(lean: dict[Bindings, Api]) -> None:
    """Types come from the whole API: the lean one would know less of them, and see fewer uses."""
    assert {str(bindings) for bindings in lean} == {"tensorrt 10.16.1.11 lean", "tensorrt 11.4.0.106 lean"}
    for bindings, api in lean.items():
        assert not has(api, "module.Builder"), "it is not the lean one"
        used = [
            (path, use)
            for path, use in used_by_trtkit(api)
            if path.startswith(("trtkit/runners/", "trtkit/inspect/", "trtkit/trt_api"))
        ]
        assert {"Runtime.deserialize_cuda_engine", "IExecutionContext.execute_async_v3"} <= {
            use.symbol for _, use in used
        }
        missing = [
            f"{path}:{use.line}: {bindings} has no {use.symbol}"
            for path, use in used
            if use.symbol not in NOT_OF_THE_LEAN
            and is_used(use.symbol, bindings.tensorrt)
            and not has(api, use.symbol)
        ]
        assert not missing, "\n".join(missing)
        assert not any(has(api, symbol) for symbol in NOT_OF_THE_LEAN)


def test_the_reader_sees_what_trtkit_does_with_an_engine(apis: dict[Bindings, Api]) -> None:
    """It follows objects through sources as they are written: a test that saw nothing would pass as well."""
    used = {use.symbol for _, use in used_by_trtkit(union(apis.values()))}
    assert {
        "module.Builder", "Builder.create_network", "Builder.build_serialized_network",
        "IBuilderConfig.set_flag", "BuilderFlag.TF32", "OnnxParser.parse", "ParserError.desc",
        "INetworkDefinition.get_input", "ITensor.dtype",
        "Runtime.deserialize_cuda_engine", "ICudaEngine.get_tensor_mode",
        "EngineInspector.get_engine_information", "IExecutionContext.execute_async_v3",
        "IExecutionContext.set_tensor_address", "IExecutionContext.set_input_shape",
    } <= used  # fmt: skip


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("trt = tensorrt.module; trt.BuilderFlag.FP61", "BuilderFlag.FP61"),
        ("trt = tensorrt.module; trt.Bilder(log)", "module.Bilder"),
        ("tensorrt.module.Builder(log).create_bilder_config()", "Builder.create_bilder_config"),
        (
            "config = tensorrt.module.Builder(log).create_builder_config(); config.set_flags(1)",
            "IBuilderConfig.set_flags",
        ),
        ("engine = trt_of(x).Runtime(log).x", ""),
        ("def f(engine: Any): engine.get_tensor_nam(0)", "ICudaEngine.get_tensor_nam"),
        ("def f(engine: Path): engine.get_tensor_nam(0)", ""),
        ("class R:\n def f(self): self._context.execute_async_v2(0)", "IExecutionContext.execute_async_v2"),
        ("builder, network, parser = load(); parser.num_error", "OnnxParser.num_error"),
        ("getattr(tensorrt.module.BuilderFlag, 'FP61', None)", "BuilderFlag.FP61"),
        ("class C(tensorrt.module.IInt8EntropyCalibrator3): pass", "module.IInt8EntropyCalibrator3"),
        ("with_runtime(tensorrt.module.Runtime(log).deserialise(b''))", "Runtime.deserialise"),
    ],
)
def test_a_misspelt_symbol_is_found(source: str, found: str, apis: dict[Bindings, Api]) -> None:
    whole = union(apis.values())
    wrong = [use.symbol for use in uses(dedent(source), whole) if not has(whole, use.symbol)]
    assert wrong == [found] * bool(found)


def test_a_removed_symbol_is_found_for_the_versions_that_lack_it(apis: dict[Bindings, Api]) -> None:
    (use,) = uses("def f(builder: Any): builder.platform_has_fast_fp16", union(apis.values()))
    lacking = {str(bindings) for bindings, api in apis.items() if not has(api, use.symbol)}
    assert {"tensorrt 11.0.0.114", "tensorrt 11.4.0.106", "tensorrt-rtx 1.7.1.116"} <= lacking
    assert "tensorrt 10.16.1.11" not in lacking


def used_by_trtkit(api: Api) -> list[tuple[str, Use]]:
    sources = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    typed = set().union(*map(typed_functions, sources.values()))
    return [
        (str(path.relative_to(PACKAGE.parent)), use)
        for path, source in sources.items()
        if speaks_of_tensorrt(source)
        for use in uses(source, api, typed)
    ]


def speaks_of_tensorrt(source: str) -> bool:
    """Whether any of its objects can be TensorRT's: it takes a `TensorRT`, or the module as `trt`."""
    return any(
        (isinstance(node, ast.ImportFrom) and node.module == "trtkit.flavour")
        or (isinstance(node, ast.arg) and node.arg == "trt")
        or (isinstance(node, ast.ImportFrom) and node.module == "trtkit.runners.engine")
        for node in ast.walk(ast.parse(source))
    )


def spelt_out(use: Use) -> list[str]:
    owner, _, name = use.symbol.partition(".")
    return (
        [f"{owner}.{one}" for one in NAMED_AT_RUN_TIME.get(use.symbol, "*")] if name == "*" else [use.symbol]
    )


def is_used(symbol: str, tensorrt: TensorRT) -> bool:
    return all(only.where(tensorrt) for only in ONLY if symbol in only.symbols)


def has(api: Api, symbol: str) -> bool:
    owner, _, name = symbol.partition(".")
    return name in api.get(owner, {})
