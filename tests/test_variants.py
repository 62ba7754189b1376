"""Variants: what a cell's chain ends with, what it is called, and the one without torch, which serves."""

from __future__ import annotations

import json
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.conftest import PROJECT
from tests.lock_factory import PYTHON3, lock_of, pin
from tests.memory_registry import MemoryNamespace
from tests.published_factory import Publisher, changed
from tests.test_cli import root, type_  # noqa: F401 (fixtures)
from tests.test_locking import Indexes, pick, run
from trtforge.cells import Cell, Cells
from trtforge.commands import rollback as rollback_command
from trtforge.commands.pull import Wanted, find_wanted, run_line
from trtforge.commands.selection import Session
from trtforge.dockerfile import Instruction, read_dockerfile
from trtforge.errors import CompatibilityError, MatrixError, RequestError
from trtforge.image import check_followable
from trtforge.layers.sources import LinksSource
from trtforge.lock import Lock, LockedCell, read_lock
from trtforge.matrix import Contents
from trtforge.progress import Silent
from trtforge.project import Project
from trtforge.publishing.catalogue import read_catalogue
from trtforge.publishing.facts import facts_of
from trtforge.recipe import Recipes
from trtforge.store import Store
from trtforge.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.test_cli import Said
    from trtforge.matrix import Matrix
    from trtforge.recipe import Recipe
    from trtforge.registry.namespace import Namespace


@pytest.fixture(scope="module")
def recipes(cells: Cells) -> Recipes:
    return Recipes(PROJECT, cells)


def chain(recipes: Recipes, cells: Cells, **request: str) -> Sequence[Recipe]:
    cell = pick(cells, **{"tensorrt": "rtx", "variant": "serve", **request})
    return recipes.chain(cell, lock_of(cells, cell))


# The chain


def test_what_serves_stands_on_the_system_and_has_no_torch(recipes: Recipes, cells: Cells) -> None:
    system, image = chain(recipes, cells, cuda="12.1")
    assert image.parent == system
    assert image.refs == ("trtforge/serve:rtx1.7.1.116-cu12.1-ampere", "trtforge/serve:cu12.1-ampere")
    pins = {one.name for source in image.sources.values() for one in source.pins}
    assert {"tensorrt-rtx-cu12-libs", "trtkit"} <= pins
    assert not any("torch" in name for name in pins)
    expected = json.loads(image.files["opt/smoke/expected.json"])
    assert (expected["image"], expected["cuda"], expected["user"]) == ("serve", "12.1", "trt")
    assert expected["sm"] == ["80", "86"]
    assert "torch" not in {*expected, *expected["packages"]}
    assert "torch" not in image.dockerfile.lower()


def test_both_variants_stand_on_one_system_and_share_their_layers(recipes: Recipes, cells: Cells) -> None:
    serving, runtime = chain(recipes, cells), chain(recipes, cells, variant="runtime")
    assert serving[0] == runtime[0]
    assert list(serving[-1].sources) == list(runtime[-1].sources)


def test_what_serves_is_watched_listens_and_is_not_root(recipes: Recipes, cells: Cells) -> None:
    *_, image = chain(recipes, cells, cuda="12.1")
    check_followable(image.dockerfile)
    said = {one.name: one for one in read_dockerfile(image.dockerfile)}
    (port,) = said["EXPOSE"].ports()
    check = said["HEALTHCHECK"].health_check()
    assert f":{port.removesuffix('/tcp')}/health" in check["Test"][-1]
    assert check["Interval"] > check["Timeout"] > 0
    assert said["USER"].value == "1000:1000"
    assert said["CMD"].argv()[:2] == ["trtkit", "serve"]
    assert 'NVIDIA_REQUIRE_CUDA="cuda>=12.1"' in image.dockerfile
    assert 'io.trtforge.driver="525"' in image.dockerfile


