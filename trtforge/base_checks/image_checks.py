"""The checks of an image's configuration: what it tells, whatever is in it. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from packaging.version import Version

from trtforge.base_checks.check import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trtforge.base import Base
    from trtforge.base_checks.candidate import Candidate

MOST_LAYERS = 127
"""Docker's overlay2 driver takes no more (moby, daemon/graphdriver/overlay2: maxDepth is 128)."""

ADDED_LAYERS = 30
"""What an image of ours adds at most: 20 wheels and a bundle, the large ones, links, trtkit, tests."""

_SECRET = re.compile(
    r"(?i)(token|secret|passw|passphrase|api_?key|access_?key|private_?key|credential|_auth\b)"
)
_ASSIGNED = re.compile(r"\b([A-Za-z_][A-Za-z0-9_]*)=(?:\S+)")

_SETTINGS = ("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES")


def image_checks(candidate: Candidate) -> Iterator[Check]:
    """What the image's configuration tells, whatever is in it."""
    yield _digest(candidate)
    yield _layers(candidate)
    yield _user(candidate)
    yield _onbuild(candidate)
    yield _secrets(candidate)
    yield _nvidia(candidate)


def _digest(candidate: Candidate) -> Check:
    rule = "matrix.yaml names a base by digest, which is one image for ever"
    if not candidate.pinned:
        remedy = "docker push it; then verify-base registry/name:tag tells the digest"
        return Check("base-digest", "warning", "it is in this Engine alone, in no registry", rule, remedy)
    if "@" in candidate.asked:
        return Check("base-digest", "passed", candidate.image.digest, rule)
    return Check(
        "base-digest", "warning", f"a tag, which moves; now {candidate.pinned}", rule, "take the line below"
    )


def _layers(candidate: Candidate) -> Check:
    count, rule = (
        len(candidate.image.layers),
        f"its layers and ours are {MOST_LAYERS} at most: Docker takes no more",
    )
    if count + ADDED_LAYERS <= MOST_LAYERS:
        return Check("base-layers", "passed", f"{count} layers", rule)
    status: Literal["failed", "warning"] = "failed" if count >= MOST_LAYERS else "warning"
    found = f"{count} layers, and ours are up to {ADDED_LAYERS}"
    return Check(
        "base-layers", status, found, rule, "merge some: fewer RUN, COPY and ADD, or buildah bud --squash"
    )


def _user(candidate: Candidate) -> Check:
    user, rule = str(candidate.settings.get("User") or ""), "containers do not run as root"
    if user.partition(":")[0] not in ("", "root", "0"):
        return Check("base-user", "passed", user, rule)
    remedy = "it stays so in images on it; add USER to its Dockerfile, or run with --user"
    return Check("base-user", "warning", f"root ({'USER ' + user if user else 'no USER'})", rule, remedy)


def _onbuild(candidate: Candidate) -> Check:
    steps, rule = (
        candidate.settings.get("OnBuild") or [],
        "it has no ONBUILD, which only the docker builder follows",
    )
    if not steps:
        return Check("base-onbuild", "passed", "none", rule)
    return Check(
        "base-onbuild", "warning", "; ".join(steps), rule, "build with --builder docker, or take them out"
    )


def _secrets(candidate: Candidate) -> Check:
    rule = "no variable and no build argument looks like a secret: who pulls the image can read it"
    built = {name for command in candidate.commands for name in _build_arguments(command)}
    names = {name for name, value in candidate.environment.items() if value} | built
    found = sorted(name for name in names if _SECRET.search(name))
    if not found:
        return Check("base-secrets", "passed", f"none of {len(names)} names", rule)
    remedy = "build it again with RUN --mount=type=secret, and revoke what was in it"
    return Check("base-secrets", "warning", ", ".join(found), rule, remedy)


def _build_arguments(command: str) -> list[str]:
    """The names in "|2 A=b C=d /bin/sh -c ...", which is how Docker keeps the build arguments of a RUN."""
    found = re.match(r"(?:RUN )?\|\d+ (.*?)/bin/(?:ba)?sh", command, re.DOTALL)
    return _ASSIGNED.findall(found[1]) if found else []


def require_cuda(candidate: Candidate, base: Base) -> Check:
    """That its settings do not refuse drivers that would run its torch."""
    rule = "NVIDIA_REQUIRE_CUDA asks for no newer CUDA than its torch is built for"
    text = candidate.environment.get("NVIDIA_REQUIRE_CUDA", "")
    if not text:
        return Check("base-require-cuda", "passed", "not set: the cell's is added", rule)
    floor = _required(text)
    if not floor:
        return Check("base-require-cuda", "warning", f"{text!r} names no CUDA version", rule, "take it out")
    if not base.cuda or Version(floor) <= Version(base.cuda):
        found = f"cuda>={floor}, which stays: older drivers are refused, whatever the cell's CUDA"
        return Check("base-require-cuda", "passed", found, rule)
    found = f"cuda>={floor}: drivers that run torch {base.torch} are refused"
    remedy = f'ENV NVIDIA_REQUIRE_CUDA="cuda>={base.cuda}", or run with -e NVIDIA_DISABLE_REQUIRE=1'
    return Check("base-require-cuda", "warning", found, rule, remedy)


def _required(text: str) -> str:
    """The oldest CUDA that one of the alternatives (spaces) with all its conditions (commas) lets pass.

    Source: NVIDIA Container Toolkit, "NVIDIA_REQUIRE_*" constraints.
    """
    bounds = re.findall(r"(?:^|[\s,])cuda>=?([0-9]+(?:\.[0-9]+)?)", text)
    return min(bounds, key=Version, default="")


def _nvidia(candidate: Candidate) -> Check:
    rule = "the NVIDIA Container Toolkit gives its containers the GPUs, with compute"
    environment = candidate.environment
    devices = environment.get("NVIDIA_VISIBLE_DEVICES", "all")
    abilities = environment.get("NVIDIA_DRIVER_CAPABILITIES", "compute,utility")
    found = (
        ", ".join(f"{name}={value}" for name, value in environment.items() if name in _SETTINGS) or "none set"
    )
    if devices in ("void", "none", ""):
        remedy = "containers of it see no GPU unless they are told: -e NVIDIA_VISIBLE_DEVICES=all"
        return Check("base-nvidia", "warning", found, rule, remedy)
    if not {"all", "compute"} & set(abilities.split(",")):
        remedy = "add compute: without it there is no libcuda.so.1"
        return Check("base-nvidia", "warning", found, rule, remedy)
    return Check("base-nvidia", "passed", found, rule)
