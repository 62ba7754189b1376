"""Publishing, measured: `python -m bench.publish [--rounds 1] [--skip-buildah]`.

The cell's wheels and its OS layer are there, the registry (docker-registry on loopback) is empty each time;
then in turn:

    docker    `docker build` + `docker push` of a Dockerfile that a person would write: the same OS as a tar,
              `pip install` of the same wheels from a server on loopback
    buildah   the same with `buildah bud` + `buildah push`
    push      `build.py push`: wheels -> layers -> images -> registry
    again     the same when the store has the layers, and the registry nothing
    eight     `push` of eight cells that share torch, as `push` with wheels alone
    publish   `build.py publish` of one cell: push, pull into a clean Engine, tests, tags

docker and buildah do not test; so `push` is what they are compared with.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from bench.main_job import CELL, ROOT, empty_store, sources_of, timed
from tests.docker_registry import docker_registry
from trtforge.layers.sources import OsSource, WheelSource
from trtforge.project import Project
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trtforge.index.pins import Pin

RESULTS = ROOT / "bench" / "results"

DOCKER = shutil.which("docker", path="/usr/bin") or "docker"
"""The distribution's own client before any other on the path, which may want a buildx plugin."""

EIGHT = ("--cuda", "12.8,12.1,12.4,12.6", "--arch", "ampere,turing", "--tensorrt", "rtx")

DOCKERFILE = """\
FROM scratch
ADD os.tar.gz /
ENV PATH="/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" LANG="C.UTF-8"
COPY requirements.txt {pip} /tmp/
RUN /opt/venv/bin/python /tmp/{pip}/pip install --no-cache-dir --no-index --no-deps \\
    --find-links http://127.0.0.1:{port}/ -r /tmp/requirements.txt && rm /tmp/requirements.txt /tmp/{pip}
COPY smoke/ /opt/smoke/
ENV NVIDIA_VISIBLE_DEVICES="all" NVIDIA_DRIVER_CAPABILITIES="compute,utility"
USER 1000:1000
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["python"]
"""


