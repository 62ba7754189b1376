"""A base that the user has already: what is found in it, what is refused, what is made of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.base_factory import FITTING, REFERENCE, cells_with_base
from tests.conftest import PROJECT
from tests.lock_factory import TENSORRT
from tests.test_locking import Indexes, pick, run
from trtforge.base import Base, base_image, examine_base, held_base, verify_base
from trtforge.dockerfile import read_dockerfile
from trtforge.engine.engine import RunResult
from trtforge.errors import BuildError, EnvironmentLack, ResolutionError, UnfitBase
from trtforge.gc import collect
from trtforge.image import Image, keep_image
from trtforge.index.local_project import local_projects
from trtforge.index.pins import Installed
from trtforge.layers.install_target import InstallTarget
from trtforge.layers.sources import LinksSource, WheelSource
from trtforge.lock import Lock, lock_text, read_lock
from trtforge.oci import Layer, canonical_json
from trtforge.progress import Silent
from trtforge.recipe import Recipe, Recipes
from trtforge.registry.pull import layer_name
from trtforge.store import Store

if TYPE_CHECKING:
    from trtforge.cells import Cells
    from trtforge.index.pins import Pin
    from trtforge.matrix import Matrix

PROBE = PROJECT / "trtforge" / "base_probe.py"


@pytest.fixture(scope="module")
def cells(matrix: Matrix) -> Cells:
    return cells_with_base(matrix)


def locked(cells: Cells, base: Base = FITTING, **request: str) -> Lock:
    cell = pick(cells, os="acme-torch", tensorrt="rtx", **request)
    return run(cells, Indexes(), cell, bring=lambda _reference: base)


def recipe(cells: Cells, base: Base = FITTING) -> Recipe:
    (only,) = Recipes(PROJECT, cells).chain(pick(cells, os="acme-torch", tensorrt="rtx"), locked(cells, base))
    return only


def misfits(cells: Cells, base: Base, **request: str) -> dict[str, str]:
    with pytest.raises(UnfitBase) as caught:
        verify_base(base, cells, pick(cells, os="acme-torch", tensorrt="rtx", **request))
    assert caught.value.exit_code == 2
    rules = [text.split(":")[0] for label, text in caught.value.facts if label == "rule"]
    assert rules == list(caught.value.misfits)
    return caught.value.misfits


@pytest.mark.parametrize(
    ("found", "rule", "says"),
    [
        ({"torch": "2.8.0+cu128"}, "base-torch", "its torch is 2.8.0+cu128, not 2.9.1"),
        ({"torch": "2.9.1a0+acme"}, "base-torch", "not 2.9.1"),
        (
            {"torch": "", "no_torch": "ImportError: x"},
            "base-torch",
            "no torch that can be imported (ImportError: x)",
        ),
        ({"cuda": "13.0"}, "base-cuda", "its torch is for CUDA 13.0, not for CUDA 12"),
        ({"cuda": ""}, "base-cuda", "for CPUs only"),
        ({"python": "3.12.1"}, "base-python", "its Python is 3.12.1, not 3.11"),
        ({"scripts": "/usr/bin"}, "base-python", "installs scripts to /usr/bin"),
        ({"glibc": "2.39"}, "base-glibc", "its glibc is 2.39, not 2.35"),
        ({"glibc": ""}, "base-glibc", "its glibc is absent"),
        ({"packages": {"tensorrt-rtx-cu12-libs": "1.5"}}, "base-tensorrt", "tensorrt-rtx-cu12-libs already"),
    ],
)
def test_what_does_not_fit_is_named(cells: Cells, found: dict[str, Any], rule: str, says: str) -> None:
    wrong = misfits(cells, FITTING.model_copy(update=found))
    assert list(wrong) == [rule]
    assert says in wrong[rule]


def test_all_that_does_not_fit_is_told_at_once(cells: Cells) -> None:
    base = FITTING.model_copy(update={"torch": "2.8.0", "cuda": "13.0", "glibc": "2.31"})
    assert misfits(cells, base).keys() == {"base-glibc", "base-torch", "base-cuda"}


def test_the_matrix_s_rules_hold_for_the_torch_that_was_found(cells: Cells) -> None:
    base = FITTING.model_copy(update={"torch": "2.9.1+cu126", "cuda": "12.6"})
    assert verify_base(base, cells, pick(cells, os="acme-torch", tensorrt="rtx")) == ()
    assert misfits(cells, base, arch="blackwell").keys() == {"blackwell-needs-torch-cu128"}


def test_missing_headers_are_a_note(cells: Cells) -> None:
    base = FITTING.model_copy(update={"headers": ""})
    (note,) = verify_base(base, cells, pick(cells, os="acme-torch", tensorrt="rtx"))
    assert "no CUDA headers" in note


class OneImage:
    """As much of an Engine as examining needs."""

    def __init__(self, result: RunResult | Exception) -> None:
        self.result = result

    def run(self, _ref: str, command: list[str], *, entrypoint: list[str]) -> RunResult:
        assert (entrypoint, command) == (["python"], ["-c", PROBE.read_text(encoding="utf-8")])
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def examined(result: RunResult | Exception) -> Base:
    config = {"config": {"Env": ["A=b", "NVIDIA_REQUIRE_CUDA=cuda>=12"], "Entrypoint": ["/e"], "Cmd": None}}
    layers = (Layer(FITTING.manifest, FITTING.manifest, 1, 1),) * 7
    image = Image(FITTING.manifest, canonical_json(config), layers)
    return examine_base(OneImage(result), FITTING.tag, REFERENCE, image)  # type: ignore[arg-type]


def test_the_answer_is_the_last_line_whatever_an_import_prints() -> None:
    facts = FITTING.model_dump(exclude={"image", "manifest", "layers", "nvidia"})
    base = examined(RunResult(0, f"torch says hello\n{json.dumps(facts)}\n", "a warning"))
    assert base == FITTING.model_copy(update={"nvidia": ("NVIDIA_REQUIRE_CUDA",), "entrypoint": ("/e",)})


def test_a_base_without_python_is_unfit() -> None:
    gone = BuildError("the Engine could not run it", ("engine", 'exec: "python": not found'))
    with pytest.raises(UnfitBase, match="`python` does not start") as caught:
        examined(gone)
    assert caught.value.rule == "base-python"


@pytest.mark.parametrize("stdout", ["", "{", '{"python": "3.11.2"}\n'])
def test_a_base_that_does_not_answer_is_an_error_with_its_output(stdout: str) -> None:
    with pytest.raises(BuildError) as caught:
        examined(RunResult(137, stdout, "Killed\n"))
    assert ("output", "Killed") in caught.value.facts


def probed(folder: Path, torch: str) -> Base:
    """What the probe says of the Python that runs this test, with `torch` as torch's source."""
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").write_text(torch, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PROBE.read_text(encoding="utf-8")],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        check=True,
    )
    facts = json.loads(done.stdout)
    return Base(image=REFERENCE, manifest=FITTING.manifest, layers=1, **facts)


