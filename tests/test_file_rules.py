"""File rules make cuts of a cell's wheels: by version, by CUDA's major, by architecture, by variant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from ruamel.yaml import YAML

from tests.conftest import PROJECT
from trtforge.cell_cuts import back_cuts, base_cuts, globs, own_cuts
from trtforge.cells import Cell, Cells
from trtforge.errors import MatrixError
from trtforge.file_rules import FileRule, cuts, given_back
from trtforge.index.pins import Installed
from trtforge.layers.cut import Cut, LeftOut
from trtforge.matrix import Matrix, load_matrix

if TYPE_CHECKING:
    from pathlib import Path


def rule(name: str = "some", **says: object) -> FileRule:
    known = {"packages": ["demo"], "drop": ["*.a"], "because": "b", "source": "s", "saves": "1 MB"}
    return FileRule.model_validate({"id": name, **known, **says})


def cut_of(cut: Cut, *members: str) -> set[str]:
    return {member for member in members if not cut.installs(member)}


OTHERS = rule(
    "others",
    packages=["tensorrt-cu{cuda_major}-libs"],
    versions=">=10.16",
    drop=["libs/res_sm*.so.*"],
    keep=["libs/res_sm{sm}.so.*"],
)
FILES = [f"libs/res_sm{sm}.so.10.16.1" for sm in ("75", "80", "86", "89", "90", "100", "120")]
FULL = Installed(name="tensorrt-cu12-libs", version="10.16.1.11")


@pytest.mark.parametrize(
    ("sms", "kept"),
    [(["80", "86"], {"80", "86"}), (["90"], {"90"}), (["121"], {"120"}), (["103", "120"], {"100", "120"})],
)
def test_an_image_keeps_the_files_of_its_own_gpus(sms: list[str], kept: set[str]) -> None:
    family = {"121": "120", "103": "100"}
    found = cuts([OTHERS], [FULL], "12", sms, family)
    gone = cut_of(found[FULL.name], *FILES, "libs/res_ptx.so.10.16.1", "libs/libnvinfer.so.10")
    assert gone == {name for name in FILES if name.split("_sm")[1].split(".")[0] not in kept}


@pytest.mark.parametrize(
    "pin",
    [
        Installed(name=FULL.name, version="10.13.3.9"),
        Installed(name="tensorrt-cu13-libs", version="10.16.1.11"),
    ],
)
def test_another_version_and_another_cuda_are_not_touched(pin: Installed) -> None:
    assert cuts([OTHERS], [pin], "12", ["80"]) == {}


def test_files_cannot_be_told_apart_by_gpu_in_an_image_for_all() -> None:
    with pytest.raises(MatrixError) as caught:
        cuts([OTHERS], [FULL], "12")
    assert "others" in caught.value.problem


def test_what_a_variant_gets_back_no_other_does() -> None:
    headers, static = rule("headers", drop=["*.h"], gives_back=["devel"]), rule("static")
    pins = [Installed(name="demo", version="1"), Installed(name="whole", version="1")]
    assert cuts([headers, static], pins, "12")["demo"].left_out == (
        LeftOut("headers", ("*.h",)),
        LeftOut("static", ("*.a",)),
    )
    assert given_back([headers, static], pins, "runtime", "12") == {}
    back = given_back([headers, static], pins, "devel", "12")
    assert back == {"demo": Cut((LeftOut("static", ("*.a",)),), gives_back=(LeftOut("headers", ("*.h",)),))}


@given(st.lists(st.sampled_from(["a.h", "b.a", "c.so", "d/e.h"]), unique=True), st.data())
def test_each_file_is_in_an_image_or_in_what_its_variant_adds_or_left_out(
    members: list[str], data: st.DataObject
) -> None:
    rules = data.draw(
        st.lists(
            st.builds(
                rule,
                st.uuids().map(str),
                drop=st.lists(st.sampled_from(["*.h", "*.a", "d/*", "c*"]), min_size=1, unique=True),
                gives_back=st.sampled_from([[], ["devel"]]),
            ),
            max_size=3,
        )
    )
    pin = Installed(name="demo", version="1")
    lower = cuts(rules, [pin], "12").get("demo", Cut())
    upper = given_back(rules, [pin], "devel", "12").get("demo")
    for member in members:
        owners = [one for one in rules if one.left_out((), {}).names(member)]
        assert lower.installs(member) == (not owners)
        added = bool(upper and upper.installs(member) and upper.holds(member))
        assert added == (bool(owners) and all("devel" in one.gives_back for one in owners))


@pytest.mark.parametrize(
    "says",
    [
        {"versions": "12 or so"},
        {"drop": []},
        {"drop": ["*_sm{sm}.so"]},
        {"packages": ["demo-{torch}"]},
        {"packages": []},
        {"keeps": ["*"]},
    ],
)
def test_a_rule_that_says_nothing_valid_is_refused(says: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        rule(**says)


def test_the_matrix_refuses_a_rule_twice_and_an_unknown_variant() -> None:
    told = YAML(typ="safe").load(PROJECT / "matrix.yaml")
    for files in ([told["files"][0]] * 2, [told["files"][0] | {"gives_back": ["nightly"]}]):
        with pytest.raises(ValidationError, match="files: "):
            Matrix.model_validate(told | {"files": files})


def test_rules_of_the_matrix_name_their_source_and_what_they_save(matrix: Matrix) -> None:
    assert matrix.files
    for one in matrix.files:
        assert one.because
        assert one.source
        assert "MB" in one.saves or "GB" in one.saves


def cell_of(cells: Cells, **request: str) -> Cell:
    (choice,) = cells.choose({axis: (value,) for axis, value in request.items()})
    return choice.cell


def test_a_slim_image_also_keeps_only_its_gpus_code_in_torch_alone(cells: Cells) -> None:
    pins = [
        Installed(name="torch", version="2.9.1"),
        Installed(name="torchvision", version="0.24.1"),
        Installed(name="nvidia-cublas-cu12", version="12.8.4.1"),
    ]
    every, slim = (
        base_cuts(cells, cell_of(cells, cuda="12.1", arch="ampere", tensorrt="rtx", code=code), pins)
        for code in ("all", "slim")
    )
    assert {name: cut.sm for name, cut in slim.items() if cut.sm} == {"torch": ("80", "86")}
    assert not any(cut.sm for cut in every.values())
    assert {name: cut.left_out for name, cut in slim.items()} == {
        name: cut.left_out for name, cut in every.items()
    }


def test_full_tensorrt_keeps_what_its_builder_needs(cells: Cells) -> None:
    pins = [Installed(name="tensorrt-cu12-libs", version="10.16.1.11")]
    folder = "tensorrt_libs/libnvinfer_builder_resource"
    names = [
        f"{folder}_{part}.so.10.16.1"
        for part in ("sm75", "sm80", "sm86", "sm90", "ptx", "win_sm80", "win_ptx")
    ]
    gone = {}
    for arch in ("ampere", "hopper"):
        cell = cell_of(cells, cuda="12.8", arch=arch, tensorrt="10.16.1.11")
        cut = own_cuts(cells, cell, pins)["tensorrt-cu12-libs"]
        gone[arch] = {name.removeprefix(f"{folder}_").split(".")[0] for name in cut_of(cut, *names)}
    assert gone == {
        "ampere": {"sm75", "sm90", "win_sm80", "win_ptx"},
        "hopper": {"sm75", "sm80", "sm86", "win_sm80", "win_ptx"},
    }


def test_the_lock_tells_globs_of_what_stays_too(cells: Cells) -> None:
    cell = cell_of(cells, cuda="12.8", arch="hopper", tensorrt="10.16.1.11")
    listed = globs(
        own_cuts(
            cells,
            cell,
            [Installed(name="tensorrt-cu12-libs", version="10.16.1.11"), Installed(name="pip", version="1")],
        )
    )
    assert listed == {
        "tensorrt-cu12-libs": (
            "tensorrt_libs/libnvinfer_builder_resource_sm*.so.*",
            "tensorrt_libs/libnvinfer_builder_resource_win*",
            "!tensorrt_libs/libnvinfer_builder_resource_sm90.so.*",
        )
    }


def test_a_runtime_image_gets_nothing_back(cells: Cells) -> None:
    cell = cell_of(cells, cuda="12.1", arch="ampere", tensorrt="rtx")
    assert back_cuts(cells, cell, [Installed(name="torch", version="2.9.1")], []) == {}


def test_a_rule_by_gpu_for_a_wheel_of_the_shared_image_is_refused(matrix: Matrix) -> None:
    wrong = rule("wrong", packages=["torch"], keep=["*_sm{sm}.so"])
    cells = Cells(matrix.model_copy(update={"files": [wrong]}))
    cell = cell_of(cells, cuda="12.1", arch="ampere", tensorrt="rtx")
    with pytest.raises(MatrixError):
        base_cuts(cells, cell, [Installed(name="torch", version="2.9.1")])


def test_the_schema_places_an_error_in_the_file(tmp_path: Path) -> None:
    text = (PROJECT / "matrix.yaml").read_text(encoding="utf-8")
    file = tmp_path / "matrix.yaml"
    file.write_text(text.replace('versions: ">=11.4"', "versions: about 11"), encoding="utf-8")
    with pytest.raises(MatrixError) as caught:
        load_matrix(file)
    assert "versions" in str(caught.value.fact("at"))
