"""From a real registry into a throw-away Engine: what is whole is tested, what is damaged is refused."""

from __future__ import annotations

import os
import random
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import PROJECT
from tests.docker_registry import blob_in, docker_registry, push
from tests.e2e.conftest import CACHE
from tests.stub_nvml import stub_nvml
from tests.test_fit import entry
from tests.tiny_image import tiny_image
from trtforge.engine.fresh import fresh_engine
from trtforge.engine.own import OwnEngine
from trtforge.errors import BuildError, EnvironmentLack, RequestError
from trtforge.machine import Gpu
from trtforge.progress import Silent
from trtforge.publishing.catalogue import update_catalogue
from trtforge.publishing.entry import attach_record
from trtforge.publishing.verify import verify_image
from trtforge.registry.namespace import Namespace
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trtforge.cells import Cells
    from trtforge.engine.engine import Engine
    from trtforge.image import Image

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start an Engine"),
]


@dataclass(frozen=True)
class Shop:
    """A registry with images that run. folder: its data; host: its address."""

    folder: Path
    host: str
    store: Store

    def publish(self, *contents: bytes) -> tuple[str, Image]:
        """The reference, by digest, of a new image with a layer for each of `contents`; and the image."""
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        image = tiny_image(self.store, work, *contents)
        push(self.store.oci, "tiny", f"{self.host}/team/tensorrt:1")
        return f"{self.host}/team/tensorrt@{image.digest}", image


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("registry")
    with docker_registry(folder) as host:
        yield Shop(folder, host, Store(folder / "store"))


