"""A compiled wheel's layer is the wheel's layer and its bytecode's, in one."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from typing import TYPE_CHECKING

import pytest

from tests.wheel_factory import ZipMember, layer_tree, make_wheel
from trtforge.errors import HashMismatch
from trtforge.layers.bytecode import bytecode_in_store
from trtforge.layers.compiled_wheel_layer import compiled_in_store
from trtforge.layers.image_python import ImagePython
from trtforge.layers.install_target import InstallTarget
from trtforge.layers.wheel_layer import PinnedWheel, layer_in_store
from trtforge.progress import Silent
from trtforge.store import Store

if TYPE_CHECKING:
    from pathlib import Path

TARGET = InstallTarget(f"{sys.version_info.major}.{sys.version_info.minor}")
MEMBERS = [
    ZipMember("demo/__init__.py", b"answer = 42\n"),
    ZipMember("demo/data.bin", bytes(5000)),
    ZipMember("demo-1.0.dist-info/entry_points.txt", b"[console_scripts]\ndemo = demo:main\n"),
]


THIS_PYTHON = ImagePython("os", lambda: [sys.executable])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def pinned(path: Path) -> PinnedWheel:
    return PinnedWheel(path, hashlib.sha256(path.read_bytes()).hexdigest())


def test_it_holds_what_both_layers_hold(tmp_path: Path, store: Store) -> None:
    wheel = pinned(make_wheel(tmp_path, MEMBERS))
    one = compiled_in_store(store, [wheel], TARGET, THIS_PYTHON, Silent())
    plain = layer_in_store(store, [wheel], TARGET, Silent())
    compiled = bytecode_in_store(store, [wheel], TARGET, THIS_PYTHON, Silent())
    trees = [layer_tree(store.blob(layer.digest).read_bytes()) for layer in (one, plain, compiled)]
    # Of directories the wheel's layer says more: whose they are in the image.
    assert trees[0] == trees[2] | trees[1]


def test_an_update_of_a_wheel_moves_little_more_than_the_wheel(tmp_path: Path, store: Store) -> None:
    modules = [
        ZipMember(f"demo/m{n}.py", f"def f{n}(a, b):\n    return a + b * {n}\n".encode() * 50)
        for n in range(9)
    ]
    wheel = make_wheel(tmp_path, modules)
    layer = compiled_in_store(store, [pinned(wheel)], TARGET, THIS_PYTHON, Silent())
    plain = layer_in_store(store, [pinned(wheel)], TARGET, Silent())
    compiled = bytecode_in_store(store, [pinned(wheel)], TARGET, THIS_PYTHON, Silent())
    assert plain.size < layer.size <= plain.size + compiled.size


def test_a_wheel_that_is_not_the_pinned_one_leaves_nothing(tmp_path: Path, store: Store) -> None:
    locked = pinned(make_wheel(tmp_path, MEMBERS))
    make_wheel(tmp_path, [ZipMember("demo/__init__.py", b"evil()")])
    with pytest.raises(HashMismatch):
        compiled_in_store(store, [locked], TARGET, THIS_PYTHON, Silent())
    assert not list((store.root / "layers").glob("*"))


def test_it_is_made_once_for_each_interpreter(tmp_path: Path, store: Store) -> None:
    wheel = pinned(make_wheel(tmp_path, MEMBERS))
    entered = []

    def counted() -> list[str]:
        entered.append(True)
        return [sys.executable]

    first = compiled_in_store(store, [wheel], TARGET, ImagePython("os", counted), Silent())
    assert compiled_in_store(store, [wheel], TARGET, ImagePython("os", counted), Silent()) == first
    assert len(entered) == 1
    assert compiled_in_store(store, [wheel], TARGET, ImagePython("another", counted), Silent()) == first
    assert len(entered) == 2
    tree = layer_tree(store.blob(first.digest).read_bytes())
    assert any(importlib.util.MAGIC_NUMBER in (content or b"")[:4] for _, content in tree.values())
