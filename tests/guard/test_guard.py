"""What the guard says of a machine, and whether the command runs."""

from __future__ import annotations

import ast
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import PROJECT
from tests.guard.guarded import A10, A100, ALL_THE_SAME, AMPERE, H100, L4, NO_GPU, THOR, Done, Guarded
from trtforge.machine import Gpu

if TYPE_CHECKING:
    from pathlib import Path

UNFIT = (
    "trtforge: this image holds SM 80, 86; GPU 0 (NVIDIA H100 80GB HBM3) is SM 90: "
    "pull trtforge/tensorrt:cu12.1-hopper"
)


@pytest.fixture
def guarded(tmp_path: Path) -> Guarded:
    return Guarded(tmp_path)


def second(gpu: Gpu) -> Gpu:
    return Gpu(1, gpu.name, gpu.sm)


def test_without_a_driver_it_says_so_in_one_line_and_the_command_runs(guarded: Guarded) -> None:
    assert guarded.run(["sh", "-c", "echo ran; exit 7"]) == Done(7, "ran\n", [NO_GPU])


def test_a_driver_without_a_gpu_is_the_same(guarded: Guarded) -> None:
    assert guarded.machine().run() == Done(0, "ran\n", [NO_GPU])


@pytest.mark.parametrize("gpus", [[A100], [A10], [A100, second(A10)], [A100, second(A100)]])
def test_where_all_fits_it_says_nothing(guarded: Guarded, gpus: list[Gpu]) -> None:
    assert guarded.machine(*gpus).run() == Done(0, "ran\n", [])


def test_another_architecture_is_told_what_to_pull(guarded: Guarded) -> None:
    assert guarded.machine(H100).run() == Done(64, "", [UNFIT, ALL_THE_SAME])


def test_an_architecture_that_the_matrix_does_not_know_has_no_image(guarded: Guarded) -> None:
    done = guarded.machine(THOR).run()
    assert done.code == 64
    assert done.lines[0].endswith("GPU 0 (NVIDIA Thor) is SM 110: the matrix has no image for that")


def test_an_earlier_minor_of_the_same_major_runs(guarded: Guarded) -> None:
    done = guarded.machine(L4).run()
    notice = "GPU 0 (NVIDIA L4) is SM 89, which runs that too; made for it: trtforge/tensorrt:cu12.1-ada"
    assert done == Done(0, "ran\n", [f"trtforge: this image holds SM 80, 86; {notice}"])


def test_a_later_minor_of_the_same_major_does_not(guarded: Guarded) -> None:
    guarded.facts = AMPERE | {"sm": ["86"], "for_sm": {"80": "an/image:1"}}
    assert guarded.machine(A100).run().lines[0].endswith("GPU 0 (NVIDIA A100) is SM 80: pull an/image:1")


def test_one_gpu_that_fits_is_enough_and_the_others_are_named(guarded: Guarded) -> None:
    done = guarded.machine(A100, second(H100)).run()
    assert (done.code, done.stdout) == (0, "ran\n")
    assert done.lines == [
        UNFIT.replace("GPU 0", "GPU 1"),
        "trtforge: the command runs; CUDA_VISIBLE_DEVICES=GPU-0000-beef keeps it to what fits",
    ]


def test_gpus_of_one_kind_are_told_of_together(guarded: Guarded) -> None:
    eight = [Gpu(index, H100.name, "90") for index in range(8)]
    assert guarded.machine(*eight).run().lines == [
        UNFIT.replace("GPU 0", "GPU 0, 1, 2, 3, 4, 5, 6, 7"),
        ALL_THE_SAME,
    ]


@pytest.mark.parametrize("driver", ["525", "525.60.13", "1000.1"])
def test_a_driver_that_is_as_new_as_the_image_needs_fits(guarded: Guarded, driver: str) -> None:
    assert guarded.machine(A100, driver=driver).run() == Done(0, "ran\n", [])