@contextmanager
def wheel_server(folder: Path) -> Iterator[int]:
    """A server of the files in `folder` on loopback; its port."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def hand_written(project: Project, full: Store, folder: Path, wheels: Path, port: int) -> None:
    """Write the build context of the Dockerfile to `folder`, and the wheels it installs to `wheels`."""
    pins: dict[str, Pin] = {}
    for source in sources_of(project):
        if isinstance(source, OsSource):
            layer = full.layer(source.key)
            assert layer is not None
            folder.mkdir(parents=True)
            shutil.copyfile(full.blob(layer.digest), folder / "os.tar.gz")
        else:
            pins |= {pin.filename: pin for pin in source.pins}
    wheels.mkdir(parents=True, exist_ok=True)
    for pin in pins.values():
        os.link(full.file("wheels", pin.sha256, pin.filename), wheels / pin.filename)
    pip = next(name for name in pins if name.startswith("pip-"))
    shutil.copyfile(wheels / pip, folder / pip)
    shutil.copytree(ROOT / "smoke", folder / "smoke", ignore=shutil.ignore_patterns("__pycache__"))
    lines = [f"{pin.name}=={pin.version}" for pin in sorted(pins.values(), key=lambda pin: pin.name)]
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n")
    (folder / "Dockerfile").write_text(DOCKERFILE.format(pip=pip, port=port))


def ran(command: list[str], **environment: str) -> float:
    """Run `command`; its wall seconds."""
    start = time.perf_counter()
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout.decode()[-3000:]}")
    return time.perf_counter() - start


def with_docker(context: Path, registry: str) -> list[float]:
    """Seconds of build and push."""
    ref = f"{registry}/hand-written:latest"
    build = [DOCKER, "build", "--no-cache", "--network", "host", "--tag", ref, str(context)]
    try:
        return [ran(build, DOCKER_BUILDKIT="1"), ran([DOCKER, "push", "--quiet", ref])]
    finally:
        subprocess.run([DOCKER, "rmi", "--force", ref], capture_output=True, check=False)
        subprocess.run([DOCKER, "builder", "prune", "--force", "--all"], capture_output=True, check=False)


def with_buildah(context: Path, registry: str, scratch: Path) -> list[float]:
    """Seconds of build and push."""
    ref = f"{registry}/buildah:latest"
    buildah = ["buildah", "--root", str(scratch / "root"), "--runroot", str(scratch / "run")]
    bud = ["bud", "--isolation", "chroot", "--network", "host", "--no-cache", "--tag", ref, str(context)]
    try:
        return [ran([*buildah, *bud]), ran([*buildah, "push", "--quiet", "--tls-verify=false", ref])]
    finally:
        subprocess.run([*buildah, "rmi", "--all", "--force"], capture_output=True, check=False)


def bytes_in(folder: Path) -> int:
    """Bytes of the blobs that a registry keeps in `folder`."""
    return sum(file.stat().st_size for file in (folder / "data").rglob("data") if file.is_file())


def unique_bytes(cache: Path, answer: Any) -> int:
    """Bytes of the distinct blobs of all images that `push --json` names, manifests included."""
    store = Store(cache / "store")
    blobs: dict[str, int] = {}
    for digest in {image["digest"] for cell in answer for image in cell["images"]}:
        body = store.read_blob(digest)
        assert body is not None
        manifest = json.loads(body)
        blobs[digest] = len(body)
        blobs |= {part["digest"]: part["size"] for part in (manifest["config"], *manifest["layers"])}
    return sum(blobs.values())


def moved(project: Project) -> dict[str, list[int]]:
    """For each smaller wheel of the cell: its bytes, and those of the layer that moves if it changes."""
    found = {}
    for source in sources_of(project):
        layer = project.store.layer(source.key)
        if isinstance(source, WheelSource) and source.interpreter and len(source.pins) == 1 and layer:
            found[source.pins[0].name] = [source.pins[0].size or 0, layer.size]
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=1)
    arguments.add_argument("--skip-buildah", action="store_true")
    options = arguments.parse_args()
    project = Project(ROOT)
    build = [sys.executable, "build.py"]
    timed([*build, *CELL, "--json", "--no-load"], project.cache)  # whatever is missing is made now
    scratch, full = project.cache / "bench", project.store
    shutil.rmtree(scratch, ignore_errors=True)
    seconds: dict[str, list[list[float]]] = {}
    growth: dict[str, int] = {}

    def ours(name: str, line: list[str], cache: Path) -> None:
        data = scratch / "registry"
        data.mkdir(parents=True)
        with docker_registry(data) as host:
            os.sync()
            run, printed = timed([*build, *line, "--registry", f"{host}/trtforge", "--json"], cache)
            seconds.setdefault(name, []).append([run.seconds])
            if name == "eight":
                growth["registry"] = bytes_in(data)
                growth["unique"] = unique_bytes(cache, json.loads(printed))
        shutil.rmtree(data)

    def theirs(name: str) -> None:
        data, context, wheels = scratch / "registry", scratch / "context", scratch / "wheels"
        data.mkdir(parents=True)
        wheels.mkdir()
        with docker_registry(data) as host, wheel_server(wheels) as port:
            hand_written(project, full, context, wheels, port)
            os.sync()
            tool = with_docker(context, host) if name == "docker" else with_buildah(context, host, scratch)
            seconds.setdefault(name, []).append([sum(tool), *tool])
        shutil.rmtree(scratch)

    lock = project.lock_file.read_bytes()  # some of the eight cells are not locked; they are for a while
    try:
        measure(options, theirs, ours, lambda: empty_store(full.root, scratch / "cache", project))
    finally:
        project.lock_file.write_bytes(lock)
        shutil.rmtree(scratch, ignore_errors=True)
    report(seconds, growth, moved(project))


def measure(
    options: argparse.Namespace,
    theirs: Callable[[str], None],
    ours: Callable[[str, list[str], Path], None],
    emptied: Callable[[], Path],
) -> None:
    """Run every program, in turn."""
    for _ in range(options.rounds):
        theirs("docker")
        if not options.skip_buildah:
            theirs("buildah")
        cache = emptied()
        ours("push", ["push", *CELL], cache)
        ours("again", ["push", *CELL], cache)
        ours("eight", ["push", *EIGHT], emptied())
        ours("publish", ["publish", *CELL], emptied())


def report(
    seconds: dict[str, list[list[float]]], growth: dict[str, int], wheels: dict[str, list[int]]
) -> None:
    """Write bench/results/publish.json and .md."""
    medians = {name: statistics.median(run[0] for run in runs) for name, runs in seconds.items()}
    push = medians["push"]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    facts = {
        "machine": machine,
        "medians": medians,
        "runs": seconds,
        "docker / push": round(medians["docker"] / push, 1),
        "eight / push": round(medians["eight"] / push, 2),
        "registry bytes / unique bytes": round(growth["registry"] / growth["unique"], 4),
        **growth,
        "changed wheel -> moved layer": wheels,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "publish.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    rows = [
        f"| {name} | {medians[name]:.1f} | {', '.join(map(parts, runs))} | {medians[name] / push:.2f} |"
        for name, runs in seconds.items()
    ]
    changed = [
        f"| {name} | {size / 1e6:.2f} | {layer / 1e6:.2f} |"
        for name, (size, layer) in sorted(wheels.items(), key=lambda item: item[1])
    ]
    text = f"""\
# Publishing

Written by `bench/publish.py`, which says what each program does. One full torch + TensorRT-RTX image;
{machine}; {len(seconds["push"])} round(s), medians.

| program | seconds | of (build + push) | x push |
|---|---|---|---|
{chr(10).join(rows)}

`docker build` + `docker push` takes {medians["docker"] / push:.1f} times as long as `push`.
Eight cells take {medians["eight"] / push:.2f} times as long as one; the registry then holds
{growth["registry"] / 1e9:.3f} GB for {growth["unique"] / 1e9:.3f} GB of distinct blobs.

A wheel that changes moves its own layer, with its bytecode (and some kB of manifests and configurations):

| wheel | MB | moves MB |
|---|---|---|
{chr(10).join(changed)}
"""
    (RESULTS / "publish.md").write_text(text, encoding="utf-8")
    print(text)


def parts(run: list[float]) -> str:
    """One run's seconds, with those of its two halves."""
    return f"{run[0]:.1f}" + (f" ({run[1]:.1f} + {run[2]:.1f})" if len(run) > 1 else "")


if __name__ == "__main__":
    main()
