"""Dated tags: names that, once given to an image, are never moved.

A registry cannot be asked to write a tag only if it is free (distribution-spec 1.1 has no condition on PUT).
So who wants a dated tag first says so, under a name of its own beside the catalogue, and takes the tag only
if nobody else says the same. Of two at once at least one sees the other, whichever way their steps mix:
each writes its claim before it reads the others'.
"""

from __future__ import annotations

import random
import secrets
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from trtforge.errors import EnvironmentLack
from trtforge.oci import digest_of
from trtforge.publishing.catalogue import REPOSITORY
from trtforge.publishing.entry import dated_tag, number_of
from trtforge.registry.artifact import put_artifact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date

    from trtforge.oci import Digest
    from trtforge.registry.namespace import Namespace

_KIND = "application/vnd.trtforge.claim.v1"

CLAIM = "claim-"
"""How the tags of claims begin."""

_ATTEMPTS = 6
"""How often a claim that met another is made again; then the other is taken to be of a dead process."""

_PAUSE_S = 0.03
"""Seconds: about as long as it takes to claim a tag and to withdraw."""


def take_dated_tag(
    namespace: Namespace, image: str, exact: str, day: date, digest: Digest, put: Callable[[str], None]
) -> str:
    """The last dated tag of `day` if it is this image's already, else the next one, taken by `put`.

    Args:
        digest: the image that is to have it. put: attaches the record, then writes the tag it is given.
    """
    repository = namespace.repository(image)

    def holds(number: int) -> Digest | None:
        return repository.find_digest(dated_tag(exact, day, number)) if number else None

    # Not the first that is free: of a day that published many, a prune takes the first ones.
    taken = (found for tag in repository.tags() if dated_tag(exact, day, found := number_of(tag)) == tag)
    number, attempts = max(taken, default=1), 0
    while True:
        while holds(number) or holds(number + 1):  # one may be left out, behind a dead process's claim
            number, attempts = number + 1, 0
        if holds(number - 1) == digest:
            return dated_tag(exact, day, number - 1)
        tag = dated_tag(exact, day, number)
        with _claim(namespace, f"{image}:{tag}", digest) as alone:
            if alone and holds(number) is None:
                put(tag)
                return tag
        attempts += 1
        time.sleep(random.uniform(_PAUSE_S, _PAUSE_S * 2**attempts))
        if attempts == _ATTEMPTS:
            number, attempts = number + 1, 0


@contextmanager
def _claim(namespace: Namespace, name: str, digest: Digest) -> Iterator[bool]:
    """Whether nobody wants `name` for another image while the block runs."""
    repository = namespace.repository(REPOSITORY)
    about = f"{CLAIM}{digest_of(name.encode())[7:31]}-"
    mine = f"{about}{digest[7:31]}-"  # who died with a claim on this image, or has it too, is not in the way
    own = mine + secrets.token_hex(4)

    def others() -> set[str]:
        return {tag for tag in repository.tags() if tag.startswith(about) and not tag.startswith(mine)}

    put_artifact(repository, _KIND, b"{}", tag=own)
    try:
        for _ in range(_ATTEMPTS):
            met = others()
            if not met or min(met) < own:
                break
            time.sleep(_PAUSE_S)  # they see ours, and withdraw
        yield not met
    finally:
        with suppress(
            EnvironmentLack
        ):  # a registry that deletes nothing: the tag is taken, so none asks again
            repository.delete_tag(own)
