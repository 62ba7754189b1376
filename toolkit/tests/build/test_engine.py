from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorrt_rtx

from tests.tiny_network import convolutional, network, quantised, save
from trtkit.build import BuildFailed, BuildOptions, UnsupportedByTensorRT, build_engine
from trtkit.devices import NO_GPU, gpus
from trtkit.errors import RequestError
from trtkit.precision import convert
from trtkit.sidecar import Precision, Preprocess, Sidecar, read_sidecar, sidecar_path
from trtkit.tensors import ShapeRange, TensorSpec

SMS = ("75", "80", "86", "89", "120")


@pytest.fixture(scope="module")
def conv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(convolutional(), tmp_path_factory.mktemp("onnx") / "conv.onnx")


@pytest.fixture(scope="module")
def qdq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(quantised(), tmp_path_factory.mktemp("onnx") / "qdq.onnx")


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return tmp_path / "net.engine"


def computed_in(sidecar: Sidecar, kind: str) -> set[str]:
    """The types that layers of a kind ("correlation", "gemm") take."""
    return {
        tensor["Datatype"]
        for layer in sidecar.layers
        if layer["LayerType"] == kind
        for tensor in layer["Inputs"]
    }


class TestPrecision:
    @pytest.mark.parametrize("sm", SMS)
    @pytest.mark.parametrize(("precision", "type_"), [("fp32", "Float"), ("fp16", "Half")])
    def test_every_gpu_in_it(
        self, engine: Path, tmp_path: Path, sm: str, precision: Precision, type_: str
    ) -> None:
        model = network(
            "n (float[batch,4,8,8] x) => (float[batch,8,6,6] y) { y = Conv(x, w) }",
            weights={"w": (8, 4, 3, 3)},
        )
        onnx_ = save(model, tmp_path / "conv.onnx")
        sidecar = build_engine(onnx_, engine, BuildOptions(precision=precision, sms=(sm,)))
        assert (sidecar.precision, sidecar.sms) == (precision, (sm,))
        assert computed_in(sidecar, "correlation") == {type_}

    def test_tf32_is_fp32_to_look_at_and_told_where_it_is_no_faster(self, conv: Path, engine: Path) -> None:
        sidecar = build_engine(conv, engine, BuildOptions(precision="tf32", sms=("86",)))
        assert computed_in(sidecar, "correlation") == {"Float"}
        assert sidecar.caveats == ()

    @pytest.mark.parametrize("precision", ["fp32", "tf32"])
    def test_rtx_has_no_fp32_matrix_product_for_turing(
        self, conv: Path, engine: Path, precision: Precision
    ) -> None:
        with pytest.raises(BuildFailed) as caught:
            build_engine(conv, engine, BuildOptions(precision=precision, sms=("75", "86")))
        assert "FP32 GEMM is not supported" in caught.value.errors[0]
        assert "gemm6" in caught.value.text()

    @pytest.mark.parametrize("sm", SMS[1:])
    def test_bf16_from_ampere_on(self, conv: Path, engine: Path, sm: str) -> None:
        sidecar = build_engine(conv, engine, BuildOptions(precision="bf16", sms=(sm,)))
        assert computed_in(sidecar, "correlation") == {"BFloat16"}
        assert sidecar.inputs[0].dtype == "float32"

    def test_bf16_before_is_an_error_that_says_why(self, conv: Path, engine: Path) -> None:
        with pytest.raises(BuildFailed) as caught:
            build_engine(conv, engine, BuildOptions(precision="bf16", sms=("75", "86")))
        assert "sm75" in caught.value.errors[0]
        assert "SM 75" in caught.value.slow[0]
        assert caught.value.exit_code == 1
        assert not engine.exists()

    @pytest.mark.parametrize("sm", SMS)
    def test_int8_of_qdq_nodes_with_the_rest_in_fp16(self, qdq: Path, engine: Path, sm: str) -> None:
        sidecar = build_engine(qdq, engine, BuildOptions(precision="int8", sms=(sm,)))
        assert computed_in(sidecar, "correlation") == ({"Int8"} if sm != "75" else {"Half"})
        assert [caveat.kind for caveat in sidecar.caveats] == ["slow-precision"] * (sm == "75")

    def test_inputs_and_outputs_stay_float32_or_are_converted(self, conv: Path, engine: Path) -> None:
        kept = build_engine(conv, engine, BuildOptions(sms=("86",)))
        assert [spec.dtype for spec in (*kept.inputs, *kept.outputs)] == ["float32", "float32"]
        converted = build_engine(conv, engine, BuildOptions(sms=("86",), io_types="convert"))
        assert [spec.dtype for spec in (*converted.inputs, *converted.outputs)] == ["float16", "float16"]

    def test_nodes_that_are_named_stay_in_fp32(self, conv: Path, engine: Path) -> None:
        sidecar = build_engine(conv, engine, BuildOptions(sms=("86",), keep_fp32=("conv0",)))
        types = {
            name: layer["Inputs"][0]["Datatype"]
            for name in ("conv0", "conv2")
            for layer in sidecar.layers
            if f"[ONNX Layer: {name}]" in layer["Metadata"]
        }
        assert types == {"conv0": "Float", "conv2": "Half"}

    def test_what_is_fp16_already_is_taken_as_it_is(self, tmp_path: Path, engine: Path) -> None:
        onnx_ = save(convert(convolutional(), "fp16", keep_io=False), tmp_path / "half.onnx")
        sidecar = build_engine(onnx_, engine, BuildOptions(sms=("86",)))
        assert sidecar.inputs[0].dtype == "float16"

    @pytest.mark.parametrize(
        ("held", "asked"),
        [
            ("fp16", "fp32"),
            ("fp16", "bf16"),
            ("bf16", "fp16"),
            ("bf16", "int8"),
            ("int8", "fp16"),
            ("int8", "fp32"),
        ],
    )
    def test_a_file_does_not_give_what_it_no_longer_holds(
        self, held: str, asked: Precision, tmp_path: Path, engine: Path
    ) -> None:
        model = quantised() if held == "int8" else convert(convolutional(), held)  # type: ignore[arg-type]
        onnx_ = save(model, tmp_path / "net.onnx")
        with pytest.raises(RequestError, match=held.upper()) as caught:
            build_engine(onnx_, engine, BuildOptions(precision=asked, sms=("86",)))
        assert f"--precision {held}" in (caught.value.fact("next") or "")

    def test_int8_without_qdq_nodes_sends_to_calibrate(self, conv: Path, engine: Path) -> None:
        with pytest.raises(RequestError, match="no Q/DQ nodes") as caught:
            build_engine(conv, engine, BuildOptions(precision="int8", sms=("86",)))
        assert "trtkit calibrate" in (caught.value.fact("next") or "")

    def test_keeping_layers_out_of_int8_is_calibrates(self, qdq: Path, engine: Path) -> None:
        with pytest.raises(RequestError, match="ONNX file alone"):
            build_engine(qdq, engine, BuildOptions(precision="int8", sms=("86",), keep_fp16=("head*",)))


