"""The main job: locked cells become images in the store, in the Engine, and tested there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from trtforge.base import base_image, load_base
from trtforge.engine.docker_archive import LoadableImage
from trtforge.engine.docker_builder import build_with_docker
from trtforge.engine.engine import RECIPE_LABEL
from trtforge.image import Image, assemble, check_followable, name_image
from trtforge.index.fetch import fetch
from trtforge.layers.maker import LayerMaker
from trtforge.locking import PLATFORM
from trtforge.plan import ImagePlan, check_disk, plan_image, wheels_needed
from trtforge.record import Record, find_record, keep_record
from trtforge.render import render_context
from trtforge.smoke import smoke

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from trtforge.cells import Cell
    from trtforge.engine.engine import Engine
    from trtforge.lock import Lock
    from trtforge.oci import Layer
    from trtforge.progress import Progress
    from trtforge.project import Project
    from trtforge.recipe import Recipe

Builder = Literal["oci", "docker"]


@dataclass(frozen=True)
class Built:
    """One image of a build.

    action: "reuse" if nothing had to be done for it. made: how many of its layers were new to the store.
    """

    recipe: Recipe
    record: Record
    action: Literal["build", "reuse"]
    made: int


@dataclass(frozen=True)
class Build:
    """How cells are built.

    engine: connects to the Engine that images are loaded into; None: they stay in the store.
    run_smoke: whether finished images are tested in the Engine.
    jobs: how many layers, and how many downloads, at a time.
    """

    project: Project
    progress: Progress
    builder: Builder = "oci"
    engine: Callable[[], Engine] | None = None
    run_smoke: bool = True
    jobs: int = 2

    def run(self, cells: Sequence[Cell], lock: Lock) -> list[list[Built]]:
        """Build each cell's chain of images; one list a cell, parent first.

        Raises:
            ForgeError: what failed; everything finished before it stays in the store.
        """
        chains = [self.project.recipes.chain(cell, lock) for cell in cells]
        if self.builder == "oci":
            for chain in chains:
                for recipe in chain:
                    check_followable(recipe.dockerfile)
        plans = self.plans(chains)
        engine = self.engine() if self.engine else None  # before the long work: it may be missing
        if self.builder == "docker" and engine:
            todo = [plan for plan in plans if not _in_engine(plan.recipe, engine)]
            records = self._with_docker(plans, self.layers(todo), engine)
        else:
            todo = [plan for plan in plans if plan.image is None]
            records = self._with_oci(plans, self.layers(todo), engine)
        if engine and self.run_smoke:
            for chain in chains:
                records[chain[-1].key] = self._tested(records[chain[-1].key], engine)
        done = {
            plan.recipe.key: Built(
                plan.recipe,
                records[plan.recipe.key],
                "build" if plan in todo else "reuse",
                _made(plan, records) if plan in todo else 0,
            )
            for plan in plans
        }
        return [[done[recipe.key] for recipe in chain] for chain in chains]

    def plans(self, chains: Iterable[Sequence[Recipe]]) -> list[ImagePlan]:
        """What is to be done for each distinct image of `chains`, parents first; there is room for it."""
        recipes = {recipe.key: recipe for chain in chains for recipe in chain}
        plans = [plan_image(recipe, self.project.store) for recipe in recipes.values()]
        check_disk(plans, self.project.store)
        return plans

    def layers(self, plans: Sequence[ImagePlan]) -> dict[str, Layer]:
        """Every layer of the planned images, by the key of its source; made if the store lacks it."""
        project = self.project
        project.store.sweep()
        wheels: dict[str, Path] = {}
        for python, pins in wheels_needed(plans).items():
            wheels |= fetch(
                pins,
                project.store,
                project.sources,
                self.progress,
                self.jobs,
                python=python,
                platform=PLATFORM,
            )
        maker = LayerMaker(project.store, self.progress, wheels, self.jobs)
        return maker.make(source for plan in plans for source in plan.recipe.sources.values())

    def _with_oci(
        self, plans: Sequence[ImagePlan], layers: Mapping[str, Layer], engine: Engine | None
    ) -> dict[str, Record]:
        store = self.project.store
        images: dict[str, Image] = {}
        records = {}
        for plan in plans:
            recipe = plan.recipe
            image = plan.image or assemble(
                recipe.dockerfile,
                {path: layers[source.key] for path, source in recipe.sources.items()},
                recipe.files,
                self._below(recipe, images),
                store,
            )
            images[recipe.key] = image
            loadable = LoadableImage(image.config, image.layers, recipe.refs)
            if plan.image is None:
                for ref in recipe.refs:
                    name_image(image, ref, recipe.key, store)
            if engine and not _in_engine(recipe, engine):
                engine.load(loadable, store, self.progress)
            records[recipe.key] = self._recorded(
                Record(
                    ref=recipe.ref,
                    recipe_key=recipe.key,
                    digest=image.digest,
                    image_id=loadable.id,
                    layers=len(image.layers),
                    size=image.size,
                    unpacked=image.unpacked,
                )
            )
        return records

    def _below(self, recipe: Recipe, images: Mapping[str, Image]) -> Image | None:
        """What FROM names."""
        if recipe.base:
            return base_image(recipe.base, self.project.store, self.progress)
        return images[recipe.parent.key] if recipe.parent else None

    def _with_docker(
        self, plans: Sequence[ImagePlan], layers: Mapping[str, Layer], engine: Engine
    ) -> dict[str, Record]:
        store = self.project.store
        records = {}
        for plan in plans:
            recipe = plan.recipe
            if not _in_engine(recipe, engine):
                here = self._on_local_base(recipe, engine)
                with store.work_folder() as work:
                    render_context(here, layers, store, work / "context")
                    build_with_docker(work / "context", recipe.refs, engine, self.progress)
            facts = engine.facts(recipe.ref)
            records[recipe.key] = self._recorded(
                Record(
                    ref=recipe.ref,
                    recipe_key=recipe.key,
                    digest="",
                    image_id=facts.id,
                    layers=facts.layers,
                    size=0,
                    unpacked=facts.size,
                )
            )
        return records

    def _on_local_base(self, recipe: Recipe, engine: Engine) -> Recipe:
        """`recipe` with FROM naming the brought base as the Engine has it from us: it need not reach, or
        be let into, the registry."""
        if recipe.base is None:
            return recipe
        load_base(
            base_image(recipe.base, self.project.store, self.progress),
            engine,
            self.project.store,
            self.progress,
        )
        local = recipe.dockerfile.replace(f"FROM {recipe.base.image}\n", f"FROM {recipe.base.tag}\n", 1)
        return replace(recipe, dockerfile=local)

    def _recorded(self, record: Record) -> Record:
        """`record` with the smoke results that this very image has had, kept in the store."""
        known = find_record(record.recipe_key, self.project.store)
        if known and known.image_id == record.image_id:
            record = record.model_copy(update={"smoke": known.smoke})
        if record != known:
            keep_record(record, self.project.store)
        return record

    def _tested(self, record: Record, engine: Engine) -> Record:
        """`record` with smoke results: those it has, unless they are bad or more checks can run here."""
        if record.smoke and record.smoke.ok and not (record.smoke.count("skipped") and engine.has_gpu()):
            return record
        with self.progress.task(f"smoke tests in {record.ref}"):
            record = record.model_copy(update={"smoke": smoke(engine, record.ref)})
        keep_record(record, self.project.store)
        return record


def _made(plan: ImagePlan, records: Mapping[str, Record]) -> int:
    """How many layers `plan` added: those that were missing, and what it copied."""
    recipe = plan.recipe
    below = records[recipe.parent.key].layers if recipe.parent else recipe.base.layers if recipe.base else 0
    copied = records[recipe.key].layers - below - len(recipe.sources)
    return len(plan.missing) + copied


def _in_engine(recipe: Recipe, engine: Engine) -> bool:
    """Whether all names of `recipe` lead to an image made from it."""
    return all(
        engine.has(ref) and engine.config(ref).get("Labels", {}).get(RECIPE_LABEL) == recipe.key
        for ref in recipe.refs
    )
