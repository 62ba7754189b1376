from __future__ import annotations

import sys

import pytest
import tensorrt_rtx
from packaging.version import Version

from trtkit.build.options import BuildOptions
from trtkit.build.speed import slow_precision
from trtkit.build.targets import known_sms, target_sms
from trtkit.devices import NO_GPU, Gpu
from trtkit.errors import EnvironmentLack, RequestError
from trtkit.flavour import Flavour, TensorRT
from trtkit.sidecar import Precision

RTX = TensorRT("tensorrt-rtx", Version(tensorrt_rtx.__version__), tensorrt_rtx)
FULL = TensorRT("tensorrt", Version("10.13.3.9"), sys)  # its module is not asked


def gpu(sm: str) -> Gpu:
    return Gpu(0, "GPU-0", "NVIDIA Example", sm, 80 << 30, "580.65.06")


def test_rtx_builds_for_the_gpus_that_are_named_in_order_and_once() -> None:
    assert target_sms(BuildOptions(sms=("120", "75", "75")), RTX, None) == ("75", "120")
    assert target_sms(BuildOptions(sms=("80",)), RTX, gpu("86")) == ("80",)


def test_rtx_builds_for_the_gpu_here_where_none_is_named() -> None:
    assert target_sms(BuildOptions(), RTX, gpu("89")) == ("89",)


def test_rtx_without_a_gpu_or_a_name_asks_for_names() -> None:
    with pytest.raises(RequestError) as caught:
        target_sms(BuildOptions(), RTX, None)
    assert "--sm" in (caught.value.fact("next") or "")
    assert caught.value.fact("known") == ", ".join(known_sms(RTX))


@pytest.mark.parametrize(
    ("options", "here"), [(BuildOptions(sms=("90",)), None), (BuildOptions(), gpu("90"))]
)
def test_rtx_does_not_build_for_an_h100(options: BuildOptions, here: Gpu | None) -> None:
    with pytest.raises(RequestError, match="SM 90") as caught:
        target_sms(options, RTX, here)
    assert "full TensorRT" in (caught.value.fact("next") or "")


@pytest.mark.parametrize(
    "options",
    [
        BuildOptions(sms=("86",), hardware_compatibility="ampere-plus"),
        BuildOptions(sms=("86",), hardware_compatibility="same-compute-capability"),
        BuildOptions(sms=("86",), version_compatible=True),
    ],
)
def test_rtx_has_no_compatibility_options(options: BuildOptions) -> None:
    with pytest.raises(RequestError) as caught:
        target_sms(options, RTX, None)
    assert caught.value.fact("because")


def test_full_tensorrt_builds_for_the_gpu_here_and_for_no_other() -> None:
    assert target_sms(BuildOptions(), FULL, gpu("90")) == ("90",)
    assert target_sms(BuildOptions(sms=("90",)), FULL, gpu("90")) == ("90",)
    with pytest.raises(RequestError, match="SM 90, not for SM 80, 90"):
        target_sms(BuildOptions(sms=("80", "90")), FULL, gpu("90"))


def test_full_tensorrt_needs_a_gpu() -> None:
    with pytest.raises(EnvironmentLack, match=NO_GPU):
        target_sms(BuildOptions(sms=("90",)), FULL, None)


def test_an_engine_for_ampere_and_newer_is_built_on_one() -> None:
    options = BuildOptions(hardware_compatibility="ampere-plus")
    assert target_sms(options, FULL, gpu("80")) == ("80",)
    with pytest.raises(RequestError, match="SM 75"):
        target_sms(options, FULL, gpu("75"))


@pytest.mark.parametrize(
    ("precision", "flavour", "slow"),
    [
        ("fp32", "tensorrt", set()),
        ("tf32", "tensorrt", {"60", "61", "70", "75"}),
        ("bf16", "tensorrt", {"60", "61", "70", "75"}),
        ("fp16", "tensorrt", {"61"}),
        ("int8", "tensorrt", {"60", "62"}),
        ("int8", "tensorrt-rtx", {"60", "61", "62", "70", "75"}),
    ],
)
def test_which_gpus_are_not_fast_at_a_precision(
    precision: Precision, flavour: Flavour, slow: set[str]
) -> None:
    sms = {"60", "61", "70", "75", "80", "86", "89", "90", "120"} | ({"62"} if precision == "int8" else set())
    told = slow_precision(precision, tuple(sorted(sms)), flavour)
    assert {sentence.split()[1] for sentence in told} == slow
    assert all(precision.upper() in sentence for sentence in told)