class TestSidecar:
    def test_it_is_what_was_built(self, conv: Path, engine: Path) -> None:
        options = BuildOptions(
            sms=SMS, workspace=1 << 28, labels=("cat", "dog"), preprocess=Preprocess(crop=16, resize=16)
        )
        sidecar = build_engine(conv, engine, options)
        assert read_sidecar(engine) == sidecar
        assert sidecar.engine_sha256 == hashlib.sha256(engine.read_bytes()).hexdigest()
        assert sidecar.onnx_sha256 == hashlib.sha256(conv.read_bytes()).hexdigest()
        assert (sidecar.flavour, sidecar.tensorrt_version) == ("tensorrt-rtx", tensorrt_rtx.__version__)
        assert (sidecar.sms, sidecar.workspace, sidecar.labels) == (SMS, 1 << 28, ("cat", "dog"))
        assert sidecar.inputs == (TensorSpec("image", "float32", (-1, 4, 16, 16)),)
        assert sidecar.outputs == (TensorSpec("scores", "float32", (-1, 8)),)
        assert sidecar.profile == {"image": ShapeRange((1, 4, 16, 16), (4, 4, 16, 16), (8, 4, 16, 16))}
        assert sidecar.preprocess == Preprocess(crop=16, resize=16)
        assert any("conv0" in layer["Name"] for layer in sidecar.layers)

    def test_it_is_the_same_every_time_but_for_the_engine(self, conv: Path, tmp_path: Path) -> None:
        """TensorRT's own bytes and the names of its temporaries may differ."""
        made = [build_engine(conv, tmp_path / f"{at}.engine", BuildOptions(sms=("86",))) for at in range(2)]
        ours = [sidecar.model_dump_json(exclude={"engine_sha256", "layers"}) for sidecar in made]
        assert ours[0] == ours[1]

    def test_shapes_that_the_profile_leaves_out_are_told_and_no_error(self, conv: Path, engine: Path) -> None:
        options = BuildOptions(sms=("86",), must_cover={"image": (16, 4, 16, 16)})
        (caveat,) = build_engine(conv, engine, options).caveats
        assert caveat.kind == "uncovered-shape"
        assert "16x4x16x16" in caveat.text
        assert read_sidecar(engine).caveats == (caveat,)

    def test_a_timing_cache_that_rtx_does_not_have_is_told(
        self, conv: Path, engine: Path, tmp_path: Path
    ) -> None:
        options = BuildOptions(sms=("86",), timing_cache=tmp_path / "timing.cache")
        (caveat,) = build_engine(conv, engine, options).caveats
        assert caveat.kind == "timing-cache"
        assert not (tmp_path / "timing.cache").exists()