@pytest.mark.parametrize(
    ("driver", "advice"),
    [
        ("470.82.01", "update the driver, or pull trtforge/tensorrt:cu11.8-ampere"),
        ("524.99", "update the driver, or pull trtforge/tensorrt:cu11.8-ampere"),
        ("440.33.01", "update the driver"),
    ],
)
def test_an_older_driver_is_told_what_to_do(guarded: Guarded, driver: str, advice: str) -> None:
    assert guarded.machine(A100, driver=driver).run() == Done(
        64,
        "",
        [
            "trtforge: this image needs NVIDIA driver 525 or newer (CUDA 12.1); "
            f"this machine has {driver}: {advice}",
            ALL_THE_SAME,
        ],
    )


def test_who_brings_a_newer_libcuda_may_have_an_older_driver(guarded: Guarded) -> None:
    done = guarded.machine(A100, driver="470.82.01").run(NVIDIA_DISABLE_REQUIRE="true")
    assert (done.code, done.stdout, len(done.lines)) == (0, "ran\n", 1)
    assert guarded.machine(H100, driver="470.82.01").run(NVIDIA_DISABLE_REQUIRE="1").code == 64


def test_an_image_of_no_architecture_asks_for_the_driver_alone(guarded: Guarded) -> None:
    guarded.facts = AMPERE | {"sm": [], "for_sm": {}}
    assert guarded.machine(H100).run() == Done(0, "ran\n", [])
    assert guarded.machine(H100, driver="470.82.01").run().code == 64


def test_off_looks_at_nothing(guarded: Guarded) -> None:
    guarded.machine(H100, first='write(2, "asked\\n", 6)')
    assert "asked" in guarded.run().lines
    assert guarded.run(TRTFORGE_GUARD="off") == Done(0, "ran\n", [])


def test_warn_says_the_same_and_goes_on(guarded: Guarded) -> None:
    assert guarded.machine(H100).run(TRTFORGE_GUARD="warn") == Done(0, "ran\n", [UNFIT])


def test_strict_asks_for_a_gpu(guarded: Guarded) -> None:
    asks = f"{NO_GPU}, and TRTFORGE_GUARD=strict asks for one"
    assert guarded.run(TRTFORGE_GUARD="strict") == Done(64, "", [asks, ALL_THE_SAME])
    assert guarded.machine(A100).run(TRTFORGE_GUARD="strict") == Done(0, "ran\n", [])


def test_an_empty_mode_is_none(guarded: Guarded) -> None:
    assert guarded.run(TRTFORGE_GUARD="").lines == [NO_GPU]


@pytest.mark.parametrize("mode", ["of", "OFF", "0", "strict "])
def test_a_misspelt_mode_does_not_switch_it_off(guarded: Guarded, mode: str) -> None:
    done = guarded.run(TRTFORGE_GUARD=mode)
    assert (done.code, done.stdout) == (64, "")
    assert f"{mode!r}, not off, warn or strict" in done.lines[0]


def test_an_image_that_is_for_no_gpu_has_nothing_to_guard(guarded: Guarded) -> None:
    guarded.facts = None
    assert guarded.machine(H100).run(TRTFORGE_GUARD="strict") == Done(0, "ran\n", [])


LIKE_THAT = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


@pytest.mark.parametrize(
    ("asked", "environment", "code"),
    [
        ("0", LIKE_THAT, 0),
        ("1", LIKE_THAT, 64),
        ("1,0", LIKE_THAT, 0),
        (" 1 , 0", LIKE_THAT, 0),
        ("1,7,0", LIKE_THAT, 64),  # what follows an index that is none does not count
        ("1,nonsense,0", LIKE_THAT, 64),
        ("1", {}, 0),  # the fastest first: which one that is, nobody knows here
        ("GPU-0000-beef", {}, 0),
        ("GPU-1", {}, 64),
        ("MIG-120-feed", {}, 64),
        ("MIG-010", {}, 0),
        ("GPU-1,MIG-010-feed", {}, 0),
    ],
)
def test_only_gpus_that_the_command_will_see_count(
    guarded: Guarded, asked: str, environment: dict[str, str], code: int
) -> None:
    guarded.machine(A100, second(H100), migs=2)
    assert guarded.run(CUDA_VISIBLE_DEVICES=asked, **environment).code == code


