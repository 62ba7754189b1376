"""A throw-away Engine: empty at its start, gone at its end, so that what is pulled truly was pulled.

It keeps everything in a folder of its own below `<cache>/fresh` and changes nothing of the machine: no
firewall rules, no other socket; its containers have no network. Of the machine's own Docker it takes over
how GPUs reach containers and how registries are reached (/etc/docker/daemon.json). A folder is held by the
process that uses it: the Engines of processes that were killed are ended and removed by the next one.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from trtforge.engine.engine import Engine
from trtforge.engine.own import OwnEngine, find_dockerd
from trtforge.engine.setup import find_engine
from trtforge.errors import EnvironmentLack
from trtforge.held import is_held, make_held

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MACHINE_SETTINGS = Path("/etc/docker/daemon.json")

TAKEN_OVER = (
    "runtimes",
    "default-runtime",
    "features",
    "cdi-spec-dirs",
    "exec-opts",
    "registry-mirrors",
    "insecure-registries",
    "proxies",
)
"""How the machine's containers get GPUs, and how its Engine reaches registries (dockerd's daemon.json)."""

OPTIONS = (
    "--iptables=false",
    "--ip6tables=false",
    "--ip-forward=false",
    "--ip-masq=false",
    "--shutdown-timeout=5",
    "--containerd-namespace=trtforge-fresh",
)
"""The machine's network stays as it is. Not --bridge=none: that deletes docker0, whoever else uses it (moby,
daemon_unix.go: removeDefaultBridgeInterface); otherwise docker0 is taken as it is found. The namespace is for
a containerd that runs already, which dockerd uses then."""


@contextmanager
def fresh_engine(cache: Path, insecure: Sequence[str] = (), ca: Path | None = None) -> Iterator[Engine]:
    """A throw-away Engine while the block runs; where none can be started, the Engine at hand.

    Which of the two it is, its `disposable` says. Starting takes a second or two; images that are pulled
    into one share their layers there.

    Args:
        cache: the project's cache.
        insecure: registries ("host:port") it may speak to without TLS, besides those on loopback.
        ca: certificates that it trusts instead of the system's.

    Raises:
        EnvironmentLack: neither can be had.
    """
    with ExitStack() as stack:
        try:
            engine = stack.enter_context(_throw_away(cache.resolve() / "fresh", insecure, ca))
        except EnvironmentLack:
            at_hand = find_engine(cache)
            if at_hand is None:
                raise
            engine = Engine.connect(at_hand)
        yield engine


@contextmanager
def _throw_away(parent: Path, insecure: Sequence[str], ca: Path | None) -> Iterator[Engine]:
    dockerd = find_dockerd()
    if os.geteuid() != 0 or dockerd is None:
        raise EnvironmentLack(
            "no throw-away Docker Engine can be started here",
            ("found", "not root" if dockerd else "no dockerd"),
            ("next", "make engine (as root), or set DOCKER_HOST to an Engine that runs"),
        )
    parent.mkdir(parents=True, exist_ok=True)
    with FileLock(parent / "lock"):
        _sweep(parent)
        home, held = make_held(parent)
    own = OwnEngine.at(home)
    config = home / "daemon.json"
    # Go's crypto/x509 reads this variable; what Docker itself offers are folders in /etc/docker/certs.d.
    trusted = {"SSL_CERT_FILE": str(ca.resolve())} if ca else {}
    try:
        config.write_text(json.dumps(settings(MACHINE_SETTINGS, insecure)), encoding="utf-8")
        own.start(dockerd, f"--config-file={config}", *OPTIONS, environment=trusted)
        yield Engine.connect(own.address, disposable=True)
    finally:
        _remove(own)
        os.close(held)


def settings(machine: Path, insecure: Sequence[str]) -> dict[str, Any]:
    """The daemon.json of a throw-away Engine on a machine whose own Engine has the settings `machine`."""
    try:
        found = json.loads(machine.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    taken = {name: found[name] for name in TAKEN_OVER if name in found} if isinstance(found, dict) else {}
    taken["insecure-registries"] = sorted({*taken.get("insecure-registries", []), *insecure})
    # The classic image store keeps all it has in the Engine's folder, which is deleted at the end.
    taken["features"] = {**taken.get("features", {}), "containerd-snapshotter": False}
    return taken


def _sweep(parent: Path) -> None:
    """End and remove the Engines of processes that were killed."""
    for home in sorted(path for path in parent.iterdir() if path.is_dir() and not is_held(path)):
        _remove(OwnEngine.at(home))


def _remove(own: OwnEngine) -> None:
    with suppress(EnvironmentLack):  # it does not end by itself
        own.stop()
    own.kill()
    own.unmount()
    for place in {own.home, own.run}:
        shutil.rmtree(place, ignore_errors=True)
