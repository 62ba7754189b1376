"""The `oci` builder: a rendered Dockerfile and its layers become an image in the store, without a daemon.

It follows FROM, ADD (a layer), COPY, ENV, LABEL, USER, WORKDIR, EXPOSE, HEALTHCHECK, ENTRYPOINT and CMD, as
Docker does; what would have to run in the image (RUN) it refuses.

Sources: OCI image-spec 1.1: config.md, manifest.md, image-layout.md; for health checks, which Docker alone
knows, Docker image specification 1.2 (Healthcheck).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from trtforge.dockerfile import Instruction, read_dockerfile
from trtforge.layers.gzip_tar import GzipTar
from trtforge.oci import (
    CONFIG,
    EPOCH,
    INDEX,
    LAYER_GZIP,
    MANIFEST,
    Digest,
    Layer,
    canonical_json,
    digest_of,
    is_program,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trtforge.store import Store

REF = "org.opencontainers.image.ref.name"
RECIPE_KEY = "io.trtforge.recipe-key"
UNPACKED = "io.trtforge.unpacked"
"""Annotation of a layer: bytes of its tar, which who loads it must know before they inflate it."""


@dataclass(frozen=True)
class Image:
    """An image in the store.

    digest: of its manifest. config: its configuration (config.md), its layers' blobs in order.
    """

    digest: Digest
    config: bytes
    layers: tuple[Layer, ...]

    @property
    def size(self) -> int:
        """Bytes of the compressed layers: what a registry holds and a pull moves."""
        return sum(layer.size for layer in self.layers)

    @property
    def unpacked(self) -> int:
        """Bytes of the layers' tars: about what the image takes on a disk."""
        return sum(layer.unpacked for layer in self.layers)


FOLLOWED = (
    "FROM", "ADD", "COPY", "ENV", "LABEL", "USER", "WORKDIR", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD",
)  # fmt: skip


def check_followable(dockerfile: str) -> None:
    """See that `assemble` can follow every instruction, before anything is made for it.

    Raises:
        RequestError: it cannot, with the line; an Engine can (`--builder docker`).
    """
    for instruction in read_dockerfile(dockerfile):
        if instruction.name not in FOLLOWED:
            raise instruction.refused("needs an Engine: the oci builder only adds layers and settings")


def assemble(
    dockerfile: str,
    layers: Mapping[str, Layer],
    files: Mapping[str, bytes],
    parent: Image | None,
    store: Store,
) -> Image:
    """Follow `dockerfile` and keep the image's blobs in the store.

    Args:
        layers: the source of each ADD -> its layer.
        files: the build context's other files, by their path.
        parent: the image that FROM names; None for scratch.

    Raises:
        RequestError: an instruction that cannot be followed without running something.
    """
    check_followable(dockerfile)
    config: dict[str, Any] = json.loads(parent.config) if parent else _empty_config()
    settings: dict[str, Any] = config.setdefault("config", {})  # a base of others may lack it
    history: list[dict[str, Any]] = config.setdefault("history", [])
    stack = list(parent.layers) if parent else []
    for instruction in read_dockerfile(dockerfile):
        added = None
        match instruction.name:
            case "FROM":
                continue
            case "ADD":
                added = _added(instruction, layers)
            case "COPY":
                added = _copied(instruction, files, store)
            case "ENV":
                env = dict(item.split("=", 1) for item in settings.get("Env") or [])
                env |= instruction.pairs(env)
                settings["Env"] = [f"{key}={value}" for key, value in env.items()]
            case "LABEL":
                settings["Labels"] = (settings.get("Labels") or {}) | instruction.pairs({})
            case "USER":
                settings["User"] = instruction.value
            case "WORKDIR":
                settings["WorkingDir"] = instruction.value
            case "EXPOSE":
                ports: dict[str, Any] = {port: {} for port in instruction.ports()}
                settings["ExposedPorts"] = (settings.get("ExposedPorts") or {}) | ports
            case "HEALTHCHECK":
                settings["Healthcheck"] = instruction.health_check()
            case "ENTRYPOINT":
                settings["Entrypoint"] = instruction.argv()
                settings.pop("Cmd", None)
            case "CMD":
                settings["Cmd"] = instruction.argv()
        entry = {"created": _created(), "created_by": f"{instruction.name} {instruction.value}"}
        if added:
            stack.append(added)
        history.append(entry if added else entry | {"empty_layer": True})
    config["rootfs"] = {"type": "layers", "diff_ids": [layer.diff_id for layer in stack]}
    return keep_image(canonical_json(config), tuple(stack), store)


