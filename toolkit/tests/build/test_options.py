from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtkit.build.options import UNITS, parse_bytes, parse_sms
from trtkit.errors import RequestError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GiB", 2 << 30), ("512MB", 512_000_000), ("2147483648", 2 << 30), ("1.5GiB", 3 << 29),
        ("1g", 1 << 30), (" 4 gib ", 4 << 30), ("1KB", 1000), ("1kib", 1024), ("1b", 1), ("64M", 64 << 20),
    ],
)  # fmt: skip
def test_bytes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "GiB", "-1GiB", "0", "0.1", "2GiBs", "two", "1e9", "nan", "2 Gi B", "１GB2", "9" * 400]
)
def test_what_is_no_number_of_bytes(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_bytes(text)
    assert caught.value.fact("next")


@given(st.integers(1, 1 << 20), st.sampled_from(sorted(UNITS)), st.sampled_from(["", " "]))
def test_every_unit_is_read_in_either_case(number: int, unit: str, space: str) -> None:
    assert (
        parse_bytes(f"{number}{space}{unit}")
        == parse_bytes(f"{number}{unit.lower()}")
        == number * UNITS[unit]
    )


@given(st.text())
def test_any_text_is_a_size_or_a_request_error(text: str) -> None:
    with suppress(RequestError):
        assert parse_bytes(text) > 0


@pytest.mark.parametrize(
    ("text", "sms"),
    [
        ("80,86", ("80", "86")),
        ("8.6, sm_89", ("86", "89")),
        ("120,75,sm80,75", ("75", "80", "120")),
        ("12.1", ("121",)),
    ],
)
def test_compute_capabilities(text: str, sms: tuple[str, ...]) -> None:
    assert parse_sms(text) == sms


@pytest.mark.parametrize("text", ["", "8", "ampere", "80;86", "80,", "8.6.1", "1200"])
def test_what_is_no_compute_capability(text: str) -> None:
    with pytest.raises(RequestError):
        parse_sms(text)