class TestProfile:
    def test_shapes_that_are_given(self, engine: Path, tmp_path: Path) -> None:
        model = network(
            "n (float[batch,3,height,width] x) => (float[batch,8,h,w] y) { y = Conv(x, k) }",
            weights={"k": (8, 3, 3, 3)},
        )
        free = save(model, tmp_path / "free.onnx")
        span = ShapeRange((1, 3, 8, 8), (2, 3, 16, 16), (4, 3, 64, 32))
        options = BuildOptions(
            sms=("86",), min_shapes={"x": span.min}, opt_shapes={"x": span.opt}, max_shapes={"x": span.max}
        )
        assert build_engine(free, engine, options).profile == {"x": span}

        with pytest.raises(RequestError, match=r"dimension 2 \('height'\) of input 'x'"):
            build_engine(free, engine, BuildOptions(sms=("86",)))

    def test_fixed_shapes_need_none(self, engine: Path, tmp_path: Path) -> None:
        fixed = save(network("n (float[2,4] x) => (float[2,4] y) { y = Relu(x) }"), tmp_path / "fixed.onnx")
        sidecar = build_engine(fixed, engine, BuildOptions(sms=("86",)))
        assert sidecar.profiles == ()


class TestUnsupported:
    def test_every_node_that_is_refused_is_named(self, engine: Path, tmp_path: Path) -> None:
        model = network(
            """n (float[2,3,3] x) => (float[2] a, float[2] b, float[2] c) {
              [area] a = Det(x)
              b = Det(x)
              [odd] c = my.ops.Odd(x)
            }"""
        )
        model.graph.node[1].name = ""
        with pytest.raises(UnsupportedByTensorRT) as caught:
            build_engine(
                save(model, tmp_path / "det.onnx"), engine, BuildOptions(precision="fp32", sms=("86",))
            )
        nodes = caught.value.nodes
        assert [(node.operator, node.name) for node in nodes] == [
            ("Det", "area"),
            ("Det", "-> b"),
            ("Odd", "odd"),
        ]
        assert all(node.reason for node in nodes)
        for told in ("Det", "'area'", "Odd", "'odd'", "det.onnx"):
            assert told in caught.value.text()
        assert caught.value.exit_code == 1
        assert not engine.exists()