@pytest.fixture(scope="module")
def cache() -> Iterator[Path]:
    """Beside the real cache: an Engine's data cannot lie on every file system."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="scratch-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def fresh(cache: Path) -> Iterator[Engine]:
    with fresh_engine(cache) as engine:
        yield engine


def test_an_image_is_pulled_and_tested(shop: Shop, fresh: Engine) -> None:
    reference, image = shop.publish(b"one")
    assert fresh.disposable
    report = verify_image(reference, fresh, Silent())
    assert report.ok
    assert [(result.name, result.status) for result in report.results] == [
        ("tiny", "passed"),
        ("gpu", "skipped"),
    ]
    assert fresh.facts(reference).layers == len(image.layers)


@pytest.mark.parametrize("harm", ["truncated", "tampered"])
def test_what_the_registry_holds_damaged_is_refused(harm: str, shop: Shop, fresh: Engine) -> None:
    reference, image = shop.publish(random.Random(harm).randbytes(50_000))
    blob = blob_in(shop.folder, image.layers[-1].digest)
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-1000] if harm == "truncated" else whole[:9000] + b"other" + whole[9005:])
    with pytest.raises(BuildError, match="the registry gave other bytes"):
        verify_image(reference, fresh, Silent())
    assert not fresh.has(reference)


def test_a_manifest_that_is_another_is_refused(shop: Shop, fresh: Engine) -> None:
    reference, image = shop.publish(b"manifest")
    blob = blob_in(shop.folder, image.digest)
    whole = blob.read_bytes()
    blob.write_bytes(whole.replace(b'"io.trtforge.unpacked":"', b'"io.trtforge.unpacked":"9'))
    assert blob.read_bytes() != whole
    with pytest.raises(BuildError, match="the registry gave other bytes"):
        verify_image(reference, fresh, Silent())


def test_what_is_not_there_is_said_so(shop: Shop, fresh: Engine) -> None:
    for name in (f"{shop.host}/team/absent@sha256:{'0' * 64}", f"{shop.host}/team/tensorrt:never"):
        with pytest.raises(RequestError, match="has no image"):
            fresh.pull(name, Silent())
    with pytest.raises(EnvironmentLack, match=r"does not give 127\.0\.0\.1:1/x:1"):
        fresh.pull("127.0.0.1:1/x:1", Silent())


@pytest.fixture(scope="module")
def team(shop: Shop, cells: Cells) -> str:
    """A namespace with one published image: the tiny one, said to be of the cell cu12.1-ampere."""
    reference, image = shop.publish(b"published")
    one = entry(cells, cuda="12.1", arch="ampere", tensorrt="rtx")
    one = one.model_copy(update={"digest": image.digest, "smoke": None})
    with Namespace.open(f"{shop.host}/team") as namespace:
        repository = namespace.repository("tensorrt")
        found = repository.find_manifest(reference.partition("@")[2])
        assert found
        attach_record(one, found, repository)
        for tag in (one.dated, *one.tags):
            repository.put_manifest(found.body, found.media_type, tag)
        update_catalogue(namespace, [one], Silent())
    return f"{shop.host}/team"


def type_pull(words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "build.py", "pull", *words.split()],
        cwd=PROJECT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_what_is_published_is_pulled_named_and_runs(team: str, fresh: Engine) -> None:
    words = f"--cuda 12.1 --arch ampere --smoke --registry {team}"
    done = type_pull(words, DOCKER_HOST=fresh.address)
    assert done.returncode == 0, done.stderr + done.stdout
    exact = "rtx1.7.1.116-pt2.9.1-cu12.1-ampere"
    for name in (f"{team}/tensorrt", "trtforge/tensorrt"):
        assert fresh.has(f"{name}:cu12.1-ampere")
        assert fresh.has(f"{name}:{exact}")
    assert "no GPU" in done.stdout
    (line,) = [text.strip() for text in done.stdout.splitlines() if "docker run" in text]
    words_of_line = shlex.split(line)
    assert words_of_line[:4] == ["docker", "run", "--rm", "trtforge/tensorrt:cu12.1-ampere"]
    assert fresh.run(words_of_line[3], words_of_line[4:]).exit_code == 0


def test_the_machine_decides_where_nothing_is_said(team: str, shop: Shop, tmp_path: Path) -> None:
    a10 = stub_nvml(tmp_path / "a10", "535.104.05", [Gpu(0, "NVIDIA A10", "86")])
    done = type_pull(f"--print --registry {team}", **a10)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"docker pull {team}/tensorrt@sha256:[0-9a-f]{{64}}\n", done.stdout)
    assert "GPU 0, NVIDIA A10 (compute capability 8.6)" in done.stderr
    v100 = stub_nvml(tmp_path / "v100", "535.104.05", [Gpu(0, "Tesla V100", "70")])
    done = type_pull(f"--print --registry {team}", **v100)
    assert done.returncode == 2
    assert "no published image is for GPU 0, Tesla V100" in done.stderr
    old = stub_nvml(tmp_path / "old", "470.82.01", [Gpu(0, "NVIDIA A10", "86")])
    done = type_pull(f"--print --registry {shop.host}/team", **old)
    assert done.returncode == 3
    assert "driver 525 or newer" in done.stderr


def test_the_bridge_of_another_engine_stays_as_it_is(engine: Engine, cache: Path) -> None:
    bridge = Path("/sys/class/net/docker0/ifindex")
    if engine.address.startswith("unix:") and bridge.exists():
        before = bridge.read_text(), _routes()
        with fresh_engine(cache):
            pass
        assert (bridge.read_text(), _routes()) == before


def _routes() -> list[str]:
    return [line for line in Path("/proc/net/route").read_text().splitlines() if line.startswith("docker0")]


def test_an_engine_that_is_used_otherwise_is_left_as_it_was(shop: Shop, engine: Engine) -> None:
    reference, _image = shop.publish(b"at hand")
    assert verify_image(reference, engine, Silent()).ok
    assert not engine.has(reference)


def test_the_engine_of_a_killed_process_is_ended_and_removed(cache: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from trtforge.engine.fresh import fresh_engine\n"
        "with fresh_engine(Path(sys.argv[1])) as engine:\n"
        "    print(engine.address, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(cache)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        socket = process.stdout.readline().strip().removeprefix("unix://")
        process.send_signal(signal.SIGKILL)
    (left,) = [home for home in (cache / "fresh").iterdir() if f"{OwnEngine.at(home).run}/" in socket]
    assert OwnEngine.at(left).pid()
    with fresh_engine(cache) as engine:
        assert OwnEngine.at(left).pid() is None
        assert not left.exists()
        home = Path(engine.address.removeprefix("unix://")).parent
    assert not home.exists()
    assert str(home) not in Path("/proc/self/mountinfo").read_text()
