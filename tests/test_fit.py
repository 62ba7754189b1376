"""The image for a machine: told as stories of real drivers and GPUs, and as properties of any catalogue."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from packaging.version import Version

from trtforge.errors import EnvironmentLack, ForgeError, RequestError
from trtforge.fit import best_fit
from trtforge.machine import Gpu, Machine
from trtforge.oci import digest_of
from trtforge.publishing.entry import Entry, dated_tag

if TYPE_CHECKING:
    from trtforge.cells import Cells
    from trtforge.matrix import Matrix

DAY = date(2026, 11, 23)
NAMES = {"70": "V100", "75": "T4", "80": "A100", "86": "A10", "89": "L4", "90": "H100", "120": "RTX 5090"}


def entry(cells: Cells, day: date = DAY, **request: str) -> Entry:
    """What the catalogue says of the cell that `request` chooses."""
    wanted = {"tensorrt": "10.16.1.11", **request}
    (choice,) = cells.choose({axis: (value,) for axis, value in wanted.items()})
    exact = cells.tag(choice.cell)
    return Entry(
        image="tensorrt",
        tags=(exact, cells.short_tag(choice.cell)),
        dated=dated_tag(exact, day),
        digest=digest_of(f"{exact}{day}".encode()),
        recipe_key="key",
        day=day,
        axes=choice.cell.axes(),
        sm=cells.sm(choice.cell),
        driver=cells.matrix.axes.cuda[choice.cell.cuda].driver,
        size=1,
        unpacked=2,
    )


def machine(driver: str, *sms: str) -> Machine:
    return Machine(driver, tuple(Gpu(index, NAMES[sm], sm) for index, sm in enumerate(sms)))


def test_of_two_alike_the_one_without_code_of_other_gpus_is_taken(cells: Cells, matrix: Matrix) -> None:
    published = [entry(cells, cuda="12.1", arch="ampere", code=code) for code in ("slim", "all")]
    assert best_fit(published, machine("535.104.05", "86"), matrix).entry.axes["code"] == "slim"
    assert best_fit(published[::-1], machine("535.104.05", "86"), matrix).entry.axes["code"] == "slim"


def test_a_driver_of_12_2_takes_the_cuda_that_is_no_newer(cells: Cells, matrix: Matrix) -> None:
    published = [entry(cells, cuda=cuda, arch="ampere") for cuda in ("12.1", "12.8", "13.0")]
    fit = best_fit(published, machine("535.104.05", "86"), matrix)
    assert (fit.entry.axes["cuda"], fit.native) == ("12.1", True)
    assert fit.why == (
        "GPU 0, A10 (compute capability 8.6): the image is for 8.0, 8.6",
        "CUDA 12.1: driver 535.104.05 is new enough for it by itself",
        "torch 2.9.1, TensorRT 10.16.1.11, published 2026-11-23: the newest of the 2 that fit, "
        "of 3 published",
    )


def test_a_driver_older_than_every_cuda_takes_the_oldest_of_its_major(cells: Cells, matrix: Matrix) -> None:
    published = [entry(cells, cuda=cuda, arch="ampere") for cuda in ("12.8", "12.1", "12.4")]
    fit = best_fit(published, machine("525.60.13", "80"), matrix)
    assert (fit.entry.axes["cuda"], fit.native) == ("12.1", False)
    assert "runs every CUDA 12.x (525 or newer)" in fit.why[1]


def test_a_new_driver_takes_the_newest_cuda(cells: Cells, matrix: Matrix) -> None:
    published = [entry(cells, cuda=cuda, arch="ampere") for cuda in ("12.1", "13.0", "12.8")]
    assert best_fit(published, machine("580.95.05", "86"), matrix).entry.axes["cuda"] == "13.0"


def test_the_full_tensorrt_comes_before_rtx_and_a_newer_before_an_older(cells: Cells, matrix: Matrix) -> None:
    published = [
        entry(cells, cuda="12.8", arch="ampere", tensorrt=version)
        for version in ("1.7.1.116", "10.13.3.9.post1", "10.16.1.11")
    ]
    a10 = machine("580.95.05", "86")
    assert best_fit(published, a10, matrix).entry.axes["tensorrt"] == "10.16.1.11"
    assert best_fit(published[:2], a10, matrix).entry.axes["tensorrt"] == "10.13.3.9.post1"
    assert best_fit(published[:1], a10, matrix).why[2].endswith("the only one that fits, of 1 published")


def test_torch_weighs_more_than_cuda_and_the_default_system_more_than_torch(
    cells: Cells, matrix: Matrix
) -> None:
    old = entry(cells, cuda="11.8", arch="turing", tensorrt="10.13.0.35")
    new = entry(cells, cuda="12.8", arch="turing")
    other = entry(cells, cuda="12.8", arch="turing", os="debian13")
    t4 = machine("525.60.13", "75")
    assert best_fit([old, new], t4, matrix).entry == new
    assert best_fit([old, other], t4, matrix).entry == old


def test_of_one_cell_the_last_published_is_taken(cells: Cells, matrix: Matrix) -> None:
    days = [entry(cells, date(2026, 11, day), cuda="12.8", arch="ampere") for day in (21, 23, 22)]
    assert best_fit(days, machine("580.95.05", "86"), matrix).entry.day == DAY


def test_a_driver_that_is_too_old_is_told_which_would_do(cells: Cells, matrix: Matrix) -> None:
    published = [entry(cells, cuda=cuda, arch="ampere") for cuda in ("13.0", "12.8")]
    with pytest.raises(EnvironmentLack, match=r"driver 470\.82\.01 is too old") as error:
        best_fit(published, machine("470.82.01", "86"), matrix)
    assert error.value.fact("would do") == "driver 525 or newer, with 10.16.1.11-pt2.9.1-cu12.8-ampere"
    assert "525" in (error.value.fact("next") or "")


def test_a_gpu_that_nothing_is_for_is_named(cells: Cells, matrix: Matrix) -> None:
    published = [entry(cells, cuda="12.8", arch="ampere")]
    with pytest.raises(
        RequestError, match=r"no published image is for GPU 1, V100 \(compute capability 7\.0\)"
    ) as e:
        best_fit(published, machine("580.95.05", "86", "70"), matrix)
    assert e.value.fact("published") == "for 8.0, 8.6"
    assert "for GPU 0, A10" in (e.value.fact("would do") or "")
    with pytest.raises(RequestError) as e:
        best_fit([], machine("580.95.05", "86"), matrix)
    assert e.value.fact("published") == "nothing"


def test_gpus_that_need_different_images_are_told_which(cells: Cells, matrix: Matrix) -> None:
    published = [entry(cells, cuda="12.8", arch=arch) for arch in ("ampere", "hopper")]
    with pytest.raises(RequestError, match="all of this machine's GPUs") as error:
        best_fit(published, machine("580.95.05", "86", "90"), matrix)
    assert [text for label, text in error.value.facts if label == "would do"] == [
        "for GPU 0, A10 (compute capability 8.6): 10.16.1.11-pt2.9.1-cu12.8-ampere",
        "for GPU 1, H100 (compute capability 9.0): 10.16.1.11-pt2.9.1-cu12.8-hopper",
    ]
    assert best_fit(published, machine("580.95.05", "86", "80"), matrix).entry == published[0]


DRIVERS = ["450.51", "470.82.01", "525.60.13", "535.104.05", "550.54.15", "575.57.08", "580.95.05"]
MACHINES = st.builds(
    lambda driver, sms: machine(driver, *sms),
    st.sampled_from(DRIVERS),
    st.lists(st.sampled_from(list(NAMES)), min_size=1, max_size=3),
)


@pytest.fixture(scope="module")
def every(cells: Cells) -> list[Entry]:
    """All valid cells of the default system and one more, published on different days."""
    valid = [verdict.cell for verdict in cells.every() if not verdict.broken]
    axes = [one.axes() | {"torch": f"{one.torch}+{one.build}"} for one in valid]
    return [
        entry(cells, date(2026, 11, 1 + number % 28), **{k: v for k, v in one.items() if k != "build"})
        for number, one in enumerate(axes)
        if one["os"] in ("debian12", "ubuntu24.04")
    ]


@given(data=st.data(), here=MACHINES)
def test_what_is_chosen_fits_and_nothing_fits_where_nothing_is_chosen(
    data: st.DataObject, here: Machine, every: list[Entry], matrix: Matrix
) -> None:
    published = data.draw(st.lists(st.sampled_from(every), max_size=20))
    driver = Version(here.driver)
    fitting = [
        one
        for one in published
        if {gpu.sm for gpu in here.gpus} <= set(one.sm) and driver >= Version(one.driver)
    ]
    if not fitting:
        with pytest.raises((RequestError, EnvironmentLack)) as error:
            best_fit(published, here, matrix)
        assert error.value.fact("next")
        return
    fit = best_fit(published, here, matrix)
    assert fit.entry in fitting
    assert fit.native == (driver >= Version(matrix.axes.cuda[fit.entry.axes["cuda"]].toolkit_driver))


@given(data=st.data(), here=MACHINES)
def test_the_choice_depends_on_what_is_published_alone(
    data: st.DataObject, here: Machine, every: list[Entry], matrix: Matrix
) -> None:
    """Not on the order of the entries; and without the others it is the same."""
    published = data.draw(st.lists(st.sampled_from(every), min_size=1, max_size=20))
    shuffled = data.draw(st.permutations(published))
    try:
        chosen = best_fit(published, here, matrix).entry
    except ForgeError as error:
        refused = error
    else:
        assert best_fit(shuffled, here, matrix).entry == chosen
        assert best_fit([chosen], here, matrix).entry == chosen
        return
    with pytest.raises(type(refused)) as again:
        best_fit(shuffled, here, matrix)
    assert again.value.problem == refused.problem


@given(data=st.data(), here=MACHINES, newer=st.sampled_from(DRIVERS))
def test_a_newer_driver_never_loses_an_image(
    data: st.DataObject, here: Machine, newer: str, every: list[Entry], matrix: Matrix
) -> None:
    assume(Version(newer) >= Version(here.driver))
    published = data.draw(st.lists(st.sampled_from(every), min_size=1, max_size=20))
    try:
        chosen = best_fit(published, here, matrix).entry
    except ForgeError:
        return
    updated = best_fit(published, Machine(newer, here.gpus), matrix).entry
    assert (
        Version(updated.axes["torch"]) >= Version(chosen.axes["torch"])
        or updated.axes["os"] != chosen.axes["os"]
    )