def test_the_probe_tells_of_the_python_that_runs_it(tmp_path: Path) -> None:
    info = tmp_path / "Acme.Tools-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: Acme.Tools\nVersion: 1\n", encoding="utf-8")
    source = "import types\n__version__ = '2.9.1+cu128'\nversion = types.SimpleNamespace(cuda='12.8')\n"
    base = probed(tmp_path, source)
    assert base.interpreter == sys.executable
    assert base.purelib == str(Path(sysconfig.get_path("purelib")).resolve())
    assert base.packages["pytest"] == pytest.__version__
    assert base.packages["acme-tools"] == "1"
    assert base.target.python == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert base.purelib in base.directories
    assert (base.torch, base.cuda, base.no_torch) == ("2.9.1+cu128", "12.8", "")


def test_the_probe_tells_why_torch_cannot_be_imported(tmp_path: Path) -> None:
    base = probed(tmp_path, "raise OSError('libcudart.so.12: no such file')")
    assert (base.torch, base.no_torch) == ("", "OSError: libcudart.so.12: no such file")


def test_the_lock_of_a_brought_base_holds_what_was_found_and_only_what_is_added(
    cells: Cells, tmp_path: Path
) -> None:
    (cell,) = (lock := locked(cells)).cells.values()
    assert (lock.os, lock.bases, cell.base) == ({}, {"acme-torch": FITTING}, "")
    names = {pin.name for pin in lock.pins(cell.tensorrt)}
    assert names >= {pin.name for pin in TENSORRT}
    assert not names & {*FITTING.packages, "trtkit"}
    file = tmp_path / "matrix.lock"
    file.write_text(lock_text(lock), encoding="utf-8")
    assert read_lock(file, None) == lock


