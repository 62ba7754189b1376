"""An image that lies whole in a registry under a staging tag, and is not published yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trtforge.image import Image
    from trtforge.oci import Digest
    from trtforge.recipe import Recipe

STAGING = "staging-"
"""How staging tags begin."""


@dataclass(frozen=True)
class Staged:
    """image.digest is in the repository of recipe.image under its staging tag."""

    recipe: Recipe
    image: Image


def staging_tag(digest: Digest) -> str:
    """The tag of an image until it is published: staging-<12 hex of the digest>."""
    return f"{STAGING}{digest.removeprefix('sha256:')[:12]}"