def test_every_image_that_is_locked_is_watched_and_not_root(recipes: Recipes) -> None:
    lock = read_lock(PROJECT / "matrix.lock", None)
    locked = [Cell(**one.axes) for one in lock.cells.values() if one.state == "locked"]
    assert {"runtime", "devel", "jupyter", "ssh", "serve", "deploy"} <= {cell.variant for cell in locked}
    for cell in locked:
        said: dict[str, Instruction] = {}
        for recipe in recipes.chain(cell, lock):
            said |= {one.name: one for one in read_dockerfile(recipe.dockerfile)}
        assert said["HEALTHCHECK"].health_check()["Retries"] == 3
        assert said["USER"].value == "1000:1000"


@pytest.mark.parametrize(
    ("cuda", "version", "library", "folder"),
    [
        ("11.8", "10.13.0.35", "nvidia-cuda-runtime-cu11", "nvidia/cuda_runtime/lib"),
        ("12.8", "10.16.1.11", "nvidia-cuda-runtime-cu12", "nvidia/cuda_runtime/lib"),
        ("13.0", "10.16.1.11", "nvidia-cuda-runtime", "nvidia/cu13/lib"),
    ],
)
def test_the_full_tensorrt_finds_the_cuda_library_that_torch_would_bring(
    recipes: Recipes, cells: Cells, cuda: str, version: str, library: str, folder: str
) -> None:
    serving = pick(cells, cuda=cuda, tensorrt="full", variant="serve")
    assert serving.tensorrt == version
    major = cuda.partition(".")[0]
    libs = [f"tensorrt-cu{major}{part}" for part in ("-libs", "-bindings", "")]
    pins = {name: pin(name, version, 5, "b") for name in libs} | {library: pin(library, f"{major}.1", 5, "c")}
    lock = Lock(
        inputs="x",
        os={"debian12": (PYTHON3,)},
        sets={"all": tuple(one.filename for one in pins.values())},
        wheels={one.filename: one for one in pins.values()},
        cells={
            cells.name(serving): LockedCell(
                axes=serving.axes(), state="locked", tensorrt="all", image="serve"
            )
        },
    )
    *_, image = recipes.chain(serving, lock)
    links = [(one.pin.name, one.folder) for one in image.sources.values() if isinstance(one, LinksSource)]
    assert links == [(libs[0], "tensorrt_libs"), (library, folder)]
    assert any(one.startswith(library) for one in cells.wheels(serving))
    with_torch = pick(cells, cuda=cuda, tensorrt="full")
    assert cells.cuda_library(with_torch) is None
    assert not any(one.startswith("nvidia-cuda-runtime") for one in cells.wheels(with_torch))


def test_what_an_image_does_not_copy_does_not_make_it_another(recipes: Recipes, cells: Cells) -> None:
    """The examples are in the image that develops, not in the one that serves."""
    *_, serving = chain(recipes, cells)
    *_, runtime = chain(recipes, cells, variant="runtime")
    assert not any(path.startswith("examples/") for path in serving.files)
    assert any(path.startswith("examples/") for path in runtime.files)


# Locking


def test_a_cell_without_torch_is_locked_without_it(cells: Cells) -> None:
    indexes = Indexes()
    serving = [pick(cells, cuda=cuda, tensorrt="rtx", variant="serve") for cuda in ("12.1", "12.8")]
    lock = run(cells, indexes, *serving)
    assert len(indexes.asked) == 1
    assert not any("torch" in requirement for requirement, _, _ in indexes.asked[0])
    assert indexes.constraints == [set()]
    assert {(one.base, one.tensorrt, one.image) for one in lock.cells.values()} == {
        ("", "tensorrt-rtx-cu12-1.7.1.116-for-serve-py3.11", "serve")
    }
    assert lock.sets.keys() == {"tensorrt-rtx-cu12-1.7.1.116-for-serve-py3.11"}
    assert "numpy" in {one.name for one in lock.wheels.values()}  # no base brings it
    assert not any(one.name == "trtkit" for one in lock.wheels.values())


def test_the_cuda_library_is_locked_with_the_full_tensorrt(cells: Cells) -> None:
    indexes = Indexes()
    run(cells, indexes, pick(cells, cuda="13.0", tensorrt="full", variant="serve"))
    assert ("nvidia-cuda-runtime==13.*", "default", False) in indexes.asked[0]
    run(cells, indexes, pick(cells, cuda="13.0", tensorrt="rtx", variant="serve"))
    assert not any("cuda-runtime" in requirement for requirement, _, _ in indexes.asked[1])


