"""TensorRT on a base that the user has already, from a real registry to a tested image.

The base holds the Python that runs these tests and something that says it is torch; TensorRT is the real one.
"""

from __future__ import annotations

import io
import os
import shutil
import site
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.docker_registry import blob_in, docker_registry, push
from tests.e2e.conftest import CACHE, Forge, copy_of_project
from tests.e2e.test_engine import host_python
from tests.gzip_layers import gzip_layer
from trtforge.base import Base, engine_tag
from trtforge.engine.docker_builder import build_with_docker
from trtforge.image import Image, keep_image, name_image
from trtforge.lock import Lock, read_lock
from trtforge.oci import canonical_json
from trtforge.progress import Silent
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trtforge.engine.engine import Engine

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.cell,
    pytest.mark.skipif(
        not (shutil.which("docker-registry") and shutil.which("skopeo")),
        reason="docker-registry and skopeo are not here",
    ),
    pytest.mark.skipif(
        sys.prefix == sys.base_prefix or not Path("/etc/debian_version").exists(),
        reason="the base is made of Debian's Python",
    ),
]

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_WHERE = [str(Path(sys.executable).resolve()), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
SITE = subprocess.run(_WHERE, capture_output=True, text=True, check=True).stdout.strip().strip("/")
"""Where the Python that the base is made of has its packages: not where this environment has them."""

CELL = "--os acme-torch --tensorrt rtx"
REF = "trtforge/tensorrt:cu12.8-ampere-acme-torch"

TORCH = """
__version__ = "{version}+cu128"
from types import SimpleNamespace
version = SimpleNamespace(cuda="12.8")
cuda = SimpleNamespace(is_available=lambda: False)
_C = SimpleNamespace(_cuda_getArchFlags=lambda: "sm_80 sm_86 sm_90")
"""


ENTRY = b"""
import os, sys
os.environ["ACME"] = "entered"
os.execvp(sys.argv[1], sys.argv[1:])
"""


@dataclass(frozen=True)
class Shop:
    """A registry with the user's bases. bases: name -> image. folder: the registry's data."""

    host: str
    folder: Path
    bases: dict[str, Image]

    def reference(self, name: str) -> str:
        return f"{self.host}/acme/{name}@{self.bases[name].digest}"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    store = Store(folder / "store")
    bases = {name: make_base(store, name, torch) for name, torch in TORCHES.items()}
    with docker_registry(folder) as host:
        for name in bases:
            push(store.oci, name, f"{host}/acme/{name}:1")
        yield Shop(host, folder, bases)
    for image in bases.values():
        engine.remove(engine_tag(image.digest))


TORCHES = {"torch": "2.9.1", "old-torch": "2.8.0", "tampered": "2.9.1"}


def make_base(store: Store, name: str, torch: str) -> Image:
    """An image as somebody else makes them: a layer without history, folders with modes of their own."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/bin:/usr/bin", "NVIDIA_VISIBLE_DEVICES=void"],
            "User": "1234:1234",
            "Labels": None,
            "Entrypoint": ["python", "/etc/entry.py"],
            "Cmd": ["python", "-c", "import os; print(os.environ['ACME'])"],
        },
    }
    layers = (gzip_layer(store, host_python()), gzip_layer(store, packages(name, torch)))
    config["rootfs"] = {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}
    image = keep_image(canonical_json(config), layers, store)
    name_image(image, name, "", store)
    return image


def packages(name: str, torch: str) -> bytes:
    """A tar with torch, typing_extensions, and the C++ library that TensorRT needs."""
    venv = Path(site.getsitepackages()[0])
    extension = metadata.distribution("typing-extensions")
    texts = {
        f"{SITE}/torch/__init__.py": TORCH.format(version=torch).encode(),
        f"{SITE}/torch-{torch}.dist-info/METADATA": metadata_of("torch", f"{torch}+cu128"),
        f"{SITE}/typing_extensions.py": (venv / "typing_extensions.py").read_bytes(),
        f"{SITE}/typing_extensions-{extension.version}.dist-info/METADATA": metadata_of(
            "typing_extensions", extension.version
        ),
        "etc/acme": name.encode(),
        "etc/entry.py": ENTRY,
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", dereference=True) as tar:
        for folder, mode in {SITE: 0o2775, f"{SITE}/torch": 0o750}.items():
            member = tarfile.TarInfo(folder)
            member.type, member.mode, member.uid, member.gid = tarfile.DIRTYPE, mode, 1234, 50
            tar.addfile(member)
        for path, content in texts.items():
            member = tarfile.TarInfo(path)
            member.size, member.uid, member.gid = len(content), 1234, 50
            tar.addfile(member, io.BytesIO(content))
        for library in ("libstdc++.so.6", "libgcc_s.so.1", "libdl.so.2", "librt.so.1", "libpthread.so.0"):
            tar.add(f"/lib/x86_64-linux-gnu/{library}")
    return out.getvalue()


def metadata_of(name: str, version: str) -> bytes:
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()


@pytest.fixture(scope="module")
def acme(shop: Shop, address: str, tmp_path_factory: pytest.TempPathFactory) -> Forge:
    return forge_with(shop, "torch", address, tmp_path_factory.mktemp("acme"))


def forge_with(shop: Shop, name: str, address: str, folder: Path) -> Forge:
    """The project with the base `name` in its matrix."""
    root = copy_of_project(folder / "trtforge")
    matrix = root / "matrix.yaml"
    glibc = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()[1]
    row = f'acme-torch: {{base: "{shop.reference(name)}", python: "{PYTHON}", glibc: "{glibc}"}}'
    matrix.write_text(matrix.read_text().replace("\n  os:", f"\n  os:\n    {row}", 1))
    # What the other cells resolve to is of no interest here.
    (root / "matrix.lock").unlink()
    return Forge(root, CACHE, address)


def lock_of(forge: Forge) -> Lock:
    return read_lock(forge.root / "matrix.lock", None)


@pytest.fixture(scope="module")
def built(acme: Forge, engine: Engine) -> Iterator[dict[str, Any]]:
    """The one image of the chain."""
    (image,) = acme.build(CELL)
    yield image
    for ref in image["refs"]:
        engine.remove(ref)


@pytest.fixture(scope="module")
def found(acme: Forge, built: dict[str, Any]) -> Base:  # noqa: ARG001
    return lock_of(acme).bases["acme-torch"]


def test_tensorrt_works_on_the_user_s_base(built: dict[str, Any], engine: Engine) -> None:
    results = {result["name"]: result for result in built["smoke"]["results"]}
    assert {name for name, one in results.items() if one["status"] == "failed"} == set(), results
    assert {name for name, one in results.items() if one["status"] == "passed"} >= {
        "cuda_major", "engine_build", "imports", "loader", "python", "torch_archs", "torch_build", "versions",
    }  # fmt: skip
    code = "import os, torch, tensorrt_rtx; print(torch.__version__, tensorrt_rtx.__version__, os.getuid())"
    run = engine.run(REF, ["python", "-c", code])
    assert run.stdout.split() == ["2.9.1+cu128", "1.7.1.116", "1234"], run.stderr


@pytest.mark.usefixtures("built")
def test_nothing_of_the_base_changes(found: Base, engine: Engine) -> None:
    before, after = engine.file_tree(found.tag), engine.file_tree(REF)
    assert {path: entry for path, entry in after.items() if path in before} == before
    assert before[SITE].mode == 0o2775
    theirs, ours = engine.config(found.tag), engine.config(REF)
    assert ours["User"] == theirs["User"] == "1234:1234"
    assert ours["Env"][:2] == theirs["Env"]  # what it says of NVIDIA_VISIBLE_DEVICES too
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in ours["Env"]


@pytest.mark.usefixtures("built")
def test_the_guard_stands_before_what_the_base_starts(engine: Engine, found: Base) -> None:
    run = engine.run(REF, [])
    assert (run.exit_code, run.stdout) == (0, "entered\n"), run.stderr
    assert run.stderr == "trtforge: no GPU is visible here (docker run --gpus all gives one)\n"
    assert engine.config(found.tag)["Entrypoint"] == ["python", "/etc/entry.py"]
    assert (found.entrypoint, found.command[:1]) == (("python", "/etc/entry.py"), ("python",))


@pytest.mark.usefixtures("built")
def test_what_is_added_lies_beside_the_base_s_own(found: Base, engine: Engine) -> None:
    tree = engine.file_tree(REF)
    module = tree[f"{SITE}/tensorrt_rtx/__init__.py"]
    assert (module.uid, module.gid, found.purelib) == (1234, 50, f"/{SITE}")


def test_the_lock_adds_only_what_is_missing(acme: Forge, found: Base) -> None:
    lock = lock_of(acme)
    (cell,) = lock.cells.values()
    added = {pin.name for pin in lock.pins(cell.tensorrt)}
    assert added >= {"tensorrt-rtx-cu12-libs", "onnx", "numpy"}
    assert not added & found.packages.keys()
    assert found.packages.keys() == {"torch", "typing-extensions"}
    assert (lock.os, cell.base) == ({}, "")


def test_the_same_build_again_does_nothing(acme: Forge, built: dict[str, Any]) -> None:
    (again,) = acme.build(CELL)
    assert (again["action"], again["digest"]) == ("reuse", built["digest"])


@pytest.mark.usefixtures("built")
def test_plan_and_gc_know_the_base(acme: Forge, found: Base) -> None:
    (plan,) = acme.answer(f"plan {CELL} --explain")
    assert plan["state"] == "reuse"
    assert any(line["what"] == "os" and found.image in line["why"] for line in plan["explanation"])
    store = Store(acme.cache / "store")
    base = [str(store.blob(found.manifest)), *(str(path) for path in store.root.glob("layers/pulled-*"))]
    unneeded = acme.answer("gc --dry-run")["paths"]
    assert base[0] not in unneeded
    assert len(set(base) & set(unneeded)) <= len(base) - 1 - found.layers


def test_the_docker_builder_makes_the_same_without_the_registry(
    acme: Forge, built: dict[str, Any], engine: Engine
) -> None:
    tree, config = engine.file_tree(REF), engine.config(REF)
    for ref in built["refs"]:
        engine.remove(ref)
    acme.build(f"{CELL} --builder docker")
    assert engine.config(REF) == config
    assert engine.file_tree(REF) == tree


def test_a_plain_docker_build_works_too(acme: Forge, found: Base, engine: Engine, tmp_path: Path) -> None:
    (rendered,) = acme.answer(f"render {CELL} -o {tmp_path}")
    folder = Path(rendered["folder"])
    assert f"\nFROM {found.image}\n" in (folder / "Dockerfile").read_text(encoding="utf-8")
    plain = "trtforge-test/plain:1"
    try:
        build_with_docker(folder, [plain], engine, Silent())  # the Engine pulls the base itself
        assert engine.file_tree(plain) == engine.file_tree(REF)
        assert engine.config(plain) == engine.config(REF)
    finally:
        engine.remove(plain)
        engine.remove(found.image)


def test_verify_base_tells_what_fits_and_the_line_to_paste(shop: Shop, acme: Forge) -> None:
    found = acme.answer(f"verify-base {shop.host}/acme/torch:1")
    checks = {check["name"]: check for check in found["checks"]}
    assert {name for name, check in checks.items() if check["status"] == "failed"} == set(), checks
    assert checks["base-nvidia"]["status"] == "warning"  # it gives containers no GPU
    assert checks["base-user"]["found"] == "1234:1234"
    assert {cell["arch"] for cell in found["cells"]} >= {"ampere", "blackwell"}
    pinned = shop.reference("torch").replace("@", ":1@")
    assert (found["fit"], found["pinned"]) == (True, pinned)
    assert found["matrix"].startswith(f'my-base: {{base: "{pinned}", python: "{PYTHON}"')


def test_verify_base_takes_what_the_engine_has(shop: Shop, acme: Forge, engine: Engine) -> None:
    base = shop.bases["torch"]
    acme.answer(f"verify-base {shop.reference('torch')}")  # whichever test came first
    assert engine.has(engine_tag(base.digest))
    found = acme.answer(f"verify-base {engine_tag(base.digest)}")
    digest = next(check for check in found["checks"] if check["name"] == "base-digest")
    assert (found["fit"], found["pinned"], digest["status"]) == (True, "", "warning")
    assert found["found"]["layers"] == len(base.layers)


def test_verify_base_tells_why_a_base_is_unfit(shop: Shop, acme: Forge) -> None:
    said = acme.type(f"verify-base {shop.reference('old-torch')}")
    assert said.returncode == 1, said.stderr
    assert "base-torch" in said.stdout
    assert "2.8.0+cu128" in said.stdout
    assert "my-base:" not in said.stdout


def test_a_base_with_another_torch_is_refused(shop: Shop, address: str, tmp_path: Path) -> None:
    refused = forge_with(shop, "old-torch", address, tmp_path).type(f"{CELL} --no-smoke")
    assert refused.returncode == 2
    assert "base-torch: its torch is 2.8.0+cu128, not 2.9.1" in refused.stderr


def test_a_base_that_was_tampered_with_is_refused(shop: Shop, address: str, tmp_path: Path) -> None:
    blob = blob_in(shop.folder, shop.bases["tampered"].layers[-1].digest)
    data = bytearray(blob.read_bytes())
    data[-100] ^= 1
    blob.write_bytes(data)
    forge = forge_with(shop, "tampered", address, tmp_path)
    refused = forge.type(f"{CELL} --no-smoke")
    assert refused.returncode == 1
    assert "acme/tampered: its" in refused.stderr
    assert "damages what it holds" in refused.stderr
    assert not (forge.root / "matrix.lock").exists()
