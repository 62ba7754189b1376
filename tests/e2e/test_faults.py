"""What goes wrong while a build runs, or before it: the store stays whole, and the same command goes on."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import CACHE, copy_of_project, without_file_rules
from tests.tiny_stack import CELL, lock_project, make_wheels
from trtforge.errors import DamagedFile
from trtforge.gc import collect
from trtforge.in_use import in_use_since
from trtforge.layers.sources import OsSource
from trtforge.locking import os_suite
from trtforge.progress import Silent
from trtforge.project import Project
from trtforge.store import Store
from trtforge.system.os_packages import fetch_os, resolve_os

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.e2e

ROOT = os.geteuid() == 0


@dataclass(frozen=True)
class Workshop:
    """The tiny project, a cache, and the wheelhouse with its wheels.

    temporary: TMPDIR of what is run.
    """

    root: Path
    cache: Path
    house: Path
    temporary: Path

    @property
    def store(self) -> Store:
        return Store(self.cache / "store")

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "TRTFORGE_CACHE": str(self.cache), "TMPDIR": str(self.temporary)}

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Start the build in a process group of its own, as a shell does."""
        words = ["build.py", *CELL.split(), "--no-load", "--offline", "--json", *more]
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def build(self, *more: str) -> tuple[int, Any, str]:
        """Exit code, answer and standard error of the build."""
        done = self.start(*(more or ("--wheelhouse", str(self.house))))
        out, err = done.communicate(timeout=300)
        return done.returncode, json.loads(out), err

    def digests(self) -> list[str]:
        """Of the images of the build, which must succeed."""
        code, answer, err = self.build()
        assert code == 0, err
        return [image["digest"] for image in answer[0]]

    def wheel(self, name: str) -> Path:
        """Where the store has the wheel called `name`."""
        (found,) = (self.store.root / "wheels").glob(f"*/{name}-1.0-*.whl")
        return found


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """An undisturbed build."""
    folder = tmp_path_factory.mktemp("faults")
    root = without_file_rules(copy_of_project(folder / "project"))
    workshop = Workshop(root, folder / "cache", folder / "house", folder / "tmp")
    workshop.temporary.mkdir()
    if (debs := CACHE / "store" / "debs").exists():
        shutil.copytree(debs, workshop.store.root / "debs", copy_function=_link)
    project = Project(root)
    suite = os_suite(project.matrix, "debian12")
    packages = resolve_os(suite, project.matrix.images.os)
    fetch_os(packages, suite, workshop.store, Silent())
    lock_project(root, *make_wheels(workshop.house), packages)
    workshop.digests()
    return workshop


@pytest.fixture
def workshop(reference: Workshop, tmp_path: Path) -> Workshop:
    """The project with a cache that has the operating system and nothing else."""
    fresh = _beside(reference, tmp_path)
    key = _system(reference).key
    layer = reference.store.layer(key)
    assert layer
    for path in (
        reference.store.root / "layers" / f"{key}.json",
        reference.store.blob(layer.digest),
    ):
        _link(path, _made(fresh.cache / path.relative_to(reference.cache)))
    return fresh


@pytest.fixture
def finished(reference: Workshop, tmp_path: Path) -> Workshop:
    """The project with a cache of its own in which everything is done."""
    done = _beside(reference, tmp_path)
    shutil.copytree(
        reference.cache,
        done.cache,
        copy_function=_link,
        ignore=lambda _folder, names: [name for name in names if name in ("debs", "rootfs")],
    )
    return done


def _beside(reference: Workshop, folder: Path) -> Workshop:
    (folder / "tmp").mkdir()
    return Workshop(reference.root, folder / "cache", reference.house, folder / "tmp")


def _system(workshop: Workshop) -> OsSource:
    project = Project(workshop.root)
    return OsSource(os_suite(project.matrix, "debian12"), project.read_lock().os["debian12"])


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _link(source: str | Path, target: str | Path) -> None:
    """Like os.link, or a copy where the two are on different disks."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _damage(file: Path, change: Callable[[bytes], bytes]) -> None:
    """Change `file` but no other link to it."""
    data = change(file.read_bytes())
    file.unlink()
    file.write_bytes(data)


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


# Interrupts


def _members(group: int) -> list[bytes]:
    """The command lines of the living processes of a process group."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] not in "ZX":
                found.append((process / "cmdline").read_bytes())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _bootstraps(build: int, _store: Store) -> bool:
    return any(b"dpkg" in line for line in _members(build))


def _compiles(build: int, _store: Store) -> bool:
    return any(b"/usr/bin/python3\0-s\0-S\0-B" in line for line in _members(build))


def _writes_a_layer(_build: int, store: Store) -> bool:
    return any(store.root.glob("tmp/*/layer"))


def _reads_its_modules(build: int, _store: Store) -> bool:
    return b"pydantic_core" in Path(f"/proc/{build}/maps").read_bytes()


