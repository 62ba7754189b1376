"""Packed bodies, unpacked within a limit."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtkit.serve.body import unpack
from trtkit.serve.refusal import Refusal

PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("encoding", PACK)
def test_a_packed_body_is_unpacked(encoding: str) -> None:
    assert unpack(PACK[encoding](b"tensor" * 99), encoding, 1000) == b"tensor" * 99


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(100 << 20))
    assert len(bomb) < 200_000
    with pytest.raises(Refusal) as caught:
        unpack(bomb, "gzip", 1 << 20)
    assert caught.value.status == 413


def test_a_body_that_is_cut_off_or_no_gzip_is_refused() -> None:
    for damaged in (gzip.compress(b"tensor" * 99)[:-9], b"tensor", b""):
        with pytest.raises(Refusal) as caught:
            unpack(damaged, "gzip", 1000)
        assert caught.value.status == 400


@given(st.binary(max_size=100), st.sampled_from(sorted(PACK)))
def test_any_bytes_are_unpacked_or_refused(body: bytes, encoding: str) -> None:
    with suppress(Refusal):  # and no other error
        assert len(unpack(body, encoding, 1000)) <= 1000