# Names


def test_names_are_unique_in_the_lock_and_tags_in_their_image(cells: Cells) -> None:
    published = [choice.cell for choice in cells.published()]
    assert {cells.variant(cell).image for cell in published} == {
        variant.image for variant in cells.matrix.axes.variant.values()
    }
    assert len({cells.name(cell) for cell in published}) == len(published)
    assert len({(cells.variant(cell).image, cells.tag(cell)) for cell in published}) == len(published)
    one = pick(cells, cuda="12.1", tensorrt="rtx", variant="serve")
    assert cells.name(one) == "rtx1.7.1.116-cu12.1-ampere-serve"
    assert cells.name(pick(cells, cuda="12.1", tensorrt="rtx")) == "rtx1.7.1.116-pt2.9.1-cu12.1-ampere"


def test_cells_of_one_name_are_one_image(recipes: Recipes, cells: Cells) -> None:
    """Which torch would stand beside it does not matter where there is none."""
    same = [
        pick(cells, cuda="12.8", tensorrt="rtx", variant="serve", torch=torch)
        for torch in ("2.9.1", "2.9.1+cu126")
    ]
    assert len({cells.name(cell) for cell in same}) == 1
    chains = [recipes.chain(cell, lock_of(cells, cell)) for cell in same]
    assert chains[0] == chains[1]
    assert facts_of(same[0], chains[0], cells) == facts_of(same[1], chains[1], cells)


def test_a_short_tag_has_an_owner_in_each_image(recipes: Recipes, cells: Cells) -> None:
    for variant in ("runtime", "serve"):
        cell = pick(cells, cuda="12.8", tensorrt="rtx", variant=variant)
        made = recipes.chain(cell, lock_of(cells, cell))
        facts = facts_of(cell, made, cells)[made[-1].key]
        assert facts.tags[1:] == ("cu12.8-ampere",)
        assert ("torch" in facts.axes, "build" in facts.axes) == (variant == "runtime",) * 2
        assert facts.axes["variant"] == variant


# Rules


def test_what_serves_needs_an_os_of_ours(matrix: Matrix) -> None:
    from tests.base_factory import cells_with_base

    with pytest.raises(CompatibilityError) as caught:
        cells_with_base(matrix).choose({"os": ("acme-torch",), "variant": ("serve",)})
    assert caught.value.rule == "no-torch-on-an-os-of-ours"
    nearest = [text for label, text in caught.value.facts if label == "nearest"]
    assert any(text.startswith("--os ") and "serve, no torch" in text for text in nearest)
    assert any(text.startswith("--variant runtime") and "torch 2.9.1+cu128" in text for text in nearest)


def test_a_requirement_may_name_facts_of_the_cell_and_no_others(matrix: Matrix) -> None:
    def wheels(text: str) -> list[str]:
        images = matrix.images.model_copy(update={"serve": Contents(wheels=[text])})
        with_it = Cells(matrix.model_copy(update={"images": images}))
        return with_it.wheels(pick(with_it, cuda="12.1", tensorrt="rtx", variant="serve"))

    assert wheels("x=={cuda_major}.{python}") == ["x==12.3.11"]
    with pytest.raises(MatrixError, match="'cudnn'") as caught:
        wheels("x=={cudnn}")
    assert "cuda_major" in (caught.value.fact("known") or "")


# Pull and rollback


@pytest.fixture
def memory() -> MemoryNamespace:
    return MemoryNamespace()


def publishers(memory: MemoryNamespace, folder: Path, cells: Cells) -> dict[str, Publisher]:
    """Who publishes both variants of one cell."""
    request = {"cuda": ("12.1",), "arch": ("ampere",), "tensorrt": ("rtx",)}
    return {
        variant: Publisher(
            cells, Store(folder / "store"), cast("Namespace", memory), {**request, "variant": (variant,)}
        )
        for variant in ("runtime", "serve")
    }


