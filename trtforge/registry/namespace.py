"""Where a project's images live: a registry, and the path that its repositories share.

registry.example/team              the namespace
registry.example/team/tensorrt     a repository in it, one for each image of the chain
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import httpx

from trtforge.errors import RequestError
from trtforge.registry.access import Access
from trtforge.registry.connection import Connection
from trtforge.registry.reference import parse_reference
from trtforge.registry.refusal import refused
from trtforge.registry.repository import Repository

if TYPE_CHECKING:
    from types import TracebackType


class Namespace:
    """A namespace of a registry, connected to: a context, to be used from many threads.

    host: of the registry, with its port if any. path: what the names of its repositories begin with.
    """

    def __init__(self, connection: Connection, path: str) -> None:
        self._connection = connection
        self.host, self.path = connection.host, path

    @classmethod
    def open(cls, text: str, access: Access | None = None) -> Namespace:
        """The namespace "registry.example:5000/team"; on Docker Hub, "team" will do.

        Raises:
            RequestError: it is malformed, or `access` names no usable certificates.
        """
        try:
            reference = parse_reference(f"{text}/image")
        except RequestError:
            reference = None
        if reference is None or not reference.name.endswith("/image"):
            raise RequestError(
                f"{text!r} is not a registry's namespace",
                ("next", "write it as registry/path, in lower case: localhost:5000/trtforge"),
            )
        connection = Connection(reference.host, access or Access())
        return cls(connection, reference.name.removesuffix("/image"))

    def __enter__(self) -> Namespace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.__exit__(kind, error, trace)

    def __str__(self) -> str:
        return f"{self.host}/{self.path}"

    @property
    def access(self) -> Access:
        """How its registry is reached."""
        return self._connection.access

    def repository(self, image: str) -> Repository:
        """The repository of one image: "tensorrt"."""
        return Repository(self._connection, f"{self.path}/{image}")

    def name(self, image: str) -> str:
        """What references to an image begin with: "registry.example/team/tensorrt"."""
        return f"{self}/{image}"

    def now(self) -> datetime:
        """The registry's clock, in UTC: one clock for all who publish (RFC 9110, section 6.6.1: Date).

        Raises:
            EnvironmentLack: the registry does not answer, or does not tell the time.
        """
        try:
            # Whoever asks: a refusal has a date too, and what was wrong is told by the next request.
            answer = self._connection.ask("GET", "", fine=[401, 403, 404])
            return parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC)
        except httpx.HTTPError as error:
            raise refused(str(self), "answer for", error) from error
        except (KeyError, ValueError) as error:
            wrong = httpx.DecodingError("an answer without a date")
            raise refused(str(self), "tell the time for", wrong) from error
