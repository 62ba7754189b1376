"""One repository of a registry: its manifests, blobs and tags, read and written patiently.

What is read is checked against the digest that was asked for; what is written, against what the registry
says of it. Here is the place for the quirks in how registries do what the specification says.

Source: OCI distribution-spec 1.1 (pull, push, content discovery, content management).
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import httpx

from trtforge.errors import DamagedFile, WrongDigest
from trtforge.index.download import sha256_of
from trtforge.oci import Digest, digest_of
from trtforge.progress import ignore
from trtforge.registry import deletion, referrers
from trtforge.registry.answers import digest_in, lacks_blob, media_type_of, tags_in
from trtforge.registry.download import Download
from trtforge.registry.manifests import MANIFEST_TYPES
from trtforge.registry.refusal import refused
from trtforge.registry.upload import Upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from trtforge.progress import Advance
    from trtforge.registry.connection import Connection

_GONE = httpx.codes.NOT_FOUND

_BLOB_PAUSES_S = (0.05, 0.3, 1.0)
"""Seconds before a manifest is written again whose blobs the registry does not know: Docker's registry 2.x
takes a blob for absent while somebody else uploads the same one anew, or links it."""


@dataclass(frozen=True)
class Fetched:
    """A manifest or an index, byte for byte."""

    digest: Digest
    media_type: str
    body: bytes


class Repository:
    """One repository, from many threads.

    Every method raises:
        RequestError: what is asked for does not exist (unless the method says what it returns then).
        WrongDigest: it is not what its digest says.
        EnvironmentLack: the registry does not answer or refuses.
        Stopped: the connection was ended meanwhile.
    """

    def __init__(self, connection: Connection, name: str) -> None:
        self.connection, self.name = connection, name
        self._pull = (f"repository:{name}:pull",)
        self._push = (f"repository:{name}:pull,push",)

    @property
    def host(self) -> str:
        return self.connection.host

    @property
    def place(self) -> str:
        """ "registry.example/team/image" """
        return f"{self.host}/{self.name}"

    @contextmanager
    def branch(self) -> Iterator[Repository]:
        """The same repository for the transfers of one piece of work, which end with the block."""
        with self.connection.branch() as connection:
            yield Repository(connection, self.name)

    # manifests

    def find_manifest(self, version: str) -> Fetched | None:
        """A manifest or an index, by tag or digest; None: there is none."""
        with self._told("read", version):
            answer = self._manifest_request("GET", version)
        if answer.status_code == _GONE:
            return None
        digest = digest_of(answer.content)
        self._check(version, digest, answer)
        return Fetched(digest, media_type_of(answer), answer.content)

    def find_digest(self, version: str) -> Digest | None:
        """The digest of the manifest or index that `version` stands for now; None: there is none."""
        with self._told("read", version):
            answer = self._manifest_request("HEAD", version)
        if answer.status_code == _GONE:
            return None
        reported = digest_in(answer)
        if reported is None:  # the specification lets a registry leave it out
            found = self.find_manifest(version)
            return found.digest if found else None
        self._check(version, reported, answer)
        return reported

    def put_manifest(self, body: bytes, media_type: str, tag: str | None = None) -> Digest:
        """Write a manifest or an index whose blobs are there, under `tag`, or else its digest alone."""
        self._put(body, media_type, tag)
        return digest_of(body)

    def _put(self, body: bytes, media_type: str, tag: str | None = None) -> httpx.Response:
        digest = digest_of(body)
        path = f"{self.name}/manifests/{tag or digest}"
        with self._told("write", tag or digest):
            for pause_s in (*_BLOB_PAUSES_S, None):
                headers = {"Content-Type": media_type}
                answer = self.connection.ask("PUT", path, self._push, headers, body, fine=[400])
                if pause_s is None or not lacks_blob(answer):
                    break
                time.sleep(pause_s)
            answer.raise_for_status()
        self._check(digest, digest, answer)
        return answer

    def _manifest_request(self, method: str, version: str) -> httpx.Response:
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}
        path = f"{self.name}/manifests/{version}"
        return self.connection.ask(method, path, self._pull, headers, fine=[_GONE])

    def _check(self, version: str, digest: Digest, answer: httpx.Response) -> None:
        """See that a manifest is what was asked for, and what the registry says that it is."""
        if version.startswith("sha256:"):
            self.require(version, digest, "manifest")
        if reported := digest_in(answer):
            self.require(digest, reported, "manifest")

    def require(self, expected: str, found: str, part: str) -> None:
        """Raise WrongDigest, naming the `part` of the image, if two digests differ."""
        if expected != found:
            name = f"{self.place}: its {part}"
            raise WrongDigest(name, expected.removeprefix("sha256:"), found.removeprefix("sha256:"))

    # blobs

    def blob_size(self, digest: Digest) -> int | None:
        """Bytes of a blob; None: it is not there."""
        with self._told("read", digest):
            answer = self.connection.ask("HEAD", self._blob(digest), self._pull, fine=[_GONE, 403, 405])
            if answer.is_error and answer.status_code != _GONE:
                answer = self._unread(digest, answer)
        length = answer.headers.get("Content-Length", "")
        if answer.status_code == _GONE or not length.isdecimal():
            return None
        return int(length)

    def _unread(self, digest: Digest, refused: httpx.Response) -> httpx.Response:
        """A GET whose body is left alone, for a HEAD that was refused where the registry redirects it to.

        Storage that signs addresses does so for one method, and a registry may forget which.
        """
        if not refused.history:
            refused.raise_for_status()
        with self.connection.stream("GET", self._blob(digest), self._pull) as answer:
            answer.raise_for_status()
            return answer

    def read_blob(self, digest: Digest, part: str = "blob") -> bytes:
        """A small blob; `part` is what an error calls it."""
        with self._told("read", digest):
            body = self.connection.ask("GET", self._blob(digest), self._pull).content
        self.require(digest, digest_of(body), part)
        return body

    def save_blob(self, digest: Digest, target: Path, advance: Advance, part: str = "layer") -> None:
        """Write a blob to the new file `target`, going on where a broken connection left off."""
        download = Download(self.connection, self._blob(digest), self._pull, target, advance)
        with self._told("read", digest):
            self.connection.patiently(download.run, lambda: download.done)
        self.require(digest, f"sha256:{sha256_of(target)}", part)

    def put_blob(self, data: bytes) -> Digest:
        """Have a small blob there."""
        digest = digest_of(data)
        if self.blob_size(digest) is None:
            with self._told("write", digest):
                self._upload(digest, lambda: BytesIO(data), len(data), ignore)
        return digest

    def upload(self, digest: Digest, blob: Path, advance: Advance) -> None:
        """Have the blob in the file `blob` there: in one request if it is small, else in chunks.

        Raises:
            DamagedFile: the file is not what its digest says, so the registry refused it.
        """
        size = blob.stat().st_size
        if self.blob_size(digest) is not None:
            advance(size)
            return
        with self._told("write", digest):
            try:
                self._upload(digest, lambda: blob.open("rb"), size, advance)
            except httpx.HTTPStatusError as error:
                found = sha256_of(blob)
                if error.response.status_code == httpx.codes.BAD_REQUEST and digest != f"sha256:{found}":
                    raise DamagedFile(blob.name, digest.removeprefix("sha256:"), found) from error
                raise

    def _upload(self, digest: Digest, opened: Callable[[], BinaryIO], size: int, advance: Advance) -> None:
        upload = Upload(self.connection, self.name, self._push, digest, opened, size, advance)
        self.connection.patiently(upload.run, lambda: upload.done)

    def mount(self, digest: Digest, source: str) -> bool:
        """Have a blob of the repository `source` of this registry here too, without sending it.

        False: the registry has not done it, for whatever reason; the blob is to be uploaded then.
        """
        url = httpx.URL(f"{self.name}/blobs/uploads/", params={"mount": digest, "from": source})
        scopes = (*self._push, f"repository:{source}:pull")
        with self._told("write", digest):
            answer = self.connection.ask(
                "POST", url, scopes, {"Content-Length": "0"}, fine=[400, 401, 403, 404, 405]
            )
        if answer.status_code == httpx.codes.ACCEPTED and (location := answer.headers.get("Location")):
            with suppress(httpx.HTTPError):  # an upload session began instead; it would wait for us for days
                session = self.connection.followed(answer, location)
                self.connection.once("DELETE", session, self._push)
        return answer.status_code == httpx.codes.CREATED

    # tags and what is attached

    def tags(self) -> list[str]:
        """All tags; none if the repository does not exist."""
        with self._told("read"):
            return tags_in(self.pages(f"{self.name}/tags/list", fine=[_GONE]))

    def pages(self, url: httpx.URL | str, fine: Iterable[int]) -> Iterator[httpx.Response]:
        """An answer in several pages, each of which says where the next is (RFC 8288: Link)."""
        following: httpx.URL | str | None = url
        while following is not None:
            answer = self.connection.ask("GET", following, self._pull, fine=fine)
            yield answer
            link = answer.links.get("next", {}).get("url")
            following = self.connection.followed(answer, link) if link else None

    def referrers(self, subject: Digest, artifact_type: str) -> list[Digest]:
        """The artifacts of this type that are attached to the manifest `subject`."""
        with self._told("read", subject):
            return referrers.find_referrers(self, subject, artifact_type)

    def attach(self, artifact: bytes, subject: Digest) -> Digest:
        """Write the manifest `artifact` and have it listed among the referrers of its `subject`."""
        described = referrers.descriptor_of(artifact)
        answer = self._put(artifact, described["mediaType"])
        if answer.headers.get("OCI-Subject") != subject:  # that header says: the registry keeps count itself
            referrers.add_to_fallback(self, subject, described)
        return digest_of(artifact)

    # removal: absent is fine; EnvironmentLack if the registry has it disabled

    def delete_tag(self, tag: str) -> None:
        """Remove a tag, and nothing else that is at the same manifest."""
        with self._told("delete", tag):
            deletion.delete_tag(self, tag)

    def delete_manifest(self, digest: Digest) -> None:
        """Remove a manifest, every tag that is at it, and the index of what is attached to it."""
        with self._told("delete", digest):
            deletion.delete_manifest(self, digest)

    def delete_blob(self, digest: Digest) -> None:
        with self._told("delete", digest):
            deletion.delete(self, f"blobs/{digest}")

    def _blob(self, digest: str) -> str:
        return f"{self.name}/blobs/{digest}"

    @contextmanager
    def _told(self, doing: str, version: str = "") -> Iterator[None]:
        """Tell a person what the registry's refusal of the block's requests means."""
        try:
            yield
        except httpx.HTTPError as error:
            sign = "@" if version.startswith("sha256:") else ":" if version else ""
            raise refused(f"{self.place}{sign}{version}", doing, error) from error
