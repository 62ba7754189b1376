"""The Docker Engine: ask what it has, load images into it, run them, read them back.

All talk goes through the docker SDK. Trouble comes out as the types of `trtforge.errors`: an Engine that is
absent, dies or has no space is an `EnvironmentLack`, an image it refuses is a `BuildError`.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from itertools import takewhile
from operator import eq
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker.errors
import requests
from docker.types import LogConfig
from docker.utils import version_lt

from trtforge.engine.address import default_address, open_api
from trtforge.engine.errors import engine_errors
from trtforge.engine.file_tree import Entry, file_tree
from trtforge.engine.gpu import device_seen, gpu_request
from trtforge.engine.load import load
from trtforge.engine.pull import pull
from trtforge.errors import EnvironmentLack
from trtforge.progress import ignore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from docker.types import DeviceRequest

    from trtforge.engine.docker_archive import LoadableImage
    from trtforge.oci import Digest
    from trtforge.progress import Advance, Progress
    from trtforge.store import Store

OLDEST_API = "1.41"
"""Docker 20.10 (December 2020), the oldest release this was tried on."""

RECIPE_LABEL = "io.trtforge.recipe-key"
"""Every image made here carries it; nothing without it is ever pruned."""

SILENCE = 900
"""Seconds without a byte from the Engine after which it counts as hung (it unpacks gigabytes silently)."""


@dataclass(frozen=True)
class RunResult:
    """What a container left behind.

    exit_code: None if it had to be ended because its time was over; 137 is SIGKILL, mostly out of memory.
    """

    exit_code: int | None
    stdout: str
    stderr: str


@dataclass(frozen=True)
class ImageFacts:
    """An image in an Engine: its ID, how many layers it has, bytes of its files."""

    id: str
    layers: int
    size: int


class Engine:
    """A Docker Engine that answers; get one with `connect`.

    disposable: it is thrown away after use, so nothing in it need be tidied up (see `fresh`).
    """

    def __init__(self, api: Any, address: str, disposable: bool = False) -> None:
        self.api = api  # docker.APIClient; half of it has no types
        self.address = address
        self.disposable = disposable

    @classmethod
    def connect(cls, address: str | None = None, *, disposable: bool = False) -> Engine:
        """The Engine at `address` ("unix:///...", "tcp://...", "ssh://..."); None: where `docker` would look.

        Raises:
            EnvironmentLack: none answers there, it refuses this user, or it is too old.
        """
        address = address or default_address()
        api = open_api(address, SILENCE)
        if version_lt(api.api_version, OLDEST_API):
            raise EnvironmentLack(
                f"the Docker Engine at {address} is too old",
                ("found", f"API {api.api_version}"),
                ("needed", f"API {OLDEST_API} (Docker 20.10)"),
                ("next", "update Docker, or set DOCKER_HOST to a newer Engine"),
            )
        return cls(api, address, disposable)

    def has(self, ref: str) -> bool:
        """Is there an image with this tag or ID?"""
        return self.find_id(ref) is not None

    def find_id(self, ref: str) -> str | None:
        """The ID of the image with this tag or ID, if there is one."""
        with self.errors("look up an image"), contextlib.suppress(docker.errors.ImageNotFound):
            return str(self.api.inspect_image(ref)["Id"])
        return None

    def layers_present(self, diff_ids: Sequence[Digest]) -> int:
        """How many leading layers of the chain `diff_ids` the Engine has already."""
        with self.errors("list its images"):
            longest = 0
            for image_id in {image["Id"] for image in self.api.images(all=True)}:
                with contextlib.suppress(docker.errors.ImageNotFound):  # removed since it was listed
                    chain = self.api.inspect_image(image_id)["RootFS"].get("Layers") or []
                    longest = max(longest, sum(takewhile(bool, map(eq, chain, diff_ids))))
            return longest

    def load(self, image: LoadableImage, store: Store, progress: Progress) -> str:
        """Put `image` into the Engine under its tags, sending only the layers it lacks; its ID there.

        Interrupted, it leaves no half-made image: the Engine drops what it got; a new call starts over.

        Raises:
            EnvironmentLack: the Engine went away or its disk is full.
            BuildError: the Engine refuses the image, or ends up with another one than was sent.
        """
        return load(self, image, store, progress)

    def pull(self, reference: str, progress: Progress, size: int | None = None) -> str:
        """Pull an image from its registry, logged in as Docker's config.json says; its ID here.

        Args:
            reference: "host/name:tag", or "host/name@sha256:...".
            size: bytes of its compressed layers, if known.

        Raises:
            RequestError: the registry has no such image.
            BuildError: what it gave is not what the digests say.
            EnvironmentLack: it does not answer or let us in, or the Engine went away or its disk is full.
        """
        with self.errors(f"pull {reference}"):
            return pull(self.api, reference, progress, size)

    def tag(self, source: str, target: str) -> None:
        """Give the image `source` the name `target`, "name:tag", which may have been another's."""
        with self.errors(f"tag {source}"):
            self.api.tag(source, *target.rsplit(":", 1))

    def run(
        self,
        ref: str,
        command: Sequence[str],
        *,
        gpus: bool = False,
        network: str = "none",
        entrypoint: Sequence[str] | None = None,
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
        read_only: bool = False,
        tmpfs: Mapping[str, str] | None = None,
        timeout_s: float = 600,
        advance: Advance = ignore,
    ) -> RunResult:
        """Run `command` in a new container of `ref` and remove the container, whatever happens.

        Args:
            gpus: give it every GPU. network: "none", "bridge" or a network's name.
            entrypoint, user: instead of the image's own. read_only: mount the image read-only.
            tmpfs: mount point -> options. timeout_s: seconds until the container is ended.
            advance: called about once a second; if it raises, the container is ended.

        Raises:
            BuildError: the container cannot be made or started.
            EnvironmentLack: the Engine went away, or has no GPU and one was asked for.
        """
        request = self._gpu_request() if gpus else None
        if gpus and request is None:
            raise EnvironmentLack(
                f"the Docker Engine at {self.address} has no GPU to give",
                ("next", "install the NVIDIA driver and the NVIDIA Container Toolkit, or run without a GPU"),
            )
        with self.errors(f"run {ref}"):
            host_config = self.api.create_host_config(
                network_mode=network,
                read_only=read_only,
                tmpfs=dict(tmpfs or {}),
                device_requests=[request] if request else None,
                log_config=LogConfig(type="json-file", config={"max-size": "16m"}),
            )
            container = self.api.create_container(
                ref,
                list(command),
                entrypoint=None if entrypoint is None else list(entrypoint),
                user=user,
                environment=dict(environment or {}),
                host_config=host_config,
                use_config_proxy=False,
            )["Id"]
            try:
                self.api.start(container)
                code = self._wait(container, timeout_s, advance)
                streams = (self.api.logs(container, stdout=out, stderr=not out) for out in (True, False))
                stdout, stderr = (text.decode(errors="replace") for text in streams)
            finally:
                self._drop_container(container)
        return RunResult(code, stdout, stderr)

    def _wait(self, container: str, timeout_s: float, advance: Advance) -> int | None:
        """Its exit code; None if its time was over, and it was ended."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            advance(0)
            try:
                return int(self.api.wait(container, timeout=min(left_s, 1))["StatusCode"])
            except (requests.ReadTimeout, requests.ConnectionError):
                # The SDK reports the end of its patience as either; a dead Engine does not answer this.
                self.api.inspect_container(container)
        with contextlib.suppress(docker.errors.APIError):  # it ended by itself just now
            self.api.kill(container)
        return None

    def file_tree(self, ref: str) -> dict[str, Entry]:
        """Every file of the image: path -> entry. (And Docker's mount points: /dev, /proc ...)"""
        with self.errors(f"read {ref}"):
            container = self.api.create_container(ref, ["-"], entrypoint=["-"], use_config_proxy=False)["Id"]
            try:
                return file_tree(self.api.export(container))
            finally:
                self._drop_container(container)

    def config(self, ref: str) -> dict[str, Any]:
        """The image's configuration (OCI config.md, "config") without empty fields and Docker's own."""
        with self.errors(f"look at {ref}"):
            config = self.api.inspect_image(ref)["Config"]
        fields = (
            "User",
            "ExposedPorts",
            "Env",
            "Entrypoint",
            "Cmd",
            "Volumes",
            "WorkingDir",
            "Labels",
            "StopSignal",
        )
        return {name: config[name] for name in fields if config.get(name)}

    def facts(self, ref: str) -> ImageFacts:
        """What the Engine knows of the image `ref`."""
        with self.errors(f"look at {ref}"):
            found = self.api.inspect_image(ref)
        return ImageFacts(found["Id"], len(found["RootFS"].get("Layers") or []), found["Size"])

    def images_with_label(self, label: str) -> list[str]:
        """IDs of the images that carry `label` ("name" or "name=value"), sorted."""
        with self.errors("list its images"):
            return sorted({image["Id"] for image in self.api.images(filters={"label": label})})

    def tags(self, name: str) -> list[str]:
        """The tags "name:tag" of the images called `name`, sorted."""
        with self.errors("list its images"):
            return sorted({tag for image in self.api.images(name) for tag in image["RepoTags"] or []})

    def remove(self, ref: str) -> None:
        """Remove a tag, and the image with its last one; nothing happens if there is none."""
        with self.errors(f"remove {ref}"), contextlib.suppress(docker.errors.ImageNotFound):
            self.api.remove_image(ref, force=True)

    def prune(self) -> int:
        """Remove our images that no tag names any more; bytes freed. Other people's images stay."""
        with self.errors("prune"):
            pruned = self.api.prune_images(filters={"dangling": True, "label": [RECIPE_LABEL]})
            return int(pruned["SpaceReclaimed"])

    def has_gpu(self) -> bool:
        """Can containers get a GPU: a runtime or CDI that hands it in, and a device."""
        return self._gpu_request() is not None

    def _gpu_request(self) -> DeviceRequest | None:
        return gpu_request(self._info(), device_seen(self.address))

    def containerd_store(self) -> bool:
        """Does it keep images as containerd does (Docker 29's default)? IDs are manifest digests there."""
        status = self._info().get("DriverStatus") or []
        return any(str(value).startswith("io.containerd.snapshotter") for _name, value in status)

    def folder(self) -> Path | None:
        """Where it keeps images, if that is a folder of this machine."""
        folder = Path(self._info().get("DockerRootDir") or "")
        here = self.address.startswith("unix:") and folder.is_absolute() and folder.exists()
        return folder if here else None

    def _info(self) -> dict[str, Any]:
        with self.errors("describe itself"):
            return dict(self.api.info())

    def _drop_container(self, container: str) -> None:
        with contextlib.suppress(docker.errors.NotFound, requests.RequestException):
            self.api.remove_container(container, force=True, v=True)

    def errors(self, doing: str) -> AbstractContextManager[None]:
        """Turn what the SDK raises inside the block into our errors; see `engine_errors`."""
        return engine_errors(self.address, doing)