def _at(workshop: Workshop, moment: Callable[[int, Store], bool]) -> tuple[subprocess.Popen[str], float]:
    """A build at the `moment`, and until when it should be over.

    A busy machine may not let us see a short moment: then what was made is forgotten and built anew.
    """
    layers = workshop.store.root / "layers"
    before = {file.name for file in layers.glob("*")}
    for _ in range(20):
        build = workshop.start("--wheelhouse", str(workshop.house))
        deadline = time.monotonic() + 60
        while build.poll() is None and time.monotonic() < deadline:
            if moment(build.pid, workshop.store):
                return build, deadline
            time.sleep(0.002)
        build.kill()
        build.communicate()
        for file in layers.glob("*"):
            if file.name not in before:
                file.unlink()
        (workshop.store.oci / "index.json").unlink(missing_ok=True)
    raise AssertionError("the moment never came")


def _interrupt(workshop: Workshop, moment: Callable[[int, Store], bool], what: signal.Signals) -> None:
    """Start a build, send `what` to its process group at the `moment`, and look at what is left."""
    build, deadline = _at(workshop, moment)
    try:
        os.killpg(build.pid, what)
        out, err = build.communicate(timeout=20)
    finally:
        build.kill()
    if what == signal.SIGINT:
        assert build.returncode == 130, err
        assert "Traceback" not in err
        assert err.startswith("error: interrupted\n")
        assert len(err.splitlines()) == 3, err
        assert out == "" or json.loads(out)["error"] == "interrupted"
        assert not list(workshop.temporary.iterdir())
        assert not list(workshop.store.root.glob("tmp/*"))
    while _members(build.pid):  # killed ones need a moment, orphans would stay
        assert time.monotonic() < deadline + 5
    assert str(workshop.temporary) not in Path("/proc/mounts").read_text()
    _assert_whole(workshop.store)


def _assert_whole(store: Store) -> None:
    for blob in (store.oci / "blobs" / "sha256").glob("*"):
        assert _sha256(blob) == blob.name
    for wheel in (store.root / "wheels").glob("*/*"):
        assert _sha256(wheel) == wheel.parent.name


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@pytest.mark.parametrize("moment", [_reads_its_modules, _writes_a_layer, _compiles])
def test_ctrl_c_ends_at_once_and_the_same_command_goes_on(
    workshop: Workshop, reference: Workshop, moment: Callable[[int, Store], bool]
) -> None:
    _interrupt(workshop, moment, signal.SIGINT)
    assert workshop.digests() == reference.digests()


def test_a_system_half_installed_leaves_nothing_behind(reference: Workshop, tmp_path: Path) -> None:
    bare = _beside(reference, tmp_path)
    shutil.copytree(reference.store.root / "debs", bare.store.root / "debs", copy_function=_link)
    _interrupt(bare, _bootstraps, signal.SIGINT)
    _interrupt(bare, _bootstraps, signal.SIGKILL)
    assert bare.digests() == reference.digests()
    assert not list(bare.store.root.glob("tmp/*")), "the killed build's work was not swept"


def test_a_killed_build_is_swept_by_the_next(workshop: Workshop, reference: Workshop) -> None:
    _interrupt(workshop, _compiles, signal.SIGKILL)
    assert list(workshop.store.root.glob("tmp/*"))
    assert workshop.digests() == reference.digests()
    assert not list(workshop.store.root.glob("tmp/*"))


def test_gc_takes_nothing_from_a_build_that_runs(workshop: Workshop, reference: Workshop) -> None:
    build = workshop.start("--wheelhouse", str(workshop.house))
    runs = 0
    while build.poll() is None:
        if in_use_since(workshop.store) < math.inf:
            collect([], workshop.store, 0)
            runs += 1
        time.sleep(0.05)
    out, err = build.communicate()
    assert build.returncode == 0, err
    assert [image["digest"] for image in json.loads(out)[0]] == reference.digests()
    assert runs > 10
    assert collect([], workshop.store, 0).left == 0


def test_two_builds_at_once_make_the_same(workshop: Workshop, reference: Workshop) -> None:
    both = [workshop.start("--wheelhouse", str(workshop.house)) for _ in range(2)]
    answers = []
    for build in both:
        out, err = build.communicate(timeout=300)
        assert build.returncode == 0, err
        answers.append([image["digest"] for image in json.loads(out)[0]])
    assert answers == [reference.digests()] * 2
    _assert_whole(workshop.store)


# Damage


def test_a_changed_wheel_is_refused_dropped_and_fetched_anew(workshop: Workshop, reference: Workshop) -> None:
    wheels = workshop.store.root / "wheels"
    shutil.copytree(reference.store.root / "wheels", wheels, copy_function=_link)
    _damage(workshop.wheel("tensorrt_rtx_cu12_libs"), _flipped)
    code, answer, _ = workshop.build()
    assert code == 1
    assert answer["error"] == (
        "tensorrt_rtx_cu12_libs-1.0-py3-none-any.whl in the store was damaged, and is dropped"
    )
    assert not list(wheels.glob("*/tensorrt_rtx_cu12_libs-*"))

    empty = workshop.temporary / "empty"
    empty.mkdir()
    code, answer, _ = workshop.build("--wheelhouse", str(empty))
    assert (code, answer["error"]) == (
        2,
        "the wheelhouse has no tensorrt_rtx_cu12_libs-1.0-py3-none-any.whl",
    )

    assert workshop.digests() == reference.digests()