def test_gpus_of_one_kind_are_counted_alike(guarded: Guarded) -> None:
    guarded.machine(H100, second(H100))
    assert guarded.run(CUDA_VISIBLE_DEVICES="1").lines[0] == UNFIT.replace("GPU 0", "GPU 1")


@pytest.mark.parametrize("asked", ["", "-1", "9", "NoDevFiles", "MIG-999"])
def test_a_list_that_hides_every_gpu_leaves_none(guarded: Guarded, asked: str) -> None:
    done = guarded.machine(H100).run(CUDA_VISIBLE_DEVICES=asked)
    assert done == Done(0, "ran\n", [f"trtforge: CUDA_VISIBLE_DEVICES={asked} leaves no GPU visible"])


@pytest.mark.parametrize(
    ("stub", "why"),
    [
        ({"init": 18}, "NVML says Driver Not Loaded (error 18)"),
        ({"init": 4}, "NVML says Driver Not Loaded (error 4)"),
        ({"first": "abort()"}, "the NVIDIA driver's library crashed"),
        ({"first": "_exit(0)"}, "the NVIDIA driver's library crashed"),
    ],
)
def test_a_broken_driver_is_explained_and_counts_as_no_gpu(
    guarded: Guarded, stub: dict[str, Any], why: str
) -> None:
    guarded.machine(A100, **stub)
    assert guarded.run() == Done(0, "ran\n", [f"trtforge: no GPU can be used: {why}"])
    assert guarded.run(TRTFORGE_GUARD="strict").code == 64


def test_a_driver_that_hangs_does_not_hang_the_container(guarded: Guarded) -> None:
    guarded.source = guarded.source.replace("LIMIT_S = 20", "LIMIT_S = 0.3")
    # The process that hangs is gone, and no child of the command's.
    children = ["sh", "-c", 'read found </proc/$$/task/$$/children; echo "children: $found"']
    done = guarded.machine(A100, first="for (;;) sleep(9)").run(children)
    assert done == Done(
        0, "children: \n", ["trtforge: no GPU can be used: the NVIDIA driver has not answered for 0.3 s"]
    )


def test_an_error_of_its_own_does_not_stop_the_command(guarded: Guarded) -> None:
    guarded.machine(A100, driver="not a version")
    (line,) = guarded.run().lines
    assert line.startswith("trtforge: the guard itself failed (ValueError: ")
    assert guarded.run().stdout == "ran\n"
    assert guarded.run(TRTFORGE_GUARD="strict").code == 64


def test_facts_that_are_damaged_do_not_stop_the_command(guarded: Guarded) -> None:
    program = guarded.machine(A100).program
    (guarded.folder / "image.json").write_text("{")
    guarded.facts = None
    assert program.exists()
    done = guarded.run()
    assert (done.code, done.stdout) == (0, "ran\n")
    assert done.lines[0].startswith("trtforge: the guard itself failed (JSONDecodeError: ")


def test_stdout_is_the_command_s_alone(guarded: Guarded) -> None:
    guarded.machine(H100, first='write(1, "noise\\n", 6)')
    assert guarded.run(TRTFORGE_GUARD="warn").stdout == "ran\n"


def test_it_is_written_for_the_oldest_python_an_image_may_carry() -> None:
    ast.parse((PROJECT / "guard" / "guard.py").read_text(encoding="utf-8"), feature_version=(3, 8))


def test_it_imports_nothing_heavy(guarded: Guarded) -> None:
    guarded.source = guarded.source.replace(
        "    become(command)\n", "    print(json.dumps(sorted(sys.modules)))\n"
    )
    guarded.source = guarded.source.replace("import sys\n", "import sys\nimport json\n", 1)
    # What json brings is looked at apart: it is imported only where there is a GPU.
    modules = set(json.loads(guarded.run().stdout))
    assert not modules & {"ctypes", "dataclasses", "inspect", "pathlib", "signal", "subprocess", "typing"}
