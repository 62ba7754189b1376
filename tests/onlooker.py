"""Who pulls from a namespace: a client that has nothing of ours, and sees whether what is promised holds."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import re
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

IMAGES = ("os", "pytorch-cuda", "tensorrt")

_TRIES = 10
"""docker-registry 2.8 answers 500 for a moment while somebody writes what is read."""

_RECORD = "application/vnd.trtforge.record.v1+json"
_ACCEPT = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"
_PRIVATE = ("staging-", "sha256-")
_DATED = re.compile(r".+-(\d{8})(?:\.(\d+))?")


@dataclass
class Onlooker:
    """What a client saw in a namespace.

    tested: digests that passed their tests; None: whether they did is not known here.
    forward: whether tags may only move to images that are newer; not so for two publishers at once.
    dated: "image:tag" -> the digest that it was first seen at; gone: those that a prune took.
    at: "image:tag" of what moves -> day and number of its image when it was last seen.
    read: digests of blobs of which it has read every byte.
    """

    host: str
    path: str
    tested: set[str] | None = None
    forward: bool = True
    dated: dict[str, str] = field(default_factory=dict)
    at: dict[str, tuple[str, int]] = field(default_factory=dict)
    read: set[tuple[str, str]] = field(default_factory=set)

    def look(self) -> dict[str, str]:
        """Every public tag, "image:tag" -> digest; each leads to a whole, tested image with its record."""
        self._records.clear()
        self._there.clear()
        found = {}
        for image in IMAGES:
            for tag in self.tags(image):
                if not tag.startswith(_PRIVATE):
                    found[f"{image}:{tag}"] = self._public(image, tag)
        for name, digest in found.items():
            self._stands(name, digest, found)
        self.catalogue()
        return found

    def pull(self, image: str, digest: str) -> None:
        """Read every byte of an image.

        Raises:
            AssertionError: it is not there, or not whole.
        """
        body = self._get(image, f"manifests/{digest}", _ACCEPT)
        assert body, f"{image}@{digest} is not there"
        assert _digest(body) == digest
        self._whole(image, body)

    def catalogue(self) -> list[dict[str, Any]] | None:
        """The entries of the catalogue; None: there is none."""
        found = self._get("catalogue", "manifests/latest", _ACCEPT)
        if found is None:
            return None
        (layer,) = json.loads(found)["layers"]
        return list(json.loads(gzip.decompress(self._blob("catalogue", layer)))["entries"])

    def tags(self, image: str) -> list[str]:
        body = self._get(image, "tags/list")
        return list(json.loads(body)["tags"] or []) if body else []

    def unfinished(self) -> dict[str, str]:
        """Staging tags, and claims on dated ones: "image:tag" -> digest."""
        found = {}
        for image in (*IMAGES, "catalogue"):
            for tag in self.tags(image):
                if tag.startswith(("staging-", "claim-")) and (
                    body := self._get(image, f"manifests/{tag}", _ACCEPT)
                ):
                    found[f"{image}:{tag}"] = _digest(body)
        return found

    def recipe_of(self, name: str) -> str:
        """The key of the recipe that the image behind "image:tag" was made from."""
        image, _, tag = name.partition(":")
        body = self._get(image, f"manifests/{tag}", _ACCEPT)
        assert body, f"{name} is not there"
        return str(self._records_of(image, _digest(body))[-1]["recipe_key"])

    def __post_init__(self) -> None:
        self._records: dict[str, list[dict[str, Any]]] = {}
        self._there: set[tuple[str, str]] = set()

    @cached_property
    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, timeout=10)

    # one tag

    def _public(self, image: str, tag: str) -> str:
        name = f"{image}:{tag}"
        body = self._get(image, f"manifests/{tag}", _ACCEPT)
        assert body, f"{name} is listed and leads to nothing"
        digest = _digest(body)
        if digest not in self._records:
            self._whole(image, body)
            self._records[digest] = self._records_of(image, digest)
        records = self._records[digest]
        assert records, f"{name} leads to {digest}, which has no record"
        dated = _DATED.fullmatch(tag)
        if dated:
            assert self.dated.setdefault(name, digest) == digest, f"{name} was moved"
            records = [record for record in records if record["dated"] == tag]
            assert records, f"no record of {digest} names {tag}"
        else:
            records = [record for record in records if tag in record["tags"]]
            assert records, f"{name} leads to {digest}, whose records do not name that tag"
            now = max(map(_order, records))
            assert not self.forward or now >= self.at.get(name, now), f"{name} went back"
            self.at[name] = now
        for record in records:
            self._passed(name, record)
        return digest

    def _whole(self, image: str, body: bytes) -> None:
        manifest = json.loads(body)
        for part in (manifest["config"], *manifest["layers"]):
            key = image, part["digest"]
            if key not in self.read:
                self._blob(image, part)
            elif key not in self._there:
                assert self._ask("HEAD", image, f"blobs/{key[1]}") is not None, f"{image} has no {key[1]}"
            self._there.add(key)

    def _blob(self, image: str, part: dict[str, Any]) -> bytes:
        digest = part["digest"]
        content = self._get(image, f"blobs/{digest}")
        assert content is not None, f"{image} has no {digest}"
        assert (_digest(content), len(content)) == (digest, part["size"])
        self.read.add((image, digest))
        return content

    def _records_of(self, image: str, digest: str) -> list[dict[str, Any]]:
        """The records attached to an image, the oldest first."""
        index = self._get(image, f"manifests/{digest.replace(':', '-')}", _ACCEPT)
        listed = json.loads(index)["manifests"] if index else []
        records = []
        for one in listed:
            if one.get("artifactType") == _RECORD:
                manifest = self._get(image, f"manifests/{one['digest']}", _ACCEPT)
                assert manifest, f"{image}@{digest}: a record is listed and not there"
                (layer,) = json.loads(manifest)["layers"]
                content = self._get(image, f"blobs/{layer['digest']}")
                assert content, f"{image}@{digest}: a record is empty"
                records.append(json.loads(content))
        return sorted(records, key=_order)

    def _passed(self, name: str, record: dict[str, Any]) -> None:
        through = record["tested_through"]
        assert record["smoke"] or through, f"{name} was not tested"
        if record["smoke"]:
            said = {result["status"] for result in record["smoke"]["results"]}
            assert "passed" in said, name
            assert "failed" not in said, name
        if self.tested is not None:
            digest = through.partition("@")[2] or record["digest"]
            assert digest in self.tested, f"{name} leads to what was never tested whole"

    def _stands(self, name: str, digest: str, found: dict[str, str]) -> None:
        """What a tag that moves leads to stands on an image that is published too."""
        if not _DATED.fullmatch(name):
            for record in self._records[digest]:
                assert not record["parent"] or record["parent"] in found.values(), f"{name} stands on nothing"

    # the wire

    def _get(self, image: str, rest: str, accept: str = "*/*") -> bytes | None:
        return self._ask("GET", image, rest, accept)

    def _ask(self, method: str, image: str, rest: str, accept: str = "*/*") -> bytes | None:
        for _ in range(_TRIES):
            self._connection.request(method, f"/v2/{self.path}/{image}/{rest}", headers={"Accept": accept})
            answer = self._connection.getresponse()
            body = answer.read()
            if answer.status != 500:
                break
            time.sleep(0.05)
        assert answer.status in (200, 404), f"{method} {image}/{rest}: {answer.status} {body[:200]!r}"
        return body if answer.status == 200 else None


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _order(record: dict[str, Any]) -> tuple[str, int]:
    found = _DATED.fullmatch(record["dated"])
    assert found
    return found[1], int(found[2] or 1)