def test_a_changed_debian_package_is_refused_dropped_and_fetched_anew(
    reference: Workshop, tmp_path: Path
) -> None:
    bare = _beside(reference, tmp_path)
    shutil.copytree(reference.store.root / "debs", bare.store.root / "debs", copy_function=_link)
    system = _system(bare)
    tini = next(package for package in system.packages if package.name == "tini")
    place = bare.store.file("debs", tini.sha256, tini.filename)
    _damage(place, _flipped)
    with pytest.raises(DamagedFile, match="tini_"):
        fetch_os(system.packages, system.suite, bare.store, Silent())
    assert not place.exists()
    fetch_os(system.packages, system.suite, bare.store, Silent())
    assert _sha256(place) == tini.sha256


def _manifest(store: Store) -> dict[str, Any]:
    index = json.loads((store.oci / "index.json").read_text())
    entry = next(one for one in index["manifests"] if "tensorrt:rtx" in str(one["annotations"]))
    return {"digest": entry["digest"], **json.loads(store.blob(entry["digest"]).read_bytes())}


@pytest.mark.parametrize(
    ("place", "change"),
    [
        (lambda store: store.blob(_manifest(store)["layers"][-1]["digest"]), lambda data: data[:-1]),
        (lambda store: store.blob(_manifest(store)["layers"][1]["digest"]), lambda data: data[:100]),
        (lambda store: store.blob(_manifest(store)["config"]["digest"]), _flipped),
        (lambda store: store.blob(_manifest(store)["digest"]), lambda data: data[:100]),
        (lambda store: store.oci / "index.json", lambda data: data[:100]),
        (lambda store: next((store.root / "layers").glob("*.json")), lambda _data: b"{}"),
        (lambda store: next((store.root / "records").glob("*.json")), lambda _data: b"\xff"),
    ],
    ids=["layer", "parent's layer", "configuration", "manifest", "index", "layers", "record"],
)
def test_damage_in_a_finished_store_is_noticed_and_mended(
    finished: Workshop,
    reference: Workshop,
    place: Callable[[Store], Path],
    change: Callable[[bytes], bytes],
) -> None:
    _damage(place(finished.store), change)
    assert finished.digests() == reference.digests()
    _assert_whole(finished.store)
    assert _manifest(finished.store)["digest"] == reference.digests()[-1]


# Disks


@contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if not ROOT or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this test mounts a small disk, which is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_and_with_more_room_the_build_goes_on(
    reference: Workshop, workshop: Workshop, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    with _small_disk(disk, "100m"):
        shutil.copytree(workshop.cache, disk / "cache")
        small = Workshop(workshop.root, disk / "cache", workshop.house, workshop.temporary)
        code, answer, err = small.build()
        assert code == 3
        assert "is full" in answer["error"]
        assert "Traceback" not in err
        _assert_whole(small.store)
        assert not list(small.store.root.glob("tmp/*"))
        subprocess.run(["mount", "-o", "remount,size=600m", str(disk)], check=True)
        assert small.digests() == reference.digests()


def test_a_store_that_cannot_be_written_is_told(workshop: Workshop, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with _small_disk(disk, "10m"):
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        frozen = Workshop(workshop.root, disk / "cache", workshop.house, workshop.temporary)
        code, answer, err = frozen.build()
    assert (code, "Traceback" in err) == (3, False)
    assert answer["error"] == f"the store {disk}/cache/store cannot be written: Read-only file system"
    assert any("TRTFORGE_CACHE" in text for _, text in answer["facts"])


# Budgets


def test_an_image_over_its_budget_fails_the_build_and_is_kept(finished: Workshop) -> None:
    matrix = finished.root / "matrix.yaml"
    before, digests = matrix.read_text(), finished.digests()
    try:
        matrix.write_text(before.replace("os: {compressed: 60 MB", "os: {compressed: 1 MB"))
        code, answer, err = finished.build()
    finally:
        matrix.write_text(before)
    assert code == 1
    assert "os:debian12 is over its budget by" in err
    assert "operating system" in err
    assert [image["digest"] for image in answer[0]] == digests == finished.digests()
    sizes = answer[0][-1]["sizes"]
    for kind, whole in (("compressed", answer[0][-1]["size"]), ("on_disk", answer[0][-1]["unpacked"])):
        assert sum(one[kind] for one in sizes["packages"]) == whole
    kinds = {one["name"]: one["kind"] for one in sizes["packages"]}
    assert {
        "libc6": "debian",
        "torch": "wheel",
        "onnx": "wheel",
        "bytecode": "bytecode",
    }.items() <= kinds.items()
