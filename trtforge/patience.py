"""How to go on with a server in trouble: which failures may pass, how long to wait, when to give up.

Sources: RFC 9110, sections 10.2.3 (Retry-After) and 15 (status codes); RFC 6585, section 4 (429).
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import httpx
from tenacity import Retrying, retry_if_exception
from tenacity.nap import sleep_using_event

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from tenacity import RetryCallState


@dataclass(frozen=True)
class Patience:
    """How long to go on with a server in trouble.

    attempts: in a row that bring nothing new of a file; one that gets further starts the count anew.
    first_pause_s: seconds before the second attempt; each pause is twice the one before.
    longest_pause_s: no pause is longer, even if the server asks for more (Retry-After).
    silence_s: a connection that is silent for so long counts as broken.
    """

    attempts: int = 6
    first_pause_s: float = 1.0
    longest_pause_s: float = 120.0
    silence_s: float = 30.0

    @property
    def timeout(self) -> httpx.Timeout:
        """When a connection counts as broken; making one may not take as long as using one."""
        return httpx.Timeout(self.silence_s, connect=min(self.silence_s, 15.0))

    def pause_s(self, failures: int, asked_s: float = 0.0) -> float:
        """Seconds to wait after so many failures in a row, when the server asked for `asked_s`."""
        return min(max(self.first_pause_s * 2.0 ** (failures - 1), asked_s), self.longest_pause_s)

    def retrying(self, stop: threading.Event, reached: Callable[[], int] = lambda: 0) -> Retrying:
        """Runs a callable until it succeeds, may not succeed any more, or this patience is at its end.

        The last failure is raised as it is.

        Args:
            stop: set it, and a pause ends at once; what is run has to look at it too.
            reached: how far the work has come, in bytes of a file.
        """
        return _Attempts(self, stop, reached).retrying()


class _Attempts:
    """Attempts at one piece of work. failures: in a row that got no further."""

    def __init__(self, patience: Patience, stop: threading.Event, reached: Callable[[], int]) -> None:
        self._patience, self._stop, self._reached = patience, stop, reached
        self._furthest = reached()
        self._failures = 0

    def retrying(self) -> Retrying:
        return Retrying(
            after=self._count,  # tenacity calls it before the two that need the count
            wait=self._pause_s,
            stop=lambda _state: self._failures >= self._patience.attempts,
            retry=retry_if_exception(may_pass),
            sleep=sleep_using_event(self._stop),
            reraise=True,
        )

    def _count(self, _state: RetryCallState) -> None:
        further = self._reached() > self._furthest
        self._furthest = max(self._reached(), self._furthest)
        self._failures = 1 if further else self._failures + 1

    def _pause_s(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        answer = error.response if isinstance(error, httpx.HTTPStatusError) else None
        asked = answer.headers.get("Retry-After", "") if answer is not None else ""
        return self._patience.pause_s(self._failures, seconds_of(asked, time.time()))


def may_pass(error: BaseException) -> bool:
    """Whether another attempt may succeed."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        # 507: the server's disk is full (RFC 4918, section 11.5); no pause of ours empties it.
        return status in (408, 416, 425, 429) or (status >= 500 and status != 507)
    return isinstance(error, httpx.TransportError) and tls_trouble(error) is None


def tls_trouble(error: BaseException | None) -> ssl.SSLError | None:
    """What TLS itself refuses, if that is behind `error`: a certificate, or a peer that does not speak it."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error
        if isinstance(error, ssl.SSLError) and getattr(error, "reason", None) in _NOT_TLS:
            return error
        error = error.__cause__ or error.__context__
    return None


_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"})
"""OpenSSL's words for an answer that is not TLS at all."""


def seconds_of(retry_after: str, now: float) -> float:
    """What a Retry-After header asks for, at `now` (RFC 9110, section 10.2.3: seconds, or a date)."""
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now)
    except ValueError:
        return 0.0


def reason_of(error: Exception) -> str:
    """One line that says why a server did not do what it was asked."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code} {error.response.reason_phrase}"
    return str(error) or {"ReadTimeout": "it fell silent", "ConnectTimeout": "no connection in time"}.get(
        type(error).__name__, type(error).__name__
    )
