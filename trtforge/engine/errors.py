"""What the docker SDK raises, turned into errors a person can act on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import docker.errors
import requests
import urllib3

from trtforge.errors import BuildError, EnvironmentLack, ForgeError

if TYPE_CHECKING:
    from collections.abc import Iterator


class EngineSays(Exception):
    """An error that the Engine reported in a stream of events instead of as an HTTP status."""


@contextmanager
def engine_errors(address: str, doing: str) -> Iterator[None]:
    """Translate what is raised inside the block; `doing` completes "the Engine could not ...".

    Raises:
        EnvironmentLack: the Engine at `address` went away, or its disk is full.
        BuildError: it refused.
    """
    try:
        yield
    except (docker.errors.DockerException, EngineSays) as error:
        raise _refusal(doing, getattr(error, "explanation", None) or str(error)) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError) as error:
        raise EnvironmentLack(
            f"the Docker Engine at {address} went away: it could not {doing}",
            ("engine", str(error)),
            ("next", "make engine, then run the same command again: nothing half-made is left"),
        ) from error


def _refusal(doing: str, says: str) -> ForgeError:
    if "no space left on device" in says.lower() or "disk quota exceeded" in says.lower():
        return EnvironmentLack(
            f"the Docker Engine's disk is full: it could not {doing}",
            ("engine", says),
            ("next", "free space there (docker system prune helps), then run the same command again"),
        )
    return BuildError(f"the Docker Engine could not {doing}", ("engine", says))