def test_a_variant_is_pulled_from_its_own_image(
    memory: MemoryNamespace, tmp_path: Path, cells: Cells
) -> None:
    both = publishers(memory, tmp_path, cells)
    entries = {variant: one.promote(one.make())[-1] for variant, one in both.items()}
    assert [one.image for one in entries.values()] == ["tensorrt", "serve"]
    namespace = cast("Namespace", memory)
    catalogue = read_catalogue(namespace, Silent())

    def ask(**request: str) -> list[str]:
        asked: dict[str, tuple[str, ...]] = {axis: (value,) for axis, value in request.items()}
        session = Session(Project(PROJECT), asked, False, Terminal())
        return [one.entry.digest for one in find_wanted(session, namespace, catalogue)]

    exactly: list[dict[str, str]] = [{}, {"tensorrt": "rtx"}, {"tensorrt": "rtx", "torch": "2.9.1"}]
    for variant, exact in product(("runtime", "serve"), exactly):
        assert ask(cuda="12.1", arch="ampere", variant=variant, **exact) == [entries[variant].digest]
    assert ask(cuda="12.1", arch="ampere") == [entries["runtime"].digest]
    with pytest.raises(RequestError, match=r"serve:cu12\.1-ada is not published") as caught:
        ask(cuda="12.1", arch="ada", variant="serve")
    assert caught.value.fact("published") == "cu12.1-ampere"
    lines = {variant: run_line("x", Wanted(entry, ()), gpu=True) for variant, entry in entries.items()}
    assert "import torch" in lines["runtime"]
    assert lines["serve"] == 'docker run --rm --gpus all -p 8000:8000 -v "$PWD/models:/models:ro" x'


def test_a_variant_is_rolled_back_alone(
    memory: MemoryNamespace,
    tmp_path: Path,
    cells: Cells,
    monkeypatch: pytest.MonkeyPatch,
    type_: Callable[[str], Said],  # noqa: F811
) -> None:
    both = publishers(memory, tmp_path, cells)
    days: dict[str, list[Any]] = {
        variant: [one.promote(one.make(changed(one.lock, "onnx", digit)))[-1] for digit in "ab"]
        for variant, one in both.items()
    }

    @contextmanager
    def opened(*_options: object) -> Iterator[MemoryNamespace]:
        yield memory

    monkeypatch.setattr(rollback_command, "open_namespace", opened)
    said = type_("rollback --cuda 12.1 --arch ampere --variant serve --json")
    assert (said.code, said.err) == (0, "")
    assert [(one["name"], one["digest"]) for one in said.answer] == [
        (f"{memory.name('serve')}:cu12.1-ampere", days["serve"][0].digest)
    ]
    assert both["serve"].leads_to("cu12.1-ampere", "serve") == days["serve"][0].digest
    assert both["runtime"].leads_to("cu12.1-ampere") == days["runtime"][1].digest


# What is said of it


def test_plan_says_that_there_is_no_torch(type_: Callable[[str], Said]) -> None:  # noqa: F811
    (plan,) = type_("plan --cuda 12.1 --tensorrt rtx --variant serve --json").answer
    told = {line["what"]: line["why"] for line in plan["explanation"]}
    assert "torch" not in told
    assert told["cuda"].endswith("TensorRT loads no library of it, and there is no torch")
    assert [image["image"] for image in plan["images"]] == ["os", "serve"]
    (plan,) = type_("plan --cuda 13.0 --tensorrt full --variant serve --json").answer
    told = {line["what"]: line["why"] for line in plan["explanation"]}
    assert "nvidia-cuda-runtime" in told["cuda"]
    (plan,) = type_("plan --cuda 12.1 --tensorrt rtx --json").answer
    assert "torch's own" in {line["what"]: line["why"] for line in plan["explanation"]}["cuda"]


def test_cells_lists_each_variant_by_its_own_name(type_: Callable[[str], Said]) -> None:  # noqa: F811
    said = type_("cells --cuda 12.1 --arch ampere --tensorrt 1.7.1.116 --os debian12 --torch 2.9.1")
    names = said.out.splitlines()
    assert names[:2] == ["rtx1.7.1.116-pt2.9.1-cu12.1-ampere", "rtx1.7.1.116-pt2.9.1-cu12.1-ampere-slim"]
    assert "rtx1.7.1.116-cu12.1-ampere-serve" in names
