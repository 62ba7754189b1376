"""A real Engine: images loaded by layers, built from a Dockerfile, run, read back and smoke-tested.

The images hold the Python that runs these tests and the libraries it needs, so nothing is downloaded.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.gzip_layers import gzip_layer
from trtforge.dockerfile import read_dockerfile
from trtforge.engine import setup as engine_setup
from trtforge.engine.docker_archive import LoadableImage
from trtforge.engine.docker_builder import build_with_docker
from trtforge.engine.engine import RECIPE_LABEL, Engine
from trtforge.engine.file_tree import differences
from trtforge.engine.own import OwnEngine
from trtforge.engine.setup import ensure_engine, find_engine, stop_engine
from trtforge.errors import BuildError
from trtforge.oci import EPOCH, canonical_json
from trtforge.progress import Silent
from trtforge.smoke import smoke
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trtforge.oci import Layer

pytestmark = pytest.mark.e2e

SMOKE = Path(__file__).parents[2] / "smoke"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An Engine of these tests' own where one can be started: they prune while others build."""
    cache = tmp_path_factory.mktemp("cache")
    if find_engine(cache) is None and os.geteuid() != 0:
        pytest.skip("no Docker Engine runs, and only root can start one")
    try:
        yield Engine.connect(ensure_engine(cache, own=os.geteuid() == 0))
    finally:
        stop_engine(cache)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def python_layer(store: Store) -> Layer:
    return gzip_layer(store, host_python())


