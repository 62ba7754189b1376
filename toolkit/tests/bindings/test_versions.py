"""trtkit under each version of TensorRT: the bindings are real, the libraries behind them are empty."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from packaging.version import Version

from tests.bindings.installed import Bindings

pytestmark = pytest.mark.packages

Told = dict[Bindings, dict[str, Any]]


@pytest.fixture(scope="session")
def told(installed: list[Bindings]) -> Told:
    """What under_version.py tells of each."""
    with ThreadPoolExecutor(2) as pool:
        answers = pool.map(lambda one: one.run("-m", "tests.bindings.under_version"), installed)
        return dict(zip(installed, answers, strict=True))


def test_it_is_found_and_all_of_trtkit_imports_with_it(told: Told) -> None:
    for bindings, answer in told.items():
        weak = bindings.flavour == "tensorrt" and bindings.version.startswith("10.")
        assert answer["flavour"] == bindings.flavour
        assert answer["version"] == answer["polygraphy"] == bindings.version
        assert (answer["strongly typed"], answer["calibrates"]) == (not weak, weak)
        assert answer["logged"] == ["wrong"]


def test_where_no_builder_can_be_made_it_says_that_there_is_no_gpu(told: Told) -> None:
    refused = [answer["no builder"] for answer in told.values() if answer["flavour"] == "tensorrt"]
    assert refused
    assert all("no GPU" in text for text in refused)


def test_rtx_knows_its_gpus(told: Told) -> None:
    known = [answer["sms"] for answer in told.values() if answer["flavour"] == "tensorrt-rtx"]
    assert known == [["75", "80", "86", "89", "120", "121"]] * 2


def test_tensorrt_10_has_calibrators(told: Told) -> None:
    weak = [answer for answer in told.values() if answer["calibrates"]]
    assert weak
    assert all(answer["calibrators"] == {"entropy": True, "minmax": True} for answer in weak)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_precision_is_flags_on_10_and_the_files_elsewhere(precision: str, told: Told) -> None:
    lowered = {precision.upper()} & {"FP16", "BF16"}
    for bindings, answer in told.items():
        done = answer["configured"][precision if bindings.flavour == "tensorrt-rtx" else f"{precision} none"]
        assert flags(done, "set_flag") & {"FP16", "BF16", "INT8"} == (
            lowered if answer["calibrates"] else set()
        )
        assert ("TF32" in flags(done, "clear_flag")) == (precision == "fp32"), bindings
        assert ["set_memory_pool_limit", "MemoryPoolType.WORKSPACE", str(2 << 30)] in done


def test_int8_has_its_calibrator_on_10(told: Told) -> None:
    for answer in told.values():
        if answer["calibrates"]:
            done = answer["configured"]["int8"]
            assert {"INT8", "FP16"} <= flags(done, "set_flag")
            assert any(call == "int8_calibrator" for call, *_ in done)


def test_a_layer_that_is_kept_in_fp32_is_given_that_type_on_10(told: Told) -> None:
    for answer in told.values():
        if answer["calibrates"]:
            assert ["precision", "DataType.FLOAT"] in answer["configured"]["fp16 none"]


def test_compatibility_is_asked_for_where_the_version_has_it(told: Told) -> None:
    for bindings, answer in told.items():
        if bindings.flavour == "tensorrt":
            ampere, same = (
                answer["configured"][f"fp16 {level}"] for level in ("ampere-plus", "same-compute-capability")
            )
            assert "VERSION_COMPATIBLE" in flags(ampere, "set_flag")
            assert ["hardware_compatibility_level", "HardwareCompatibilityLevel.AMPERE_PLUS"] in ampere
            has_same = Version(bindings.version) >= Version("10.9")
            assert isinstance(same, list) == has_same, same


def flags(done: list[list[str]], call: str) -> set[str]:
    return {arguments[0].rpartition(".")[2] for name, *arguments in done if name == call}
