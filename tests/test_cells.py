from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import PROJECT
from trtforge.axes import AXES
from trtforge.cells import Cell, Cells, Choice
from trtforge.errors import CompatibilityError, EnvironmentLack, RequestError
from trtforge.matrix import load_matrix

OURS = Cells(load_matrix(PROJECT / "matrix.yaml"))


def ask(cells: Cells, full: bool = False, **request: str) -> list[Choice]:
    def available(cell: Cell) -> str | None:
        return None if full or cells.flavour(cell) == "tensorrt-rtx" else "NVIDIA's index does not answer"

    return cells.choose({axis: tuple(values.split(",")) for axis, values in request.items()}, available)


def test_the_command_we_are_known_by(cells: Cells) -> None:
    (choice,) = ask(cells, cuda="12.1", arch="ampere")
    assert cells.tag(choice.cell) == "rtx1.7.1.116-pt2.9.1-cu12.1-ampere"
    assert cells.short_tag(choice.cell) == "cu12.1-ampere"
    assert cells.base_tag(choice.cell) == "2.9.1-cu12.1-debian12"
    assert (choice.cell.build, cells.sm(choice.cell)) == ("cu128", ("80", "86"))
    assert choice.passed_over == ("NVIDIA's index does not answer",)


def test_the_full_library_is_preferred_where_it_can_be_had(cells: Cells) -> None:
    (choice,) = ask(cells, full=True, cuda="12.1", arch="ampere")
    assert cells.tag(choice.cell) == "10.16.1.11-pt2.9.1-cu12.1-ampere"


def test_a_flavour_that_was_asked_for_is_not_swapped(cells: Cells) -> None:
    (choice,) = ask(cells, cuda="12.1", arch="ampere", tensorrt="full")
    assert cells.flavour(choice.cell) == "tensorrt"


def test_cuda_11_8_is_the_legacy_cell(cells: Cells) -> None:
    (choice,) = ask(cells, full=True, cuda="11.8")
    assert (choice.cell.torch, choice.cell.build, choice.cell.tensorrt) == ("2.7.1", "cu118", "10.13.0.35")


def test_a_python_brings_the_os_that_has_it(cells: Cells) -> None:
    (choice,) = ask(cells, python="3.13")
    assert choice.cell.os == "debian13"


def test_a_torch_build_can_be_named(cells: Cells) -> None:
    (choice,) = ask(cells, torch="2.9.1+cu126", cuda="12.6")
    assert choice.cell.build == "cu126"
    assert cells.tag(choice.cell).startswith("rtx1.7.1.116-pt2.9.1_cu126-cu12.6")


def test_a_slim_cell_says_so_in_every_name_and_its_base_is_of_an_architecture(cells: Cells) -> None:
    (choice,) = ask(cells, cuda="12.1", arch="ada", code="slim")
    assert cells.tag(choice.cell) == "rtx1.7.1.116-pt2.9.1-cu12.1-ada-slim"
    assert cells.short_tag(choice.cell) == "cu12.1-ada-slim"
    assert cells.base_tag(choice.cell) == "2.9.1-cu12.1-debian12-ada-slim"
    assert cells.slim_sm(choice.cell) == ("89",)


def test_the_code_that_torch_keeps_is_the_architecture_s_whatever_tensorrt_targets(cells: Cells) -> None:
    (rtx,) = ask(cells, arch="blackwell", code="slim")
    (full,) = ask(cells, arch="blackwell", code="slim", tensorrt="full")
    assert cells.slim_sm(rtx.cell) == cells.slim_sm(full.cell) == ("100", "120")
    assert cells.base_tag(rtx.cell) == cells.base_tag(full.cell)


def test_lists_select_several_cells(cells: Cells) -> None:
    chosen = ask(cells, cuda="12.1,12.8", arch="ampere,turing")
    assert [cells.short_tag(choice.cell) for choice in chosen] == [
        "cu12.1-ampere", "cu12.1-turing", "cu12.8-ampere", "cu12.8-turing",
    ]  # fmt: skip


def test_blackwell_with_rtx_is_for_the_sm_that_both_know(cells: Cells) -> None:
    (choice,) = ask(cells, arch="blackwell")
    assert cells.sm(choice.cell) == ("120",)


@pytest.mark.parametrize(
    ("request_", "rule", "nearest"),
    [
        ({"cuda": "11.8", "torch": "2.9.1"}, "torch-cuda-major", ["--cuda 12.1", "--torch 2.7.1"]),
        ({"cuda": "12.6", "arch": "blackwell"}, "blackwell-needs-cuda-12.8", ["--cuda 12.8"]),
        ({"arch": "hopper", "tensorrt": "rtx"}, "rtx-has-no-hopper", ["--tensorrt full"]),
        ({"os": "ubuntu20.04"}, "os-python", ["--os ubuntu22.04"]),
        ({"code": "slim", "variant": "serve"}, "slim-is-of-torch", ["--code all", "--variant ssh"]),
        ({"cuda": "13.0", "arch": "volta"}, "volta-ends-with-cuda-12", ["--cuda 12.9", "--arch turing"]),
    ],
)
def test_a_contradiction_names_its_rule_and_what_is_near(
    cells: Cells, request_: dict[str, str], rule: str, nearest: list[str]
) -> None:
    with pytest.raises(CompatibilityError) as caught:
        ask(cells, full=False, **request_)
    assert caught.value.rule == rule
    hints = [text for label, text in caught.value.facts if label == "nearest"]
    for typed in nearest:
        assert any(hint.startswith(typed) for hint in hints), hints


def test_an_unknown_value_lists_the_known_ones(cells: Cells) -> None:
    with pytest.raises(RequestError) as caught:
        ask(cells, arch="kepler")
    assert "ampere" in (caught.value.fact("values") or "")


def test_nothing_that_can_be_had_is_the_environment_s_lack(cells: Cells) -> None:
    with pytest.raises(EnvironmentLack, match="no TensorRT"):
        ask(cells, arch="hopper")


VALID = [verdict.cell for verdict in OURS.every() if not verdict.broken]


@settings(deadline=None, max_examples=60)
@given(st.fixed_dictionaries({}, optional={
    axis: st.sampled_from(OURS.matrix.axes.values(axis)) for axis in AXES
}))  # fmt: skip
def test_a_request_gets_what_it_names_or_a_rule_that_forbids_it(request_: dict[str, str]) -> None:
    def named(cell: Cell) -> bool:
        return all(getattr(cell, axis) == value for axis, value in request_.items())

    if any(named(cell) for cell in VALID):
        (choice,) = ask(OURS, full=True, **request_)
        assert choice.cell in VALID
        assert named(choice.cell)
    else:
        with pytest.raises(CompatibilityError) as caught:
            ask(OURS, full=True, **request_)
        assert caught.value.rule in {rule.id for rule in OURS.matrix.rules}


def test_every_published_row_is_a_valid_cell(cells: Cells) -> None:
    rows = cells.matrix.publish
    names = [cells.name(choice.cell) for row in rows for choice in cells.choose(row.request())]
    assert "rtx1.7.1.116-pt2.9.1-cu12.1-ampere" in names
    assert len(names) == len(set(names))