def host_python() -> bytes:
    """A tar with this machine's Python, its standard library and the shared libraries they need."""
    executable = Path(sys.executable).resolve()
    stdlib = Path(sysconfig.get_path("stdlib"))
    programs = [executable, *(stdlib / "lib-dynload").glob("*.so")]
    listing = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    libraries = set(re.findall(r"(/\S+) \(0x", listing))

    def neat(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if re.search(
            r"/(__pycache__|test|dist-packages|site-packages|ensurepip|idlelib)$", "/" + member.name
        ):
            return None
        member.mtime, member.uid, member.gid, member.uname, member.gname = EPOCH, 0, 0, "", ""
        return member

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", dereference=True) as tar:
        for path in [str(executable), *sorted(libraries)]:
            tar.add(path, filter=neat)
        tar.add(stdlib, filter=neat)
        python = tarfile.TarInfo("usr/local/bin/python")
        python.type, python.linkname = tarfile.SYMTYPE, str(executable)
        tar.addfile(python)
    return out.getvalue()


def image(layers: list[Layer], tag: str, **config: object) -> LoadableImage:
    labels = {RECIPE_LABEL: tag}
    configuration = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/usr/local/bin:/usr/bin"], "Labels": labels, "User": "1000", **config},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    }
    return LoadableImage(canonical_json(configuration), tuple(layers), (tag,))


def folder_layer(store: Store, files: dict[str, bytes]) -> Layer:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(data), EPOCH, 0o644
            tar.addfile(member, io.BytesIO(data))
    return gzip_layer(store, out.getvalue())


@pytest.fixture(scope="module")
def base(engine: Engine, store: Store, python_layer: Layer) -> Iterator[LoadableImage]:
    loadable = image([python_layer], "trtforge-test/base:1")
    engine.load(loadable, store, Silent())
    yield loadable
    engine.remove(loadable.tags[0])


def test_a_loaded_image_is_the_one_that_was_sent_and_runs(engine: Engine, base: LoadableImage) -> None:
    assert engine.has(base.tags[0])
    assert engine.config(base.tags[0])["User"] == "1000"
    run = engine.run(base.tags[0], ["python", "-c", "import os, sys; print(os.getuid()); sys.exit(3)"])
    assert (run.exit_code, run.stdout) == (3, "1000\n")
    assert len(engine.images_with_label(f"{RECIPE_LABEL}={base.tags[0]}")) == 1
    assert not engine.has("trtforge-test/base:2")


def test_only_the_new_layer_of_a_second_image_is_sent(
    engine: Engine, store: Store, base: LoadableImage, tmp_path: Path
) -> None:
    if engine.containerd_store():
        pytest.skip("the containerd image store takes whole images only")
    (python_layer,) = base.layers
    new = folder_layer(store, {"hello": b"hello from the second layer\n"})
    second = image([python_layer, new], "trtforge-test/second:1")
    assert engine.layers_present([layer.diff_id for layer in second.layers]) == 1
    # A store that lacks the first layer's blob proves that it is not read.
    partial = Store(tmp_path)
    shutil.copytree(store.blob(new.digest).parent, partial.blob(new.digest).parent)
    partial.blob(python_layer.digest).unlink()
    try:
        assert engine.load(second, partial, Silent()) == second.id
        script = "print(open('/hello').read(), end='')"
        assert engine.run(second.tags[0], ["python", "-c", script]).stdout == "hello from the second layer\n"
        assert engine.layers_present([layer.diff_id for layer in second.layers]) == 2
        assert engine.load(second, Store(tmp_path / "empty"), Silent()) == second.id  # nothing is sent
    finally:
        engine.remove(second.tags[0])
    assert not engine.has(second.tags[0])


def test_a_damaged_blob_is_found_before_the_image_exists(
    engine: Engine, store: Store, base: LoadableImage, tmp_path: Path
) -> None:
    good = folder_layer(store, {"data": os.urandom(100_000)})
    damaged = Store(tmp_path)
    shutil.copytree(store.blob(good.digest).parent, damaged.blob(good.digest).parent)
    damaged.blob(good.digest).write_bytes(store.blob(good.digest).read_bytes()[:-1000])
    broken = image([*base.layers, good], "trtforge-test/broken:1")
    with pytest.raises(BuildError) as error:
        engine.load(broken, damaged, Silent())
    assert error.value.fact("blob") == str(damaged.blob(good.digest))
    assert not engine.has(broken.tags[0])


def test_contents_that_are_not_the_configuration_s_are_refused(
    engine: Engine, store: Store, base: LoadableImage
) -> None:
    one, other = folder_layer(store, {"a": b"1"}), folder_layer(store, {"a": b"2"})
    swapped = image([*base.layers, one], "trtforge-test/swapped:1")
    swapped = replace(swapped, layers=(*base.layers, replace(one, digest=other.digest)))
    with pytest.raises(BuildError):
        engine.load(swapped, store, Silent())
    assert not engine.has(swapped.tags[0])


WATCHED = """\
EXPOSE 8000 9000/udp
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \\
    CMD ["python", "-c", "pass"]
"""


def test_both_builders_give_the_same_image(
    engine: Engine, store: Store, base: LoadableImage, tmp_path: Path
) -> None:
    layer = folder_layer(store, {"opt/one": b"1", "opt/two": b"22"})
    (tmp_path / "layers").mkdir()
    (tmp_path / "layers" / "one.tar.gz").symlink_to(store.blob(layer.digest))
    (tmp_path / "Dockerfile").write_text(
        f'FROM {base.tags[0]}\nADD layers/one.tar.gz /\nENV A=b\nLABEL {RECIPE_LABEL}="x"\nUSER 1001\n'
        f"{WATCHED}"
    )
    _, ports, check = read_dockerfile(f"FROM x\n{WATCHED}")
    ours = image(
        [*base.layers, layer],
        "trtforge-test/ours:1",
        User="1001",
        Env=["PATH=/usr/local/bin:/usr/bin", "A=b"],
        Labels={RECIPE_LABEL: "x"},
        ExposedPorts={port: {} for port in ports.ports()},
        Healthcheck=check.health_check(),
    )
    names = ["trtforge-test/theirs:1", "trtforge-test/theirs:again"]
    try:
        loaded = engine.load(ours, store, Silent())
        built = build_with_docker(tmp_path, names, engine, Silent())
        assert engine.config(names[1]) == engine.config(ours.tags[0])
        assert differences(engine.file_tree(built), engine.file_tree(loaded)) == []
        assert engine.file_tree(built)["opt/two"].size == 2
    finally:
        for name in (*names, *ours.tags):
            engine.remove(name)


def test_a_failing_step_is_named_with_its_output(engine: Engine, base: LoadableImage, tmp_path: Path) -> None:
    script = "print('the last words'); raise SystemExit(4)"
    (tmp_path / "Dockerfile").write_text(f'FROM {base.tags[0]}\nRUN ["python", "-c", "{script}"]\n')
    with pytest.raises(BuildError) as error:
        build_with_docker(tmp_path, ["trtforge-test/fails:1"], engine, Silent())
    assert (error.value.fact("step") or "").startswith("Step 2/2 : RUN")
    assert ("output", "the last words") in error.value.facts


def test_a_container_that_takes_too_long_is_ended_and_removed(engine: Engine, base: LoadableImage) -> None:
    script = "import time; print('started', flush=True); time.sleep(600)"
    before = len(engine.api.containers(all=True))
    run = engine.run(base.tags[0], ["python", "-c", script], timeout_s=3)
    assert (run.exit_code, run.stdout) == (None, "started\n")
    assert len(engine.api.containers(all=True)) == before


def test_an_interrupt_removes_the_container(engine: Engine, base: LoadableImage) -> None:
    before = len(engine.api.containers(all=True))
    timer = threading.Timer(3, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        engine.run(base.tags[0], ["python", "-c", "import time; time.sleep(600)"])
    assert len(engine.api.containers(all=True)) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start an Engine")
def test_an_engine_of_ours_that_was_killed_starts_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(engine_setup, "default_address", lambda: f"unix://{tmp_path}/absent.sock")
    own = OwnEngine.under(tmp_path)
    address = ensure_engine(tmp_path, own=True)
    pid = own.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while own.pid() == pid:
        time.sleep(0.1)
    try:
        assert ensure_engine(tmp_path, own=True) == address
        assert own.pid() not in (None, pid)
    finally:
        stop_engine(tmp_path)
        # What dockerd mounts over its data, and unmounts if it may end in peace.
        subprocess.run(["umount", own.home / "data"], check=False)
    assert find_engine(tmp_path) is None
    assert own.run == own.home or not own.run.exists()


def test_pruning_removes_our_untagged_images_only(engine: Engine, store: Store, base: LoadableImage) -> None:
    def load(content: bytes, **config: object) -> str:
        layers = [*base.layers, folder_layer(store, {"x": content})]
        return engine.load(image(layers, "trtforge-test/prune:1", **config), store, Silent())

    ours, foreign = load(b"ours"), load(b"foreign", Labels={})
    load(b"the last one gets the tag")
    kept = engine.has(foreign)  # the containerd image store drops it itself
    engine.prune()
    assert not engine.has(ours)
    assert engine.has(foreign) == kept
    assert engine.has("trtforge-test/prune:1")
    engine.remove(foreign)
    engine.remove("trtforge-test/prune:1")


def smoke_image(engine: Engine, store: Store, base: LoadableImage, name: str, **changes: object) -> str:
    expected = {
        "image": "os",
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "user": "trt",
        **changes,
    }
    files = {
        f"opt/smoke/{path.relative_to(SMOKE)}": path.read_bytes() for path in sorted(SMOKE.rglob("*.py"))
    }
    files["opt/smoke/expected.json"] = json.dumps(expected).encode()
    files["etc/passwd"] = b"root:x:0:0::/root:/bin/sh\ntrt:x:1000:1000::/home/trt:/bin/sh\n"
    loadable = image([*base.layers, folder_layer(store, files)], f"trtforge-test/{name}:1")
    engine.load(loadable, store, Silent())
    return loadable.tags[0]


def test_a_good_image_passes_its_smoke_tests(engine: Engine, store: Store, base: LoadableImage) -> None:
    ref = smoke_image(engine, store, base, "smoke-good")
    report = smoke(engine, ref, gpu=False)
    engine.remove(ref)
    assert report.ok, report
    assert [(result.name, result.status) for result in report.results] == [
        ("python", "passed"),
        ("user", "passed"),
    ]


def test_a_broken_image_fails_its_smoke_tests(engine: Engine, store: Store, base: LoadableImage) -> None:
    wrong = {"python": "2.7", "torch": {"version": "1", "cuda": "1"}, "bytecode": "ours"}
    ref = smoke_image(engine, store, base, "smoke-broken", **wrong)
    report = smoke(engine, ref, gpu=False)
    engine.remove(ref)
    assert not report.ok
    status = {result.name: result.status for result in report.results}
    assert status["user"] == "passed"
    assert {status["python"], status["torch_build"], status["bytecode"]} == {"failed"}


def test_an_image_without_smoke_tests_fails(engine: Engine, base: LoadableImage) -> None:
    report = smoke(engine, base.tags[0], gpu=False)
    assert not report.ok
    assert "can't find '__main__'" in str(report.results[0].detail) or "No such file" in str(
        report.results[0].detail
    )
