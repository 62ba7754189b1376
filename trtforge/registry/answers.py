"""What the answers of a registry say.

Source: OCI distribution-spec 1.1 (headers, lists, error codes).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx

from trtforge.oci import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable


def media_type_of(answer: httpx.Response) -> str:
    """The type of what came, without parameters."""
    return str(answer.headers.get("Content-Type", "")).partition(";")[0].strip()


def digest_in(answer: httpx.Response) -> Digest | None:
    """The digest that the registry says its manifest has; another algorithm than ours does not count."""
    reported = str(answer.headers.get("Docker-Content-Digest", ""))
    return Digest(reported) if re.fullmatch(r"sha256:[0-9a-f]{64}", reported) else None


def tags_in(pages: Iterable[httpx.Response]) -> list[str]:
    """The tags in all `pages`; an absent repository has none.

    Raises:
        httpx.DecodingError: a page is something else.
    """
    found: list[str] = []
    for page in pages:
        try:
            found += [str(tag) for tag in page.json()["tags"] or []] if page.is_success else []
        except (ValueError, KeyError, TypeError) as error:
            raise httpx.DecodingError("no list of tags", request=page.request) from error
    return found


def lacks_blob(answer: httpx.Response) -> bool:
    """Whether a manifest was refused because a blob of it is not there."""
    try:
        codes = {error.get("code") for error in answer.json()["errors"]} if answer.is_error else set()
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return bool(codes & {"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"})
