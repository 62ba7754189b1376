"""Pins are found for the image, not for the host, and every package is asked where it lives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.index.test_sdist import careless_backend, careless_sdist
from tests.loopback_index import (
    LoopbackIndex,
    Status,
    ask_only,
    loopback_index,
    sha256_of,
    tiny_sdist,
    tiny_wheel,
)
from trtforge.errors import IndexUnreachable, RequestError, ResolutionError
from trtforge.index.pins import Installed, Pin, Raisable
from trtforge.index.resolve import Need, Sources, index_answers, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

DEAD = "http://127.0.0.1:9/simple/"  # the discard port: nothing listens there


@pytest.fixture
def default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackIndex]:
    with loopback_index(tmp_path / "default") as index:
        ask_only(index, monkeypatch, tmp_path)
        yield index


@pytest.fixture
def nvidia(tmp_path: Path) -> Iterator[LoopbackIndex]:
    with loopback_index(tmp_path / "nvidia") as index:
        yield index


def pins(needs: Sequence[str | Need], sources: Sources | None = None, **how: Any) -> dict[str, Pin]:
    asked = [need if isinstance(need, Need) else Need(need) for need in needs]
    found = resolve(
        asked,
        constraints=how.get("constraints", ()),
        python=how.get("python", "3.11"),
        platform=how.get("platform", "x86_64-manylinux_2_28"),
        sources=sources or Sources(),
    )
    assert [pin.name for pin in found] == sorted(pin.name for pin in found)
    return {pin.name: pin for pin in found}


def test_only_routed_packages_are_asked_of_an_extra_index(
    default: LoopbackIndex, nvidia: LoopbackIndex
) -> None:
    tiny_wheel(default.folder, "tensorrt-cu12", "10.13", requires=["tensorrt-cu12-libs==10.13", "helper"])
    tiny_wheel(default.folder, "helper", "1.0")
    stub = tiny_sdist(default.folder, "tensorrt-cu12-libs", "10.13", {"setup.py": "raise SystemExit('stub')"})
    real = tiny_wheel(nvidia.folder, "tensorrt-cu12-libs", "10.13", tag="py2.py3-none-manylinux_2_28_x86_64")
    tiny_wheel(nvidia.folder, "helper", "6.6.6")

    found = pins(
        ["tensorrt-cu12==10.13", Need("tensorrt-cu12-libs==10.13", index="nvidia", wheel_only=True)],
        Sources(indexes={"nvidia": nvidia.url}),
    )

    assert found["tensorrt-cu12-libs"] == Pin(
        name="tensorrt-cu12-libs",
        version="10.13",
        filename=real.name,
        sha256=sha256_of(real),
        size=real.stat().st_size,
        index="nvidia",
    )
    assert (found["helper"].version, found["helper"].index) == ("1.0", "default")
    assert nvidia.projects_asked == {"tensorrt-cu12-libs"}
    assert default.projects_asked == {"tensorrt-cu12", "helper"}
    assert f"/files/{stub.name}" not in default.asked


def test_a_stub_is_refused_and_never_built(default: LoopbackIndex, tmp_path: Path) -> None:
    built = tmp_path / "built"
    setup = f"open({str(built)!r}, 'w')"
    tiny_sdist(default.folder, "tensorrt-cu12-libs", "10.13", {"setup.py": setup})
    with pytest.raises(ResolutionError) as refusal:
        pins([Need("tensorrt-cu12-libs==10.13", wheel_only=True)])
    assert (refusal.value.kind, refusal.value.packages) == ("missing", ("tensorrt-cu12-libs==10.13",))
    assert "must not be built" in (refusal.value.fact("next") or "")
    assert not built.exists()


def test_the_wheel_is_chosen_for_the_images_python(default: LoopbackIndex) -> None:
    for tag in (
        "cp39-abi3-manylinux_2_17_x86_64",
        "cp313-cp313-manylinux_2_17_x86_64",
        "cp313-cp313-manylinux_2_28_x86_64",
        "cp313-cp313-manylinux_2_34_x86_64",
        "cp311-cp311-manylinux_2_28_x86_64",
        "py3-none-any",
    ):
        tiny_wheel(default.folder, "native", "1.0", tag=tag)
    tiny_wheel(default.folder, "app", "1.0", requires=["old; python_version < '3.13'", "native"])
    chosen = pins(["app"], python="3.13")
    assert chosen["native"].filename == "native-1.0-cp313-cp313-manylinux_2_28_x86_64.whl"
    assert set(chosen) == {"app", "native"}, "markers are the image's too"
    arm = pins(["native"], platform="aarch64-manylinux_2_35")
    assert arm["native"].filename == "native-1.0-py3-none-any.whl"


def test_a_hash_the_index_leaves_out_is_taken_from_the_file(default: LoopbackIndex) -> None:
    default.hashes = False
    wheel = tiny_wheel(default.folder, "plain", "1.0")
    assert pins(["plain"])["plain"].sha256 == sha256_of(wheel)


def test_a_constraint_holds_and_keeps_its_pin(default: LoopbackIndex) -> None:
    for version in ("1.0", "2.0"):
        tiny_wheel(default.folder, "numpy", version)
    tiny_wheel(default.folder, "app", "1.0", requires=["numpy"])
    (default.folder / "unasked-1.0-py3-none-any.whl").write_bytes(b"")
    held = pins(["numpy==1.0"])["numpy"].model_copy(update={"size": 7})
    unasked = Pin(name="unasked", version="1.0", filename="unasked-1.0-py3-none-any.whl", sha256=held.sha256)
    found = pins(["app"], constraints=[held, unasked])
    assert found == {"app": found["app"], "numpy": held}


def test_a_pin_that_may_be_raised_is_raised_within_its_range_and_kept_where_nothing_newer_fits(
    default: LoopbackIndex,
) -> None:
    for version in ("1.0", "1.1", "2.0"):
        tiny_wheel(default.folder, "numpy", version)
    tiny_wheel(default.folder, "app", "1.0", requires=["numpy"])
    old = pins(["numpy==1.0"])["numpy"].model_copy(update={"size": 7})
    for within, version in [(">=1.0,<2", "1.1"), (">=1.0", "2.0")]:
        assert pins(["app"], constraints=[Raisable(old, within)])["numpy"].version == version
    assert pins(["app"], constraints=[Raisable(old, ">=1.0,<1.1")])["numpy"] == old


def test_a_constraint_from_another_python_gives_the_version_not_the_file(default: LoopbackIndex) -> None:
    for tag in ("cp311-cp311-manylinux_2_28_x86_64", "cp312-cp312-manylinux_2_28_x86_64"):
        tiny_wheel(default.folder, "numpy", "1.0", tag=tag)
    tiny_wheel(default.folder, "numpy", "2.0")
    held = pins(["numpy==1.0"], python="3.11")["numpy"]
    found = pins(["numpy"], python="3.12", constraints=[held])["numpy"]
    assert found.filename == "numpy-1.0-cp312-cp312-manylinux_2_28_x86_64.whl"


def test_a_package_with_source_only_is_built_and_pinned_by_what_was_built(
    default: LoopbackIndex,
) -> None:
    careless_backend(default.folder, "1.0")
    sdist = careless_sdist(default.folder)
    sources = Sources(build=("careless-backend==1.0",))
    pin = pins(["careless"], sources)["careless"]
    assert pin.filename == "careless-1.0-py3-none-any.whl"
    assert pin.sdist is not None
    assert (pin.sdist.filename, pin.sdist.sha256) == (sdist.name, sha256_of(sdist))
    assert pin.sdist.build == ("careless-backend==1.0",)
    assert pins(["careless"], sources)["careless"] == pin


def test_the_wheelhouse_comes_first(default: LoopbackIndex, nvidia: LoopbackIndex, tmp_path: Path) -> None:
    tiny_wheel(default.folder, "plain", "1.0")
    house = tmp_path / "wheelhouse"
    own = tiny_wheel(house, "plain", "1.0", files={"plain.py": b"own = True\n"})
    libs = tiny_wheel(house, "tensorrt-cu12-libs", "10.13", tag="py3-none-manylinux_2_28_x86_64")
    tiny_wheel(house, "tensorrt-cu12-bindings", "10.13", tag="cp39-cp39-manylinux_2_28_x86_64")
    bindings = tiny_wheel(
        nvidia.folder, "tensorrt-cu12-bindings", "10.13", tag="cp311-cp311-manylinux_2_28_x86_64"
    )
    found = pins(
        [
            "plain==1.0",
            Need("tensorrt-cu12-libs==10.13", index="nvidia", wheel_only=True),
            Need("tensorrt-cu12-bindings==10.13", index="nvidia"),
        ],
        Sources(indexes={"nvidia": nvidia.url}, wheelhouse=house),
    )
    assert found["plain"].sha256 == sha256_of(own)
    assert (found["tensorrt-cu12-libs"].sha256, found["tensorrt-cu12-libs"].index) == (
        sha256_of(libs),
        "nvidia",
    )
    assert found["tensorrt-cu12-bindings"].sha256 == sha256_of(bindings), "the wheelhouse's does not fit"
    assert nvidia.projects_asked == {"tensorrt-cu12-bindings"}


def test_offline_asks_nobody(default: LoopbackIndex, nvidia: LoopbackIndex, tmp_path: Path) -> None:
    house = tmp_path / "wheelhouse"
    tiny_wheel(house, "tensorrt-cu12", "10.13", requires=["tensorrt-cu12-libs"])
    tiny_wheel(house, "tensorrt-cu12-libs", "10.13", tag="py3-none-manylinux_2_28_x86_64")
    needs = [Need("tensorrt-cu12"), Need("tensorrt-cu12-libs", index="nvidia", wheel_only=True)]
    offline = Sources(indexes={"nvidia": nvidia.url}, wheelhouse=house, offline=True)
    assert set(pins(needs, offline)) == {"tensorrt-cu12", "tensorrt-cu12-libs"}
    assert default.asked == nvidia.asked == []


def test_an_index_that_is_down_is_named(default: LoopbackIndex) -> None:
    tiny_wheel(default.folder, "plain", "1.0")
    needs = [Need("plain"), Need("tensorrt-cu12-libs==10.13", index="nvidia")]
    with pytest.raises(IndexUnreachable) as failure:
        pins(needs, Sources(indexes={"nvidia": DEAD, "pytorch": "http://127.0.0.1:9/whl/"}))
    assert (failure.value.index, failure.value.supplies) == ("nvidia", ("tensorrt-cu12-libs==10.13",))
    assert "Connection refused" in failure.value.reason


@pytest.mark.usefixtures("default")
def test_the_default_index_being_down_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", DEAD)
    with pytest.raises(IndexUnreachable) as failure:
        pins(["plain"])
    assert (failure.value.index, failure.value.supplies) == ("default", ("plain",))


@pytest.mark.usefixtures("default")
def test_an_index_that_wants_a_password_is_named_and_gets_it(nvidia: LoopbackIndex) -> None:
    nvidia.password = "s3cret"
    tiny_wheel(nvidia.folder, "libs", "1.0")
    with pytest.raises(IndexUnreachable) as failure:
        pins([Need("libs", index="nvidia")], Sources(indexes={"nvidia": nvidia.url}))
    assert failure.value.index == "nvidia"
    assert "401" in failure.value.reason
    found = pins([Need("libs", index="nvidia")], Sources(indexes={"nvidia": nvidia.with_credentials()}))
    assert found["libs"].size, "our own requests carry the password too"
    with pytest.raises(ResolutionError) as refusal:
        pins([Need("libs==2", index="nvidia")], Sources(indexes={"nvidia": nvidia.with_credentials()}))
    assert "s3cret" not in str(refusal.value.facts)


def test_a_missing_version_and_a_conflict_are_told_apart(default: LoopbackIndex) -> None:
    tiny_wheel(default.folder, "one", "1.0", requires=["shared<2"])
    tiny_wheel(default.folder, "two", "1.0", requires=["shared>=2"])
    for version in ("1.0", "2.0"):
        tiny_wheel(default.folder, "shared", version)
    tiny_wheel(default.folder, "windows", "1.0", tag="cp311-cp311-win_amd64")

    with pytest.raises(ResolutionError) as refusal:
        pins(["one==1.0", "two==9.9", "nowhere", "windows"])
    assert refusal.value.kind == "missing"
    assert refusal.value.packages == ("two==9.9", "nowhere", "windows")

    with pytest.raises(ResolutionError) as refusal:
        pins(["one==1.0", "two==1.0"])
    assert refusal.value.kind == "conflict"
    assert "shared<2" in refusal.value.explanation
    assert "you ask for" in refusal.value.explanation


def test_a_source_that_does_not_build_is_its_own_kind_of_failure(default: LoopbackIndex) -> None:
    tiny_sdist(
        default.folder, "broken", "1.0", {"pyproject.toml": '[build-system]\nrequires = ["nowhere"]\n'}
    )
    with pytest.raises(ResolutionError) as refusal:
        pins(["broken"])
    assert (refusal.value.kind, refusal.value.packages) == ("build", ("broken==1.0",))


def test_an_index_without_an_address_is_a_wrong_request() -> None:
    with pytest.raises(RequestError, match="'nvidia' has no address"):
        pins([Need("libs", index="nvidia")], Sources(indexes={"pytorch": DEAD}))


def test_whether_an_index_answers(default: LoopbackIndex) -> None:
    tiny_wheel(default.folder, "plain", "1.0")
    assert index_answers(default.url + "plain/", 5) is None
    assert index_answers(default.url + "absent/", 5) == "HTTP 404 Not Found"
    assert "refused" in (index_answers(DEAD, 5) or "")
    default.password = "s3cret"
    assert index_answers(default.url + "plain/", 5) == "HTTP 401 Unauthorized"
    known = Sources(indexes={"nvidia": default.with_credentials()})
    assert index_answers(default.url + "plain/", 5, known) is None


def test_a_server_error_is_an_index_that_does_not_answer(default: LoopbackIndex) -> None:
    wheel = tiny_wheel(default.folder, "plain", "1.0")
    default.faults[wheel.name] = [Status(503)] * 9
    with pytest.raises(IndexUnreachable) as failure:
        pins(["plain"])
    assert "503" in failure.value.reason


def test_what_the_image_has_installed_stays_and_is_not_returned(default: LoopbackIndex) -> None:
    tiny_wheel(default.folder, "onnx", "1.0", requires=["numpy>=1"])
    for version in ("1.0", "2.0"):
        tiny_wheel(default.folder, "numpy", version)
    assert pins(["onnx"]).keys() == {"onnx", "numpy"}
    assert pins(["onnx"], constraints=[Installed("numpy", "1.0"), Installed("other", "7")]).keys() == {"onnx"}


def test_a_need_that_contradicts_what_is_installed_says_so(default: LoopbackIndex) -> None:
    tiny_wheel(default.folder, "onnx", "1.0", requires=["numpy>=2"])
    for version in ("1.0", "2.0"):
        tiny_wheel(default.folder, "numpy", version)
    with pytest.raises(ResolutionError) as caught:
        pins(["onnx==1.0"], constraints=[Installed("numpy", "1.0")])
    assert caught.value.kind == "conflict"
    assert "numpy==1.0" in caught.value.explanation