def test_what_the_base_has_is_kept_and_not_added(cells: Cells) -> None:
    asked: list[Any] = []

    class Watched(Indexes):
        def wheels(self, *needs: Any, constraints: Any, **options: Any) -> tuple[Pin, ...]:
            asked.extend(constraints)
            return super().wheels(*needs, constraints=constraints, **options)

    has_onnx = FITTING.model_copy(update={"packages": {**FITTING.packages, "onnx": "1.23.2"}})
    cell = pick(cells, os="acme-torch", tensorrt="rtx")
    lock = run(cells, Watched(), cell, bring=lambda _reference: has_onnx)
    assert set(asked) == {
        Installed("torch", "2.9.1+cu128"), Installed("numpy", "1.26.4"), Installed("onnx", "1.23.2")
    }  # fmt: skip
    assert "onnx" not in {pin.name for pin in lock.wheels.values()}


def test_a_known_base_is_not_examined_again(cells: Cells) -> None:
    first = locked(cells)
    second = pick(cells, os="acme-torch", tensorrt="rtx", arch="ada")
    assert len(run(cells, Indexes(), second, old=first).cells) == 2


def test_without_an_engine_the_cell_is_unlocked_and_others_are_not(cells: Cells) -> None:
    def absent(_reference: str) -> Base:
        raise EnvironmentLack("no Docker Engine answers")

    cell, other = pick(cells, os="acme-torch", tensorrt="rtx"), pick(cells, tensorrt="rtx")
    lock = run(cells, Indexes(), cell, other, bring=absent)
    left_out = lock.cells[cells.tag(cell)]
    assert (left_out.state, left_out.reason) == ("unlocked", "no Docker Engine answers")
    assert lock.cells[cells.tag(other)].state == "locked"
    assert lock.bases == {}


def test_a_conflict_with_what_is_installed_says_that_it_is_kept(cells: Cells) -> None:
    class Contrary(Indexes):
        def wheels(self, *_needs: Any, **_options: Any) -> tuple[Pin, ...]:
            raise ResolutionError("conflict", ("onnx",), "onnx needs numpy>=2", "loosen one of them")

    with pytest.raises(ResolutionError) as caught:
        run(cells, Contrary(), pick(cells, os="acme-torch", tensorrt="rtx"), bring=lambda _reference: FITTING)
    assert "acme-torch keeps what is installed in it" in (caught.value.fact("next") or "")


def test_an_unfit_base_is_not_locked(cells: Cells) -> None:
    with pytest.raises(UnfitBase):
        locked(cells, FITTING.model_copy(update={"torch": "2.8.0"}))


def test_one_image_is_made_on_the_base_s_own_reference(cells: Cells) -> None:
    made = recipe(cells)
    assert (made.image, made.parent, made.base) == ("tensorrt", None, FITTING)
    assert f"\nFROM {REFERENCE}\n" in made.dockerfile
    assert "\nUSER" not in made.dockerfile
    assert {type(source) for source in made.sources.values()} == {WheelSource, LinksSource}
    for source in made.sources.values():
        assert isinstance(source, WheelSource | LinksSource)
        target = source.target
        assert (target.site_packages, target.interpreter) == (FITTING.purelib, FITTING.interpreter)
        assert (target.uid, target.gid, target.python) == (1234, 50, "3.11")
        assert target.directories == (("/opt", 0o755, 0, 0), ("/opt/conda", 0o2775, 1234, 50))


def test_layers_for_our_own_images_are_named_without_folders() -> None:
    assert "directories" not in InstallTarget("3.11").facts()
    assert "directories" in FITTING.target.facts()


