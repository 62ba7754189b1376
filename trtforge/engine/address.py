"""Where a Docker Engine is, and whether it answers: DOCKER_HOST, docker's contexts, the default socket."""

from __future__ import annotations

import os

import docker
import docker.errors
import requests
from docker.context import ContextAPI
from docker.utils import kwargs_from_env

from trtforge.errors import EnvironmentLack

DEFAULT_SOCKET = "unix:///var/run/docker.sock"


def default_address() -> str:
    """The address that the `docker` command would use: DOCKER_HOST, its context, the default socket."""
    if address := os.environ.get("DOCKER_HOST"):
        return address
    try:
        context = ContextAPI.get_current_context()
    except (docker.errors.DockerException, OSError, ValueError):  # a broken ~/.docker is no reason to give up
        return DEFAULT_SOCKET
    host = context.Host if context else None
    return host.replace("http+unix://", "unix://") if host else DEFAULT_SOCKET


def open_api(address: str, silence_s: float) -> docker.APIClient:
    """A client of the Engine at `address` that speaks the Engine's own API version.

    Args:
        address: "unix:///path", "tcp://host:port" or "ssh://host".
        silence_s: seconds to wait for each answer.

    Raises:
        EnvironmentLack: nothing answers there, or not to this user.
    """
    tls = kwargs_from_env() if address == os.environ.get("DOCKER_HOST") else {}
    try:
        return docker.APIClient(
            address,
            version="auto",
            timeout=silence_s,  # type: ignore[arg-type]
            tls=tls.get("tls", False),
            use_ssh_client=address.startswith("ssh://"),
        )
    except (docker.errors.DockerException, requests.RequestException, OSError, ValueError) as error:
        raise _no_engine(address, str(error)) from error


def answers(address: str, patience_s: float = 5) -> bool:
    """Does an Engine at `address` answer this user within `patience_s` seconds?"""
    try:
        open_api(address, patience_s).close()
    except EnvironmentLack:
        return False
    return True


def _no_engine(address: str, reason: str) -> EnvironmentLack:
    if "Permission denied" in reason:
        remedy = "add yourself to the group docker (sudo usermod -aG docker $USER) and log in again"
        return EnvironmentLack(f"the Docker Engine at {address} refuses this user", ("next", remedy))
    return EnvironmentLack(
        f"no Docker Engine answers at {address}",
        ("reason", reason.splitlines()[0] if reason else "no answer"),
        ("next", "make engine (starts one), or set DOCKER_HOST to one that runs"),
    )