class TestBadFiles:
    def damaged(self, path: Path, change: Callable[[bytes], bytes]) -> Path:
        path.write_bytes(change(convolutional().SerializeToString()))
        return path

    @pytest.mark.parametrize(
        "change",
        [
            lambda _: b"",
            lambda _: b"not an ONNX file at all",
            lambda _: b"\x00" * 4096,
            lambda data: data[: len(data) // 2],
            lambda data: data[:-1],
            lambda data: data[:10],
            lambda data: data[100:],
        ],
        ids=["empty", "text", "zeros", "half", "one byte less", "ten bytes", "without its start"],
    )
    def test_what_is_no_onnx_file(
        self, change: Callable[[bytes], bytes], tmp_path: Path, engine: Path
    ) -> None:
        bad = self.damaged(tmp_path / "bad.onnx", change)
        with pytest.raises(RequestError, match=r"bad\.onnx") as caught:
            build_engine(bad, engine, BuildOptions(sms=("86",)))
        assert caught.value.fact("next")
        assert [path.name for path in tmp_path.iterdir()] == ["bad.onnx"]

    @pytest.mark.parametrize("precision", ["fp32", "fp16"])
    def test_a_files_name_says_nothing_of_its_form(
        self, precision: Precision, tmp_path: Path, engine: Path
    ) -> None:
        named = save(convolutional(), tmp_path / "net.onnx").rename(tmp_path / "net.json")
        assert build_engine(named, engine, BuildOptions(precision=precision, sms=("86",)))

    def test_one_that_is_not_there(self, tmp_path: Path, engine: Path) -> None:
        with pytest.raises(RequestError, match="no ONNX file"):
            build_engine(tmp_path / "none.onnx", engine, BuildOptions(sms=("86",)))

    @pytest.mark.parametrize("left", [None, 0, 100])
    def test_weights_that_are_kept_elsewhere_and_missing_or_short(
        self, left: int | None, tmp_path: Path, engine: Path
    ) -> None:
        path = tmp_path / "net.onnx"
        onnx.save(
            convolutional(), str(path), save_as_external_data=True, location="net.data", size_threshold=0
        )
        assert build_engine(path, engine, BuildOptions(sms=("86",)))
        data = tmp_path / "net.data"
        if left is None:
            data.unlink()
        else:
            data.write_bytes(data.read_bytes()[:left])
        with pytest.raises(RequestError, match="weights") as caught:
            build_engine(path, tmp_path / "other.engine", BuildOptions(sms=("86",)))
        assert caught.value.fact("because")
        assert not (tmp_path / "other.engine").exists()

    def test_an_input_without_a_shape(self, tmp_path: Path, engine: Path) -> None:
        model = network("n (float[4] x) => (float[4] y) { y = Relu(x) }")
        model.graph.input[0].type.tensor_type.ClearField("shape")
        with pytest.raises(RequestError, match="'x'"):
            build_engine(save(model, tmp_path / "net.onnx"), engine, BuildOptions(sms=("86",)))


class TestWholeOrNotAtAll:
    def test_a_build_that_fails_leaves_the_engine_that_was_there(self, conv: Path, engine: Path) -> None:
        build_engine(conv, engine, BuildOptions(sms=("86",)))
        before = {path.name: path.read_bytes() for path in engine.parent.iterdir()}
        with pytest.raises(BuildFailed):
            build_engine(conv, engine, BuildOptions(precision="bf16", sms=("75",)))
        assert {path.name: path.read_bytes() for path in engine.parent.iterdir()} == before

    def test_another_build_takes_its_place_with_its_sidecar(self, conv: Path, engine: Path) -> None:
        build_engine(conv, engine, BuildOptions(sms=("86",)))
        build_engine(conv, engine, BuildOptions(precision="fp32", sms=("89",)))
        assert read_sidecar(engine).sms == ("89",)
        assert sorted(path.name for path in engine.parent.iterdir()) == [
            engine.name,
            sidecar_path(engine).name,
        ]

    def test_a_folder_that_is_not_there_yet_is_made(self, conv: Path, tmp_path: Path) -> None:
        engine = tmp_path / "deep" / "er" / "net.engine"
        build_engine(conv, engine, BuildOptions(sms=("86",)))
        assert read_sidecar(engine)

    def test_ctrl_c_stops_the_build_and_leaves_nothing(self, conv: Path, engine: Path) -> None:
        def press(message: str) -> None:
            if "Graph construction completed" in message:
                os.kill(os.getpid(), signal.SIGINT)

        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            build_engine(conv, engine, BuildOptions(sms=("86",)), press)
        assert list(engine.parent.iterdir()) == []
        assert signal.getsignal(signal.SIGINT) is before


class TestLog:
    def test_tensorrts_messages_are_followed(self, conv: Path, engine: Path) -> None:
        messages: list[str] = []
        build_engine(conv, engine, BuildOptions(sms=("86",)), messages.append)
        assert any(message.startswith("verbose: ") for message in messages)
        assert any(message.startswith("info: ") for message in messages)

    def test_who_follows_cannot_break_the_build(self, conv: Path, engine: Path) -> None:
        def breaks(_message: str) -> None:
            raise BrokenPipeError

        assert build_engine(conv, engine, BuildOptions(sms=("86",)), breaks)

    def test_nothing_is_printed(self, conv: Path, engine: Path, capfd: Any) -> None:
        build_engine(conv, engine, BuildOptions(sms=("86",)))
        assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not gpus(), reason=NO_GPU)
@pytest.mark.skipif(any(gpu.sm == "90" for gpu in gpus()), reason="TensorRT-RTX does not build for SM 90")
def test_on_a_gpu_the_engine_is_for_it(conv: Path, engine: Path) -> None:
    assert build_engine(conv, engine, BuildOptions()).sms == (gpus()[0].sm,)


def test_values_beyond_fp16_stay_in_fp32(engine: Path, tmp_path: Path) -> None:
    model = network(
        """n (float[batch,8] x) => (float[batch,4] y) {
          up = Mul(x, factor)
          product = MatMul(up, w)
          y = Mul(product, inverse)
        }""",
        weights={"factor": np.float32(60000), "w": (8, 4), "inverse": np.float32(1 / 60000)},
    )
    sidecar = build_engine(save(model, tmp_path / "large.onnx"), engine, BuildOptions(sms=("86",)))
    types = {tensor["Datatype"] for layer in sidecar.layers for tensor in layer["Inputs"]}
    assert types == {"Float"}
