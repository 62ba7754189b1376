"""How errors look to a client: a status and a JSON body, {"error": ..., and every fact under its label}."""

from __future__ import annotations

import json

from starlette.responses import Response

from trtkit.cuda import DeviceLost
from trtkit.errors import EnvironmentLack, RequestError, TrtkitError


class Refusal(RequestError):
    """A request that is not served.

    Args:
        status: HTTP's. retry_after: seconds after which the same request may do better.
        close: whether the connection ends with it, because the rest of the request is not wanted.
    """

    def __init__(
        self,
        status: int,
        problem: str,
        *facts: tuple[str, str],
        retry_after: int | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(problem, *facts)
        self.status, self.retry_after, self.close = status, retry_after, close


def status_of(error: TrtkitError) -> int:
    """Refusals know theirs; else 400 for what the client can mend, 503 where another server may do better."""
    if isinstance(error, Refusal):
        return error.status
    if isinstance(error, RequestError):
        return 400
    return 503 if isinstance(error, DeviceLost | EnvironmentLack) else 500


def error_response(error: TrtkitError) -> Response:
    """`error` as an answer; facts that share a label become a list."""
    facts: dict[str, list[str]] = {}
    for label, text in error.facts:
        facts.setdefault(label, []).append(text)
    told = {label: texts[0] if len(texts) == 1 else texts for label, texts in facts.items()}
    headers = {}
    if isinstance(error, Refusal) and error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    if isinstance(error, Refusal) and error.close:
        headers["connection"] = "close"
    body = json.dumps({"error": error.problem, **told})
    return Response(body, status_of(error), headers, "application/json")