def test_only_the_nvidia_settings_that_the_base_lacks_are_added(cells: Cells) -> None:
    text = recipe(cells).dockerfile
    assert "NVIDIA_VISIBLE_DEVICES" not in text
    assert 'ENV NVIDIA_DRIVER_CAPABILITIES="compute,utility"\n' in text
    assert 'ENV NVIDIA_REQUIRE_CUDA="cuda>=12.8"\n' in text


def test_the_smoke_tests_expect_what_was_found(cells: Cells) -> None:
    expected = json.loads(recipe(cells).files["opt/smoke/expected.json"])
    assert expected["torch"] == {"version": "2.9.1+cu128", "cuda": "12.8"}
    (cell,) = (lock := locked(cells)).cells.values()
    own = local_projects(cells.matrix.projects, PROJECT)["trtkit"].pin
    added = {pin.name: pin.version for pin in (*lock.pins(cell.tensorrt), own)}
    assert {pin.name for pin in TENSORRT} | {"trtkit"} <= added.keys()
    assert expected["packages"] == FITTING.packages | added
    assert (expected["interpreter"], expected["prefix"]) == (FITTING.interpreter, FITTING.prefix)
    assert not expected.keys() & {"user", "bytecode"}


def test_the_guard_goes_before_what_the_base_starts(cells: Cells) -> None:
    theirs = {"entrypoint": ("/entry.sh", 'a "b"'), "command": ("serve", "-x")}
    text = recipe(cells, FITTING.model_copy(update=theirs)).dockerfile
    settings = {one.name: one.argv() for one in read_dockerfile(text) if one.name in ("ENTRYPOINT", "CMD")}
    guard = ["/opt/conda/bin/python", "-ISB", "/opt/trtforge/guard"]
    assert settings == {"ENTRYPOINT": [*guard, "/entry.sh", 'a "b"'], "CMD": ["serve", "-x"]}
    none = [one for one in read_dockerfile(recipe(cells).dockerfile) if one.name in ("ENTRYPOINT", "CMD")]
    assert [one.argv() for one in none] == [guard]


def test_a_base_that_was_locked_before_its_entrypoint_was_looked_at_is_examined_again(cells: Cells) -> None:
    cell = pick(cells, os="acme-torch", tensorrt="rtx")

    def bring(entrypoint: tuple[str, ...] | None, old: Lock | None = None) -> Lock:
        base = FITTING.model_copy(update={"entrypoint": entrypoint})
        return run(cells, Indexes(), cell, old=old or Lock(inputs=""), bring=lambda _reference: base)

    before = bring(None)
    again = bring(("/entry.sh",), before)
    assert before.bases["acme-torch"].entrypoint is None
    assert again.bases["acme-torch"].entrypoint == ("/entry.sh",)
    assert bring(("/other.sh",), again).bases == again.bases
    assert bring(("/other.sh",), bring(())).bases["acme-torch"].entrypoint == ()


def test_another_base_makes_another_image(cells: Cells) -> None:
    moved = FITTING.model_copy(update={"directories": {}})
    assert recipe(cells).key != recipe(cells, moved).key


def test_gc_keeps_the_base_that_a_locked_cell_stands_on(cells: Cells, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with store.work_folder() as work:
        blobs = {}
        for name in ("theirs", "other"):
            (work / name).write_bytes(name.encode())
            digest = "sha256:" + ("c" if name == "theirs" else "d") * 64
            blobs[name] = Layer(digest, digest, len(name), 1)  # type: ignore[arg-type]
            store.keep_layer(layer_name(digest), work / name, blobs[name])
    image = keep_image(b"{}", (blobs["theirs"],), store)
    base = FITTING.model_copy(update={"manifest": image.digest})
    assert held_base(base, store) == image
    assert base_image(base, store, Silent()) == image  # asks no registry
    gone = {path.name for path in collect([recipe(cells, base)], store, dry_run=True).paths}
    assert gone == {f"{layer_name(blobs['other'].digest)}.json", "d" * 64}
    store.blob(blobs["theirs"].digest).unlink()
    assert held_base(base, store) is None
