from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.published_factory import DAY, entry_of
from trtforge.publishing.catalogue import Catalogue
from trtforge.publishing.retention import aged, surplus

DAYS = [DAY - timedelta(days=number) for number in range(5)]


def test_the_newest_of_each_short_tag_stay() -> None:
    ampere = [entry_of("10-cu12.1-ampere", day) for day in DAYS]
    ada = [entry_of("10-cu12.1-ada", day) for day in DAYS[:2]]
    assert set_of(surplus(Catalogue(entries=(*ampere, *ada)), 3, ())) == set_of(ampere[3:])


def test_what_is_held_stays_with_what_it_stands_on() -> None:
    bases = [entry_of("2.9", day, image="pytorch-cuda") for day in DAYS]
    images = [
        entry_of("10-cu12.1-ampere", day).model_copy(update={"parent": base.digest})
        for day, base in zip(DAYS, bases, strict=True)
    ]
    catalogue = Catalogue(entries=(*bases, *images))
    gone = surplus(catalogue, 1, {images[3].digest})
    assert set_of(gone) == set_of([*bases[1:3], bases[4], *images[1:3], images[4]])


SERIES = st.lists(
    st.builds(
        entry_of,
        st.sampled_from(["a-x", "b-x", "a-y"]),
        st.sampled_from(DAYS),
        st.integers(1, 2),
        st.sampled_from(["", "same", "other"]),
    ),
    max_size=12,
    unique_by=lambda entry: entry.dated,
)


@given(SERIES, st.integers(1, 4), st.data())
def test_never_the_newest_nor_what_something_refers_to(
    entries: list[object], keep: int, data: st.DataObject
) -> None:
    found = Catalogue(entries=tuple(entries))  # type: ignore[arg-type]
    held = (
        data.draw(st.sets(st.sampled_from([entry.digest for entry in found.entries]))) if entries else set()
    )
    gone = surplus(found, keep, held)
    left = [entry for entry in found.entries if entry not in gone]
    for image, tag in {(entry.image, entry.tags[-1]) for entry in found.entries}:
        assert not set_of(found.of(image, tag)[:keep]) & set_of(gone)
    digests = {entry.digest for entry in gone}
    assert not digests & held
    assert not digests & {entry.digest for entry in left}
    assert not digests & {entry.parent for entry in left}
    assert surplus(Catalogue(entries=tuple(left)), keep, held) == ()


def set_of(entries: object) -> set[str]:
    return {f"{entry.image}:{entry.dated}" for entry in entries}  # type: ignore[attr-defined]


def test_what_is_idle_goes_when_it_was_so_for_more_than_a_day() -> None:
    monday, tuesday, wednesday = (date(2026, 11, day) for day in (23, 24, 25))
    due, idle = aged({"a", "b"}, {"gone": monday}, monday)
    assert (due, idle) == (set(), {"a": monday, "b": monday})
    due, idle = aged({"a", "b", "c"}, idle, tuesday)
    assert (due, idle) == (set(), {"a": monday, "b": monday, "c": tuesday})
    due, idle = aged({"b", "c"}, idle, wednesday)
    assert (due, idle) == ({"b"}, {"c": tuesday})
