"""The image that is asked about: one that the Engine has, or else one from a registry.

Sources: OCI image-spec 1.1 (config.md); Docker Engine API 1.41 (ImageInspect, ImageHistory).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trtforge.base import PLATFORM, engine_tag, load_base
from trtforge.errors import ForgeError, RequestError
from trtforge.image import Image
from trtforge.oci import Digest, Layer, canonical_json
from trtforge.registry.pull import pull_image
from trtforge.registry.reference import parse_reference

if TYPE_CHECKING:
    from trtforge.engine.engine import Engine
    from trtforge.progress import Progress
    from trtforge.store import Store


@dataclass(frozen=True)
class Candidate:
    """An image that may become a base, and is in the Engine.

    asked: what the person called it. name: what the Engine calls it. image: of the store, or as the Engine
    tells it, which knows no blobs. pinned: "registry/name:tag@sha256:...", "" if no registry is known.
    """

    asked: str
    name: str
    image: Image
    pinned: str

    @property
    def described(self) -> dict[str, Any]:
        """The whole image configuration (config.md)."""
        return dict(json.loads(self.image.config))

    @property
    def settings(self) -> dict[str, Any]:
        """What containers of it start with (config.md, "config")."""
        return dict(self.described.get("config") or {})

    @property
    def environment(self) -> dict[str, str]:
        """The variables that it sets."""
        pairs = (item.partition("=") for item in self.settings.get("Env") or [])
        return {name: value for name, _, value in pairs}

    @property
    def commands(self) -> list[str]:
        """The commands that made it, as far as it tells them."""
        return [str(step.get("created_by", "")) for step in self.described.get("history") or []]


def find_candidate(asked: str, engine: Engine, store: Store, progress: Progress) -> Candidate:
    """The image called `asked`: a name or an ID in the Engine, else pulled from its registry and loaded.

    Raises:
        RequestError: it is no name, there is no such image in either, or it is not for our platform.
        BuildError: it is not what its digests say. EnvironmentLack: its registry does not answer.
    """
    parse_reference(asked)  # an ID reads as a name, too
    found = _of_engine(asked, engine) or _of_registry(asked, engine, store, progress)
    platform = f"{found.described.get('os')}/{found.described.get('architecture')}"
    if platform != PLATFORM:
        raise RequestError(
            f"{asked} cannot be a base: it is an image for another platform",
            ("found", platform),
            ("needed", PLATFORM),
            ("next", f"docker pull --platform {PLATFORM}, or name an image that exists for it"),
        )
    return found


def _of_engine(asked: str, engine: Engine) -> Candidate | None:
    if "@" in asked or not engine.has(asked):  # what a registry gives for a digest is checked on the way
        return None
    with engine.errors(f"look at {asked}"):
        told = engine.api.inspect_image(asked)
        steps = reversed(engine.api.history(told["Id"]))
    described = {
        "os": told["Os"],
        "architecture": told["Architecture"],
        "config": told["Config"],
        "history": [{"created_by": step["CreatedBy"]} for step in steps],
    }
    diff_ids = told["RootFS"].get("Layers") or []
    layers = tuple(Layer(Digest(one), Digest(one), 0, 0) for one in diff_ids)
    image = Image(Digest(told["Id"]), canonical_json(described), layers)
    return Candidate(asked, told["Id"], image, next(iter(told.get("RepoDigests") or []), ""))


def _of_registry(asked: str, engine: Engine, store: Store, progress: Progress) -> Candidate:
    try:
        pulled = pull_image(asked, PLATFORM, store, progress)
    except ForgeError as error:
        error.facts = (("engine", "it has no image of this name either"), *error.facts)
        raise
    # The very bytes: their digest is the image's ID in an Engine.
    manifest = json.loads(store.blob(pulled.digest).read_bytes())
    config = store.blob(Digest(manifest["config"]["digest"])).read_bytes()
    image = Image(pulled.digest, config, pulled.layers)
    load_base(image, engine, store, progress)
    pinned = asked if "@" in asked else f"{parse_reference(asked)}@{pulled.digest}"
    return Candidate(asked, engine_tag(image.digest), image, pinned)
