"""What each check says of what was found: fitting, unfit, and what somebody will wonder about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.base_factory import FITTING
from trtforge.base_checks.candidate import Candidate
from trtforge.base_checks.carried import Carried, carried
from trtforge.base_checks.content_checks import cells_check, content_checks, python_absent
from trtforge.base_checks.image_checks import image_checks
from trtforge.base_checks.survey import Survey
from trtforge.image import Image
from trtforge.oci import Layer, canonical_json

if TYPE_CHECKING:
    from trtforge.base import Base
    from trtforge.base_checks.check import Check
    from trtforge.matrix import Matrix

PINNED = FITTING.image
LAYER = Layer(FITTING.manifest, FITTING.manifest, 1, 1)
READY = FITTING.model_copy(update={"nvcc": "/usr/local/cuda/bin/nvcc"})


def candidate(
    layers: int = 7, asked: str = PINNED, pinned: str = PINNED, history: tuple[str, ...] = (), **config: Any
) -> Candidate:
    described = {
        "config": {"User": "1000", **config},
        "history": [{"created_by": command} for command in history],
    }
    image = Image(FITTING.manifest, canonical_json(described), (LAYER,) * layers)
    return Candidate(asked, FITTING.tag, image, pinned)


def of_image(name: str, **facts: Any) -> Check:
    return {check.name: check for check in image_checks(candidate(**facts))}[name]


def of_content(
    name: str, matrix: Matrix, base: Base = READY, survey: Survey | None = None, **config: Any
) -> Check:
    checks = content_checks(candidate(**config), base, survey or Survey(), matrix)
    return {check.name: check for check in checks}[name]


def test_a_good_base_passes_everything(matrix: Matrix) -> None:
    checks = [*image_checks(candidate()), *content_checks(candidate(), READY, Survey(), matrix)]
    assert [check for check in checks if check.status != "passed"] == []
    assert len({check.name for check in checks}) == len(checks)
    assert all(check.rule and check.found for check in checks)


@pytest.mark.parametrize(
    ("name", "facts", "status", "says"),
    [
        ("base-digest", {"asked": "acme/torch:1"}, "warning", f"now {PINNED}"),
        ("base-digest", {"asked": "mine", "pinned": ""}, "warning", "in this Engine alone"),
        ("base-layers", {"layers": 97}, "passed", "97 layers"),
        ("base-layers", {"layers": 98}, "warning", "98 layers, and ours are up to 30"),
        ("base-layers", {"layers": 127}, "failed", "127"),
        ("base-user", {"User": ""}, "warning", "no USER"),
        ("base-user", {"User": "0:0"}, "warning", "USER 0:0"),
        ("base-onbuild", {"OnBuild": ["COPY . /app"]}, "warning", "COPY . /app"),
        ("base-nvidia", {"Env": ["NVIDIA_VISIBLE_DEVICES=void"]}, "warning", "VISIBLE_DEVICES=void"),
        ("base-nvidia", {"Env": ["NVIDIA_DRIVER_CAPABILITIES=graphics"]}, "warning", "=graphics"),
        ("base-nvidia", {"Env": ["NVIDIA_DRIVER_CAPABILITIES=all"]}, "passed", "=all"),
    ],
)
def test_what_the_configuration_tells(name: str, facts: dict[str, Any], status: str, says: str) -> None:
    check = of_image(name, **facts)
    assert (check.status, says in check.found) == (status, True), check
    assert bool(check.remedy) == (status != "passed")


def test_secrets_are_named_and_never_shown() -> None:
    history = (
        "RUN |2 PIP_TOKEN=s3cret JOBS=4 /bin/sh -c pip install x # buildkit",
        "ENV A_PASSWORD=not-a-build-argument",
    )
    check = of_image("base-secrets", Env=["HF_TOKEN=s3cret", "EMPTY_TOKEN=", "PATH=/bin"], history=history)
    assert (check.status, check.found) == ("warning", "HF_TOKEN, PIP_TOKEN")
    assert "s3cret" not in repr(check)


@pytest.mark.parametrize(
    ("required", "status", "says"),
    [
        ("cuda>=12.1", "passed", "cuda>=12.1"),
        ("cuda>=12.8 brand=tesla,driver>=535,driver<536", "passed", "cuda>=12.8"),
        ("cuda>=13.0", "warning", "cuda>=13.0: drivers that run torch 2.9.1+cu128 are refused"),
        ("cuda>=13.0 brand=tesla,cuda>=12.2", "passed", "cuda>=12.2"),
        ("driver>=535", "warning", "names no CUDA"),
    ],
)
def test_a_required_cuda_is_compared_with_torch(
    matrix: Matrix, required: str, status: str, says: str
) -> None:
    check = of_content("base-require-cuda", matrix, Env=[f"NVIDIA_REQUIRE_CUDA={required}"])
    assert (check.status, says in check.found) == (status, True), check


@pytest.mark.parametrize(
    ("name", "found", "status", "says"),
    [
        ("base-python", {"python": "3.9.2"}, "failed", "3.9.2"),
        ("base-python", {"scripts": "/usr/bin"}, "failed", "scripts in /usr/bin"),
        ("base-glibc", {"glibc": "2.27"}, "failed", "2.27"),
        ("base-glibc", {"glibc": "2.28"}, "passed", "2.28"),
        ("base-glibc", {"glibc": ""}, "failed", "another C library"),
        ("base-torch", {"torch": "2.8.0+cu128"}, "failed", "2.8.0"),
        ("base-torch", {"torch": "", "no_torch": "ImportError: x"}, "failed", "ImportError: x"),
        ("base-cuda", {"torch": "", "no_torch": "x"}, "skipped", "no torch"),
        ("base-cuda", {"cuda": ""}, "failed", "for CPUs only"),
        ("base-cuda", {"cuda": "10.2"}, "failed", "10.2"),
        ("base-cuda", {"cuda": "13.0"}, "passed", "driver 580"),
        ("base-headers", {"headers": ""}, "warning", "no cuda_runtime.h"),
        ("base-headers", {"nvcc": ""}, "warning", "no nvcc"),
        ("base-tensorrt", {"packages": {"tensorrt-cu12": "10.9"}}, "warning", "tensorrt-cu12 10.9"),
    ],
)
def test_what_is_in_it(matrix: Matrix, name: str, found: dict[str, Any], status: str, says: str) -> None:
    check = of_content(name, matrix, READY.model_copy(update=found))
    assert (check.status, says in check.found) == (status, True), check


@pytest.mark.parametrize(
    ("name", "found", "says"),
    [
        (
            "base-duplicates",
            {"system": {"cublas": 10**9, "npp": 5}, "wheels": {"cublas": 8 * 10**8}, "static": 10**8},
            "cublas: 1.00 GB of the system's and 800 MB in Python packages (static ones: 100 MB)",
        ),
        (
            "base-library-path",
            {"shadowing": {"/opt/cuda/lib64": ("libcudart.so.12",)}},
            "/opt/cuda/lib64 has libcudart.so.12 too",
        ),
        ("base-library-path", {"loaded": ("/opt/x/libcublas.so.12",)}, "torch loaded /opt/x/libcublas.so.12"),
        ("base-driver", {"driver": tuple("abcdef")}, "a, b, c, d and 2 more"),
        ("base-tensorrt", {"tensorrt": ("/opt/libnvinfer.so.10",)}, "/opt/libnvinfer.so.10"),
        ("base-pip", {"externally_managed": "/usr/lib/python3.11/EXTERNALLY-MANAGED"}, "EXTERNALLY-MANAGED"),
        ("base-entrypoint", {"hands_over": False}, "did not run"),
    ],
)
def test_what_was_seen_in_it(matrix: Matrix, name: str, found: dict[str, Any], says: str) -> None:
    check = of_content(name, matrix, survey=Survey(**found))
    assert (check.status, says in check.found) == ("warning", True), check
    assert check.remedy


def test_without_python_the_other_name_of_it_is_told() -> None:
    assert "RUN ln -s" in python_absent("not found", "3.12.3").remedy
    assert "install Python" in python_absent("not found", "").remedy


def test_the_cells_are_those_of_its_torch_and_python(matrix: Matrix) -> None:
    found = carried(FITTING, matrix)
    assert {cell.torch for cell in found.cells} == {"2.9.1"}
    assert {cell.cuda.partition(".")[0] for cell in found.cells} == {"12"}
    assert {"blackwell", "ampere"} <= {cell.arch for cell in found.cells}
    assert found.against["torch-cuda-major"] > 0
    assert cells_check(found).status == "passed"


def test_an_older_cuda_of_torch_carries_no_blackwell(matrix: Matrix) -> None:
    older = carried(FITTING.model_copy(update={"torch": "2.9.1+cu126", "cuda": "12.6"}), matrix)
    assert "blackwell" not in {cell.arch for cell in older.cells}
    assert "blackwell-needs-torch-cu128" in older.because


@pytest.mark.parametrize("found", [{"torch": "", "no_torch": "x"}, {"python": "3.7.1"}, {"glibc": ""}])
def test_what_fits_no_cell_fails(matrix: Matrix, found: dict[str, Any]) -> None:
    none = carried(FITTING.model_copy(update=found), matrix)
    assert none.cells == ()
    assert none.against
    assert cells_check(none).status == "failed"
    assert cells_check(Carried(())).status == "failed"
