from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from trtkit.devices import Gpu
from trtkit.errors import RequestError
from trtkit.fit import EngineDoesNotFit, check_fit, mismatches_of
from trtkit.flavour import Flavour, TensorRT
from trtkit.sidecar import HardwareCompatibility, Sidecar

SMS = ("60", "61", "70", "75", "80", "86", "87", "89", "90", "100", "103", "110", "120", "121", "130")


def tensorrt(flavour: Flavour, version: str, *, lean: bool = False) -> TensorRT:
    return TensorRT(flavour, Version(version), sys, lean)  # its module is not asked


def gpu(sm: str) -> Gpu:
    return Gpu(0, "GPU-0", "NVIDIA Example", sm, 80 << 30, "580.65.06")


def sidecar(flavour: Flavour = "tensorrt", version: str = "10.13.3.9", **fields: Any) -> Sidecar:
    made: dict[str, Any] = {
        "engine_sha256": "0" * 64, "onnx_sha256": "ab" * 32, "flavour": flavour, "tensorrt_version": version,
        "sms": ("86",), "precision": "fp16", "inputs": (), "outputs": (), "workspace": 1, "trtkit": "0.1.0",
    }  # fmt: skip
    return Sidecar.model_validate(made | fields)


def kinds(engine: Sidecar, here: TensorRT, sm: str) -> list[str]:
    return [mismatch.kind for mismatch in mismatches_of(engine, here, gpu(sm))]


@pytest.mark.parametrize(
    ("built", "compatible", "fits"),
    [
        ("10.16.1.11", True, True),
        ("10.13.3.9", True, True),
        ("10.16.1.11", False, False),  # not even of its own version
        ("10.13.3.9", False, False),
        ("11.0.0.114", True, False),
    ],
)
def test_the_lean_runtime_runs_version_compatible_engines_alone(
    built: str, compatible: bool, fits: bool
) -> None:
    here = tensorrt("tensorrt", "10.16.1.11", lean=True)
    engine = sidecar(version=built, version_compatible=compatible)
    assert kinds(engine, here, "86") == ([] if fits else ["version"])


def test_what_the_lean_runtime_cannot_run_is_built_again_with_the_option_and_elsewhere() -> None:
    engine, here = sidecar(version="10.16.1.11"), tensorrt("tensorrt", "10.16.1.11", lean=True)
    with pytest.raises(EngineDoesNotFit) as refused:
        check_fit(engine, here, gpu("86"))
    text = refused.value.text()
    assert "here is TensorRT 10.16.1.11 (lean runtime)" in text
    assert "trtkit build NETWORK.onnx --precision fp16 --version-compatible" in text
    assert "build it here" not in text  # it has no builder


@pytest.mark.parametrize(
    ("built", "here", "compatible", "fits"),
    [
        ("10.13.3.9", "10.13.3.9", False, True),
        ("10.13.3.9", "10.13.3.9.post1", False, True),  # the package again, the library the same
        ("10.13.3.9", "10.13.3.10", False, False),
        ("10.13.3.9", "10.13.2.6", False, False),
        ("10.13.3.9", "10.16.1.11", False, False),
        ("10.13.3.9", "11.4.0.106", False, False),
        ("10.13.3.9", "10.13.3.9", True, True),
        ("10.13.3.9", "10.16.1.11", True, True),
        ("10.13.3.9", "10.13.2.6", True, False),
        ("10.13.3.9", "11.4.0.106", True, True),
        ("8.6.1.6", "10.13.3.9", True, True),
        ("8.6.1.6", "11.4.0.106", True, False),
        ("11.0.0.114", "10.16.1.11", True, False),
        ("11.0.0.114", "11.4.0.106", True, True),
        ("11.4.0.106", "11.0.0.114", True, False),
        ("of today", "10.13.3.9", True, False),
    ],
)
def test_versions_of_tensorrt(built: str, here: str, compatible: bool, fits: bool) -> None:
    engine = sidecar(version=built, version_compatible=compatible)
    assert kinds(engine, tensorrt("tensorrt", here), "86") == ([] if fits else ["version"])


@pytest.mark.parametrize(
    ("built", "here", "fits"),
    [("1.7.1.116", "1.7.1.116", True), ("1.7.1.116", "1.7.1.117", False), ("1.6.1.120", "1.7.1.116", False)],
)
def test_an_engine_of_rtx_is_of_one_release(built: str, here: str, fits: bool) -> None:
    engine = sidecar("tensorrt-rtx", built)
    assert kinds(engine, tensorrt("tensorrt-rtx", here), "86") == ([] if fits else ["version"])