def keep_image(config: bytes, layers: tuple[Layer, ...], store: Store) -> Image:
    """Write configuration and manifest of an image whose layers are in the store."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
        "layers": [
            {
                "mediaType": LAYER_GZIP,
                "digest": layer.digest,
                "size": layer.size,
                "annotations": {UNPACKED: str(layer.unpacked)},
            }
            for layer in layers
        ],
    }
    body = canonical_json(manifest)
    store.write_blob(config, digest_of(config))
    store.write_blob(body, digest_of(body))
    return Image(digest_of(body), config, layers)


def name_image(image: Image, ref: str, recipe_key: str, store: Store) -> None:
    """Put `image` into the store's index.json under `ref`, with the recipe it was made from."""
    with store.lock("index"):
        entry = {
            "mediaType": MANIFEST,
            "digest": image.digest,
            "size": store.blob(image.digest).stat().st_size,
            "annotations": {REF: ref, RECIPE_KEY: recipe_key},
            "platform": {"architecture": "amd64", "os": "linux"},
        }
        others = [old for old in _entries(store) if old["annotations"].get(REF) != ref]
        _write_index([*others, entry], store)


def find_image(ref: str, recipe_key: str, store: Store) -> Image | None:
    """The whole image named `ref` that was made from this recipe, if the store has it."""
    for entry in _entries(store):
        if entry["annotations"] == {REF: ref, RECIPE_KEY: recipe_key}:
            return _read_image(Digest(entry["digest"]), store)
    return None


def drop_images(recipe_keys: set[str], store: Store) -> None:
    """Forget the names of all images but those made from `recipe_keys`; their blobs stay."""
    with store.lock("index"):
        kept = [entry for entry in _entries(store) if entry["annotations"].get(RECIPE_KEY) in recipe_keys]
        _write_index(kept, store)


def _read_image(digest: Digest, store: Store) -> Image | None:
    if (body := store.read_blob(digest)) is None:
        return None
    manifest = json.loads(body)
    if (config := store.read_blob(Digest(manifest["config"]["digest"]))) is None:
        return None
    layers = tuple(
        Layer(found["digest"], diff_id, found["size"], int(found["annotations"][UNPACKED]))
        for found, diff_id in zip(manifest["layers"], json.loads(config)["rootfs"]["diff_ids"], strict=True)
    )
    return Image(digest, config, layers) if all(map(store.holds, layers)) else None


def _entries(store: Store) -> list[dict[str, Any]]:
    try:
        index = json.loads((store.oci / "index.json").read_text(encoding="utf-8"))
        return [entry for entry in index["manifests"] if REF in entry.get("annotations", {})]
    except (FileNotFoundError, ValueError):  # not there, or damaged: images are named anew, which is cheap
        return []


def _write_index(entries: list[dict[str, Any]], store: Store) -> None:
    entries = sorted(entries, key=lambda entry: str(entry["annotations"][REF]))
    body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    store.write_text(store.oci / "index.json", json.dumps(body, indent=1, sort_keys=True) + "\n")
    store.write_text(store.oci / "oci-layout", '{"imageLayoutVersion": "1.0.0"}\n')


def _added(instruction: Instruction, layers: Mapping[str, Layer]) -> Layer:
    source, *rest = instruction.words()
    if rest != ["/"] or source not in layers:
        raise instruction.refused("can only add one of the recipe's layers to /")
    return layers[source]


def copy_keys(dockerfile: str, files: Mapping[str, bytes]) -> list[str]:
    """The keys in the store of the layers that the COPY instructions of `dockerfile` make."""
    return [_copy_key(_named(one, files)) for one in read_dockerfile(dockerfile) if one.name == "COPY"]


def _copied(instruction: Instruction, files: Mapping[str, bytes], store: Store) -> Layer:
    """A layer with the context's files that COPY names, owned by root, as Docker copies them."""
    found = _named(instruction, files)
    with store.work_folder() as work:
        blob = work / "layer"
        with blob.open("wb") as out:
            tar = GzipTar(out)
            for path, content in sorted(found.items()):
                tar.add_file(path, content, executable=is_program(content))
            layer = tar.finish()
        store.keep_layer(_copy_key(found), blob, layer)
    return layer


def _copy_key(found: Mapping[str, bytes]) -> str:
    contents = {path: digest_of(content) for path, content in found.items()}
    return digest_of(canonical_json({"copy": contents})).removeprefix("sha256:")


def _named(instruction: Instruction, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """What COPY puts into the image: path there -> content."""
    words = instruction.words()
    if len(words) != 2 or words[0].startswith("--"):
        raise instruction.refused("can only copy one source, without options")
    source, target = words
    if source.endswith("/"):
        found = {
            str(PurePosixPath(target, name.removeprefix(source))): content
            for name, content in files.items()
            if name.startswith(source)
        }
    else:
        place = f"{target}{PurePosixPath(source).name}" if target.endswith("/") else target
        found = {place: files[source]} if source in files else {}
    if not found:
        raise instruction.refused("names nothing in the build context")
    return found


def _empty_config() -> dict[str, Any]:
    return {
        "created": _created(),
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [],
    }


def _created() -> str:
    return datetime.fromtimestamp(EPOCH, UTC).isoformat().replace("+00:00", "Z")
