"""Trouble that may pass is waited for as long as it is told to, and no longer."""

from __future__ import annotations

import ssl
import threading
import time
from email.utils import formatdate

import httpx
import pytest

from trtforge.patience import Patience, may_pass, reason_of, seconds_of, tls_trouble

REQUEST = httpx.Request("GET", "https://a.example")


def answer(status: int, **headers: str) -> httpx.HTTPStatusError:
    response = httpx.Response(status, headers=headers, request=REQUEST)
    return httpx.HTTPStatusError("", request=REQUEST, response=response)


def tls(cause: Exception) -> httpx.ConnectError:
    error = httpx.ConnectError("TLS")
    error.__cause__ = cause
    return error


WRONG_VERSION = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
WRONG_VERSION.reason = "WRONG_VERSION_NUMBER"


@pytest.mark.parametrize(
    ("failures", "asked_s", "pause_s"),
    [(1, 0, 1), (2, 0, 2), (4, 0, 8), (1, 30, 30), (9, 0, 120), (1, 900, 120)],
)
def test_pauses_grow_and_heed_the_server(failures: int, asked_s: float, pause_s: float) -> None:
    assert Patience().pause_s(failures, asked_s) == pause_s


def test_retry_after_may_be_a_date() -> None:
    assert seconds_of(formatdate(1000.0, usegmt=True), now=990.0) == 10
    assert seconds_of("7", now=0) == 7
    assert seconds_of("soon", now=0) == seconds_of("", now=0) == 0


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        *[(answer(status), True) for status in (408, 416, 425, 429, 500, 502, 503, 504)],
        *[(answer(status), False) for status in (400, 401, 403, 404, 413, 507)],
        (httpx.ReadTimeout(""), True),
        (httpx.ConnectError("refused"), True),
        (tls(ssl.SSLEOFError()), True),
        (tls(ssl.SSLCertVerificationError()), False),
        (tls(WRONG_VERSION), False),
        (ValueError(), False),
    ],
)
def test_only_some_trouble_may_pass(error: Exception, passes: bool) -> None:
    assert may_pass(error) is passes


def test_what_tls_refuses_is_found_behind_the_error() -> None:
    cause = ssl.SSLCertVerificationError()
    assert tls_trouble(tls(cause)) is cause
    assert tls_trouble(answer(500)) is None


class _Work:
    """Gets so many bytes further at each attempt, and fails."""

    def __init__(self, *steps: int) -> None:
        self.steps, self.done, self.attempts = iter(steps), 0, 0

    def run(self) -> None:
        self.attempts += 1
        self.done += next(self.steps, 0)
        raise answer(503)


HASTE = Patience(attempts=3, first_pause_s=0)


@pytest.mark.parametrize(
    ("steps", "attempts"),
    [((), 3), ((1, 1, 1, 1), 6), ((0, 0, 1), 5), ((0, 1), 4), ((5, -5, 5), 3), ((5, -5, 6), 5)],
)
def test_only_getting_further_starts_the_count_anew(steps: tuple[int, ...], attempts: int) -> None:
    work = _Work(*steps)
    with pytest.raises(httpx.HTTPStatusError):
        HASTE.retrying(threading.Event(), lambda: work.done)(work.run)
    assert work.attempts == attempts


def test_a_pause_ends_when_told() -> None:
    stop, work = threading.Event(), _Work()
    stop.set()
    began = time.monotonic()
    with pytest.raises(httpx.HTTPStatusError):
        Patience(attempts=3, first_pause_s=60).retrying(stop)(work.run)
    assert time.monotonic() - began < 5


class _Pauses(threading.Event):
    """Notes how long it was waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout)
        return True


def test_a_server_that_asks_for_a_pause_gets_it() -> None:
    errors = iter([answer(429, **{"Retry-After": "7"}), httpx.ReadError(""), answer(503)])

    def work() -> None:
        raise next(errors)

    pauses = _Pauses()
    with pytest.raises(httpx.HTTPStatusError):
        Patience(attempts=3, first_pause_s=1).retrying(pauses)(work)
    assert pauses.seconds == [7, 2]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (answer(503), "HTTP 503 Service Unavailable"),
        (httpx.ReadTimeout(""), "it fell silent"),
        (httpx.ConnectTimeout(""), "no connection in time"),
        (httpx.ReadError(""), "ReadError"),
        (httpx.ReadError("reset"), "reset"),
    ],
)
def test_a_reason_is_one_line(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason
