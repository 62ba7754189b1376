"""A file arrives whole, whatever its server does on the way."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.loopback_index import CutAfter, LoopbackIndex, Status, loopback_index, sha256_of
from trtforge.index.download import Web
from trtforge.index.uv import Sources
from trtforge.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HASTE = Patience(attempts=4, first_pause_s=0, longest_pause_s=0, silence_s=10)
CONTENT = random.Random(0).randbytes(100_000)  # more than one read of a socket


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackIndex]:
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    with loopback_index(tmp_path / "index") as index:
        (index.folder / "big.whl").write_bytes(CONTENT)
        yield index


def save(index: LoopbackIndex, target: Path, advance: Callable[[int], None] = lambda _: None) -> str:
    with Web(Sources(), HASTE) as web:
        return web.save(index.file_url("big.whl"), target, advance)


@pytest.mark.parametrize(
    "faults",
    [
        [Status(503), Status(500)],
        [Status(429, (("Retry-After", "0"),)), Status(408)],
        [CutAfter(0), CutAfter(1, heed_range=False)],
    ],
    ids=["server errors", "too many requests", "hung up"],
)
def test_trouble_that_passes_is_waited_out(index: LoopbackIndex, tmp_path: Path, faults: list[Any]) -> None:
    index.faults["big.whl"] = faults
    assert save(index, tmp_path / "got") == sha256_of(index.folder / "big.whl")
    assert (tmp_path / "got").read_bytes() == CONTENT
    assert len(index.ranges) == 3


@pytest.mark.parametrize(("status", "asked"), [(503, HASTE.attempts), (403, 1), (404, 1)])
def test_only_trouble_that_may_pass_is_tried_again(
    index: LoopbackIndex, tmp_path: Path, status: int, asked: int
) -> None:
    index.faults["big.whl"] = [Status(status)] * 9
    with pytest.raises(httpx.HTTPStatusError):
        save(index, tmp_path / "got")
    assert len(index.ranges) == asked


def test_a_broken_download_goes_on_where_it_broke(index: LoopbackIndex, tmp_path: Path) -> None:
    index.faults["big.whl"] = [CutAfter(30_000)]
    done: list[int] = []
    save(index, tmp_path / "got", done.append)
    assert (tmp_path / "got").read_bytes() == CONTENT
    assert index.ranges == ["", "bytes=30000-"]
    assert sum(done) == len(CONTENT)


def test_a_server_that_cannot_resume_sends_all_again(index: LoopbackIndex, tmp_path: Path) -> None:
    index.faults["big.whl"] = [CutAfter(30_000), CutAfter(20_000, heed_range=False)]
    done: list[int] = []
    save(index, tmp_path / "got", done.append)
    assert (tmp_path / "got").read_bytes() == CONTENT
    assert index.ranges == ["", "bytes=30000-", "bytes=20000-"]
    assert sum(done) == len(CONTENT)


def test_patience_is_counted_from_the_last_progress(index: LoopbackIndex, tmp_path: Path) -> None:
    index.faults["big.whl"] = [CutAfter(10_000)] * (2 * HASTE.attempts)
    save(index, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == CONTENT

    index.ranges.clear()
    index.faults["big.whl"] = [CutAfter(10_000, heed_range=False)] * 99
    with pytest.raises(httpx.TransportError):
        save(index, tmp_path / "got")
    assert len(index.ranges) == HASTE.attempts, "bytes that were here before are no progress"


def test_parts_of_two_files_are_never_joined(index: LoopbackIndex, tmp_path: Path) -> None:
    (index.folder / "big.whl").write_bytes(bytes(len(CONTENT)))
    index.faults["big.whl"] = [CutAfter(30_000)]
    save(index, tmp_path / "got", lambda _done: _write(index.folder / "big.whl", CONTENT))
    assert (tmp_path / "got").read_bytes() == CONTENT
    assert index.ranges == ["", "bytes=30000-"]


def _write(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def test_a_password_goes_to_no_other_server(index: LoopbackIndex, tmp_path: Path) -> None:
    with loopback_index(tmp_path / "nvidia", password="s3cret") as nvidia:
        (nvidia.folder / "moved.whl").write_bytes(b"")
        nvidia.faults["moved.whl"] = [Status(302, (("Location", index.file_url("big.whl")),))]
        with Web(Sources(indexes={"nvidia": nvidia.with_credentials()}), HASTE) as web:
            web.save(nvidia.file_url("moved.whl"), tmp_path / "got", lambda _: None)
    assert (tmp_path / "got").read_bytes() == CONTENT
    assert nvidia.authorised == [True]
    assert index.authorised == [False]