@pytest.mark.parametrize(
    ("level", "fitting"),
    [
        ("none", {"86"}),
        ("same-compute-capability", {"86"}),
        ("ampere-plus", {"80", "86", "87", "89", "90", "100", "103", "110", "120", "121", "130"}),
    ],
)
def test_gpus_of_tensorrt(level: HardwareCompatibility, fitting: set[str]) -> None:
    engine = sidecar(hardware_compatibility=level)
    here = tensorrt("tensorrt", "10.13.3.9")
    assert {sm for sm in SMS if not kinds(engine, here, sm)} == fitting


@pytest.mark.parametrize(
    ("sms", "fitting"),
    [
        ((), {"80", "86", "89", "120", "121", "130"}),
        (("75",), {"75"}),
        (("80", "86"), {"80", "86"}),
        (("75", "80", "86", "89", "120"), {"75", "80", "86", "89", "120"}),
        (("90", "100"), set()),  # whatever it says, TensorRT-RTX does not run there
    ],
)
def test_gpus_of_rtx(sms: tuple[str, ...], fitting: set[str]) -> None:
    engine = sidecar("tensorrt-rtx", "1.7.1.116", sms=sms)
    here = tensorrt("tensorrt-rtx", "1.7.1.116")
    assert {sm for sm in SMS if not kinds(engine, here, sm)} == fitting


@pytest.mark.parametrize(("engine", "here"), [("tensorrt", "tensorrt-rtx"), ("tensorrt-rtx", "tensorrt")])
def test_the_other_flavour_never_fits_however_alike_the_rest_is(engine: Flavour, here: Flavour) -> None:
    built = sidecar(engine, "1.7.1.116", version_compatible=engine == "tensorrt")
    assert kinds(built, tensorrt(here, "1.7.1.116"), "86") == ["flavour"]


class TestError:
    def test_it_tells_every_reason_and_what_to_do(self) -> None:
        with pytest.raises(EngineDoesNotFit) as caught:
            check_fit(sidecar(), tensorrt("tensorrt", "11.4.0.106"), gpu("90"))
        error = caught.value
        assert [mismatch.kind for mismatch in error.mismatches] == ["version", "gpu"]
        assert isinstance(error, RequestError)
        assert error.exit_code == 2
        text = error.text()
        for told in (
            "10.13.3.9",
            "11.4.0.106",
            "SM 86",
            "SM 90",
            "NVIDIA Example",
            "trtkit build",
            "abababababab",
        ):
            assert told in text

    def test_an_h100_is_sent_to_full_tensorrt(self) -> None:
        with pytest.raises(EngineDoesNotFit) as caught:
            check_fit(sidecar("tensorrt-rtx", "1.7.1.116"), tensorrt("tensorrt-rtx", "1.7.1.116"), gpu("90"))
        assert "full TensorRT" in (caught.value.fact("next") or "")

    def test_the_command_that_it_names_builds_for_this_gpu(self) -> None:
        with pytest.raises(EngineDoesNotFit) as caught:
            check_fit(
                sidecar("tensorrt-rtx", "1.7.1.116", precision="int8"),
                tensorrt("tensorrt-rtx", "1.7.1.116"),
                gpu("120"),
            )
        assert "--precision int8 --sm 120" in caught.value.text()


flavours = st.sampled_from(["tensorrt", "tensorrt-rtx"])
versions = st.lists(st.integers(0, 20), min_size=4, max_size=4).map(lambda parts: ".".join(map(str, parts)))
engines = st.builds(
    sidecar,
    flavours,
    versions,
    sms=st.lists(st.sampled_from(SMS), max_size=4, unique=True).map(tuple),
    hardware_compatibility=st.sampled_from(["none", "ampere-plus", "same-compute-capability"]),
    version_compatible=st.booleans(),
)


@given(engines, flavours, versions, st.sampled_from(SMS))
def test_it_fits_or_says_why_not(engine: Sidecar, flavour: Flavour, version: str, sm: str) -> None:
    here = tensorrt(flavour, version)
    mismatches = mismatches_of(engine, here, gpu(sm))
    if not mismatches:
        check_fit(engine, here, gpu(sm))
        assert engine.flavour == flavour
        assert Version(engine.tensorrt_version) <= Version(version)
        assert sm in engine.sms or engine.hardware_compatibility == "ampere-plus" or not engine.sms
        return
    with pytest.raises(EngineDoesNotFit) as caught:
        check_fit(engine, here, gpu(sm))
    assert caught.value.mismatches == mismatches
    assert all(mismatch.rule and mismatch.here for mismatch in mismatches)
    assert re.search(r"^  next ", caught.value.text(), re.MULTILINE)


@given(flavours, versions, st.sampled_from(SMS))
def test_an_engine_that_was_built_here_fits_here_but_for_rtx_where_rtx_does_not_run(
    flavour: Flavour, version: str, sm: str
) -> None:
    engine = sidecar(flavour, version, sms=(sm,))
    runs = flavour == "tensorrt" or sm in ("75", "80", "86", "89") or int(sm) >= 120
    assert (mismatches_of(engine, tensorrt(flavour, version), gpu(sm)) == ()) == runs
