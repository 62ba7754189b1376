"""Bytecode is what the image's Python would have made, and the same bytes whoever makes it."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import marshal
import os
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from tests.wheel_factory import ZipMember, layer_tree, make_wheel
from trtforge.errors import BuildError, EnvironmentLack, HashMismatch
from trtforge.layers import bytecode
from trtforge.layers.bytecode import bytecode_in_store, bytecode_layer
from trtforge.layers.image_python import ImagePython, interpreter_in
from trtforge.layers.install_target import InstallTarget
from trtforge.layers.wheel_layer import PinnedWheel, layer_in_store, wheel_layer
from trtforge.progress import Silent, ignore
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trtforge.progress import Advance

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
TAG = f"cpython-{sys.version_info.major}{sys.version_info.minor}"
TARGET = InstallTarget(PYTHON)
SITE = TARGET.site_packages.removeprefix("/")


def made(wheels: Sequence[Path], jobs: int = 2) -> bytes:
    out = io.BytesIO()
    bytecode_layer(wheels, TARGET, [sys.executable], out, jobs=jobs)
    return out.getvalue()


def files(blob: bytes) -> dict[str, bytes]:
    return {path: content for path, (_, content) in layer_tree(blob).items() if content is not None}


def pinned(path: Path) -> PinnedWheel:
    return PinnedWheel(path, hashlib.sha256(path.read_bytes()).hexdigest())


def tangle(number: int) -> bytes:
    """A module whose constants and names are shared, unordered and repeated: what marshal could trip over."""
    lines = [
        f"def f{n}(self, name, value=None): return name in {{'a', 'b', None, {n}, 1.5}}" for n in range(20)
    ]
    return "\n".join(
        [f"'''Module {number}.'''", "import os, sys", *lines, f"x{number} = (1, 'name', {{}})"]
    ).encode()


def test_a_container_imports_the_bytecode_and_never_looks_at_the_source(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, [ZipMember("demo/__init__.py", b"answer = 42\n")])
    subprocess.run(["tar", "-xzf", "-", "-C", tmp_path], input=made([wheel]), check=True)
    (tmp_path / SITE / "demo/__init__.py").write_text("raise SystemExit('compiled again')")
    run = [sys.executable, "-c", "import demo; print(demo.answer)"]
    environment = {"PYTHONPATH": str(tmp_path / SITE)}
    assert subprocess.run(run, env=environment, capture_output=True, check=True).stdout == b"42\n"


def test_a_file_is_unchecked_hash_and_names_the_installed_source(tmp_path: Path) -> None:
    source = b"def f(): pass\n"
    [(path, pyc)] = files(made([make_wheel(tmp_path, [ZipMember("demo/cli.py", source)])])).items()
    assert path == f"{SITE}/demo/__pycache__/cli.{TAG}.pyc"
    assert pyc[:4] == importlib.util.MAGIC_NUMBER
    assert pyc[4:8] == b"\1\0\0\0"
    assert pyc[8:16] == importlib.util.source_hash(source)
    assert marshal.loads(pyc[16:]).co_filename == f"/{SITE}/demo/cli.py"


def test_only_what_can_be_imported_and_compiles_is_compiled(tmp_path: Path) -> None:
    members = [
        ZipMember("good.py", b"pass"),
        ZipMember("demo-1.0.data/platlib/also.py", b"pass"),
        ZipMember("demo-1.0.data/scripts/tool.py", b"pass"),
        ZipMember("demo-1.0.data/data/share/x.py", b"pass"),
        ZipMember("demo-1.0.data/headers/x.py", b"pass"),
        ZipMember("python2.py", b"print 'hello'\n"),
        ZipMember("nul.py", b"a = 1\0"),
        ZipMember("latin.py", b"a = '\xff'\n"),
        ZipMember("deep.py", b"(" * 5000 + b")" * 5000),
        ZipMember("warns.py", b"'\\d' is 1\n"),
        ZipMember("n" * 250 + ".py", b"pass"),
        ZipMember("data.txt", b"pass"),
        ZipMember("package/tests/inner/case.py", b"pass"),
        ZipMember("package/test/other.py", b"pass"),
        ZipMember("tests/toplevel.py", b"pass"),
        ZipMember("tagged.py", "# -*- coding: latin-1 -*-\na = 'é'\n".encode("latin-1")),
    ]
    names = {Path(path).name.split(".")[0] for path in files(made([make_wheel(tmp_path, members)]))}
    assert names == {"good", "also", "warns", "tagged", "toplevel"}


def test_of_two_wheels_with_one_file_the_later_counts(tmp_path: Path) -> None:
    one = make_wheel(tmp_path, [ZipMember("shared/__init__.py", b"x = 1")], name="one")
    two = make_wheel(tmp_path, [ZipMember("shared/__init__.py", b"x = 2")], name="two")
    [pyc] = files(made([one, two])).values()
    assert pyc[8:16] == importlib.util.source_hash(b"x = 2")


def test_neither_threads_nor_the_surroundings_show_in_the_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bytecode, "BATCH", 5000)
    wheels = [
        make_wheel(tmp_path, [ZipMember(f"{name}/m{n}.py", tangle(n)) for n in range(12)], name=name)
        for name in ("one", "two")
    ]
    expected = made(wheels, jobs=1)
    assert len(files(expected)) == 24
    assert made(wheels, jobs=5) == expected
    script = (
        "import os, sys; from pathlib import Path; from trtforge.layers import bytecode;"
        "from trtforge.layers.install_target import InstallTarget; bytecode.BATCH = 5000; os.umask(0o077);"
        f"bytecode.bytecode_layer([Path(p) for p in {[str(wheel) for wheel in wheels]}],"
        f" InstallTarget({PYTHON!r}), [sys.executable], sys.stdout.buffer, jobs=3)"
    )
    environment = {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "LC_ALL": "C",
        "PYTHONHASHSEED": "12345",
        "PYTHONOPTIMIZE": "2",
        "HOME": "/nowhere",
    }
    run = [sys.executable, "-c", script]
    elsewhere = subprocess.run(run, env=environment, cwd=tmp_path, capture_output=True, check=True)
    assert elsewhere.stdout == expected


def test_its_folders_are_those_of_the_wheels_layer(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, [ZipMember("demo/a/b.py", b"pass")])
    out = io.BytesIO()
    wheel_layer([wheel], TARGET, out)
    owners = []
    for blob in (made([wheel]), out.getvalue()):
        with tarfile.open(fileobj=io.BytesIO(blob)) as tar:
            owners.append({info.name: (info.mode, info.uid) for info in tar if info.isdir()})
    compiled, installed = owners
    assert {
        name: owner for name, owner in compiled.items() if "__pycache__" not in name
    }.items() <= installed.items()
    assert compiled[f"{SITE}/demo/a/__pycache__"] == (0o755, TARGET.uid)


def test_another_python_than_the_wheels_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, [ZipMember("a.py")])
    with pytest.raises(BuildError, match=r"not the 3\.99 that the wheels are for") as refusal:
        bytecode_layer([wheel], InstallTarget("3.99"), [sys.executable], io.BytesIO())
    assert refusal.value.fact("found") == f"{PYTHON} {TAG}"


@pytest.mark.parametrize("says", ["", f"{PYTHON} {TAG}"])
def test_an_interpreter_that_dies_is_told_with_what_it_said_last(tmp_path: Path, says: str) -> None:
    frame = f"import sys; d={says.encode()!r}; sys.stdout.buffer.write(len(d).to_bytes(4,'big')*bool(d)+d);"
    dying = [sys.executable, "-c", frame + "sys.stdout.flush(); sys.exit('killed: out of memory')"]
    with pytest.raises(BuildError, match="ended while it compiled") as refusal:
        bytecode_layer([make_wheel(tmp_path, [ZipMember("a.py")])], TARGET, dying, io.BytesIO())
    assert refusal.value.fact("stderr") == "killed: out of memory"
    assert refusal.value.fact("source") == (f"/{SITE}/a.py" if says else "")


def test_the_store_compiles_once_for_each_interpreter(tmp_path: Path) -> None:
    store, wheel = Store(tmp_path / "store"), pinned(make_wheel(tmp_path, [ZipMember("a.py", b"pass")]))
    entered = []

    def enter() -> list[str]:
        entered.append(True)
        return [sys.executable]

    def layer(identity: str) -> str:
        return bytecode_in_store(store, [wheel], TARGET, ImagePython(identity, enter), Silent()).digest

    assert layer("sha256:os") == layer("sha256:os")
    assert len(entered) == 1
    assert layer("sha256:another") == layer("sha256:os")
    assert len(entered) == 2


def test_a_wheel_that_is_not_the_pinned_one_is_not_compiled(tmp_path: Path) -> None:
    store, locked = Store(tmp_path / "store"), pinned(make_wheel(tmp_path, [ZipMember("a.py", b"pass")]))
    make_wheel(tmp_path, [ZipMember("a.py", b"evil()")])

    def enter() -> list[str]:
        raise AssertionError("it was entered")

    with pytest.raises(HashMismatch):
        bytecode_in_store(store, [locked], TARGET, ImagePython("os", enter), Silent())
    assert not (store.root / "layers").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")
def test_root_enters_an_image_with_chroot() -> None:
    command = interpreter_in(Path("/"), str(Path(sys.executable).resolve()))
    assert Path(command[0]).name == "chroot"
    asked = subprocess.run([*command, "-c", "print(1)"], capture_output=True, check=True)
    assert asked.stdout == b"1\n"


def test_where_an_image_cannot_be_entered_the_reasons_are_told(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLack) as lack:
        interpreter_in(tmp_path)
    assert lack.value.exit_code == 3
    assert lack.value.fact("chroot")
    assert lack.value.fact("unshare")
    assert lack.value.fact("next")


def test_a_wheel_that_was_read_whole_for_its_layer_is_not_read_whole_again(tmp_path: Path) -> None:
    store, wheel = Store(tmp_path / "store"), pinned(make_wheel(tmp_path, [ZipMember("a.py", b"pass")]))

    def python(identity: str) -> ImagePython:
        return ImagePython(identity, lambda: [sys.executable])

    class Told(Silent):
        sizes: ClassVar[dict[str, int | None]] = {}

        @contextmanager
        def task(self, label: str, total: int | None = None) -> Iterator[Advance]:
            self.sizes[label] = total
            yield ignore

    layer_in_store(store, [wheel], TARGET, Silent())
    bytecode_in_store(store, [wheel], TARGET, python("os"), Told())
    assert Told.sizes["check wheels"] == 0
    bytecode_in_store(Store(store.root), [wheel], TARGET, python("another os"), Told())
    assert Told.sizes["check wheels"] == wheel.path.stat().st_size
