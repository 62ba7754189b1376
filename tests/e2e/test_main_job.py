"""The main job on the real cell: real wheels, a real Engine. The tests tell one story, in order."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from trtforge.engine.file_tree import differences

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Forge
    from trtforge.engine.engine import Engine

pytestmark = [pytest.mark.e2e, pytest.mark.cell]

CELL = "--cuda 12.1 --arch ampere --tensorrt rtx"
REF = "trtforge/tensorrt:cu12.1-ampere"
GPU_CHECKS = {"engine_run", "torch_compile_run", "torch_gpu", "trtkit_run"}


@pytest.fixture(scope="module")
def ampere(forge: Forge) -> list[dict[str, Any]]:
    """The main job, done."""
    return forge.build(CELL)


def test_the_image_is_tested_and_says_what_was_not(ampere: list[dict[str, Any]], engine: Engine) -> None:
    results = {result["name"]: result for result in ampere[-1]["smoke"]["results"]}
    not_passed = {name for name, result in results.items() if result["status"] != "passed"}
    assert not_passed == (set() if engine.has_gpu() else GPU_CHECKS)
    assert all(results[name]["reason"] == "no GPU" for name in not_passed)
    assert results["engine_build"]["detail"].keys() >= {"SM 80 float16", "SM 86 float32"}


@pytest.mark.usefixtures("ampere")
def test_the_image_runs_as_a_plain_user_without_network(engine: Engine) -> None:
    code = "import os, torch, torchvision, tensorrt_rtx; print(torch.__version__, os.getuid())"
    run = engine.run(REF, ["python", "-c", code])
    assert (run.exit_code, run.stdout.split()) == (0, ["2.9.1+cu128", "1000"]), run.stderr


@pytest.mark.usefixtures("ampere")
def test_packages_can_be_installed_on_top(engine: Engine) -> None:
    """pip replaces a package of the image with one that is made there and then."""
    script = r"""
        mkdir -p /tmp/new/filelock-99.dist-info && cd /tmp/new
        touch filelock.py filelock-99.dist-info/RECORD
        printf 'Metadata-Version: 2.1\nName: filelock\nVersion: 99\n' > filelock-99.dist-info/METADATA
        printf 'Wheel-Version: 1.0\nTag: py3-none-any\n' > filelock-99.dist-info/WHEEL
        python -m zipfile -c /tmp/filelock-99-py3-none-any.whl *
        pip install --no-index --quiet /tmp/filelock-99-py3-none-any.whl
        python -c 'import importlib.metadata; print(importlib.metadata.version("filelock"))'
    """
    run = engine.run(REF, ["sh", "-ec", script])
    assert (run.exit_code, run.stdout.split()) == (0, ["99"]), run.stderr


def test_the_same_build_again_does_nothing(forge: Forge, ampere: list[dict[str, Any]]) -> None:
    again = forge.build(CELL)
    assert [(one["action"], one["layers_made"]) for one in again] == [("reuse", 0)] * 3
    assert [one["digest"] for one in again] == [one["digest"] for one in ampere]


@pytest.mark.usefixtures("ampere")
def test_plan_shows_the_record(forge: Forge) -> None:
    (plan,) = forge.answer(f"plan {CELL}")
    assert plan["state"] == "reuse"
    assert "0 failed" in plan["images"][-1]["smoke"]


def test_a_second_architecture_adds_only_its_own_configuration(
    forge: Forge, ampere: list[dict[str, Any]]
) -> None:
    turing = forge.build("--cuda 12.1 --arch turing --tensorrt rtx")
    assert [one["action"] for one in turing[:2]] == ["reuse", "reuse"]
    assert turing[1]["digest"] == ampere[1]["digest"]
    ours, theirs = forge.layers(turing[-1]["digest"]), forge.layers(ampere[-1]["digest"])
    assert ours[:-1] == theirs[:-1]
    assert ours[-1] != theirs[-1]  # what the smoke tests expect of it
    assert turing[-1]["layers_made"] <= 1  # 0 where this test ran before
    details = {result["name"]: result["detail"] for result in turing[-1]["smoke"]["results"]}
    assert "SM 75 float16" in details["engine_build"]


def test_a_slim_image_holds_the_code_of_its_gpus_alone(
    forge: Forge, ampere: list[dict[str, Any]], engine: Engine
) -> None:
    slim = forge.build(f"{CELL} --slim")
    results = {result["name"]: result for result in slim[-1]["smoke"]["results"]}
    held = results["torch_slim"]["detail"]
    assert {one for library in held.values() for one in library} == {"sm_80", "sm_86"}
    assert results["torch_compile"]["status"] == "passed"
    assert slim[-1]["size"] < 0.9 * ampere[-1]["size"]
    assert slim[-1]["unpacked"] < 0.92 * ampere[-1]["unpacked"]
    for image in slim[:0:-1]:
        for ref in image["refs"]:
            engine.remove(ref)


def test_two_empty_stores_give_the_same_digests_and_a_valid_layout(
    forge: Forge, ampere: list[dict[str, Any]], scratch: Path
) -> None:
    other = forge.with_empty_store(scratch / "cache")
    again = other.build(f"{CELL} --no-load")
    assert [one["digest"] for one in again] == [one["digest"] for one in ampere]
    layout = f"oci:{other.cache}/store/oci:{REF}"
    seen = subprocess.run(["skopeo", "inspect", layout], capture_output=True, text=True, check=True)
    assert json.loads(seen.stdout)["Digest"] == ampere[-1]["digest"]


def test_both_builders_give_the_same_files_and_configuration(forge: Forge, engine: Engine) -> None:
    """Of the image that serves: it has all that a Dockerfile of ours may say, and is soon loaded."""
    chain = forge.build(f"{CELL} --variant serve --no-smoke")
    ref = chain[-1]["refs"][0]
    ours, settings = engine.file_tree(ref), engine.config(ref)
    for image in reversed(chain):
        for name in image["refs"]:
            engine.remove(name)
    docker_s = forge.build(f"{CELL} --variant serve --builder docker --no-smoke")
    assert [one["action"] for one in docker_s] == ["build"] * 2
    assert differences(ours, engine.file_tree(ref)) == []
    assert engine.config(ref) == settings
