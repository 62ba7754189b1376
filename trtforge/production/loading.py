"""The last steps of a build, as calls of a graph's nodes: an image comes into the Engine and is tested there,
and a record tells what became of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trtforge.base import base_image, load_base
from trtforge.engine.docker_archive import LoadableImage
from trtforge.engine.docker_builder import build_with_docker
from trtforge.engine.engine import RECIPE_LABEL
from trtforge.production.steps import image_key, layer_key
from trtforge.record import Record, find_record, keep_record
from trtforge.render import render_context
from trtforge.smoke import smoke

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trtforge.engine.engine import Engine
    from trtforge.image import Image
    from trtforge.oci import Layer
    from trtforge.production.steps import Workplace
    from trtforge.progress import Progress
    from trtforge.recipe import Recipe
    from trtforge.store import Store


def record_key(recipe: Recipe) -> str:
    """The key of the node that has the image of `recipe` where it was to go."""
    return f"record {recipe.ref}"


def in_engine(recipe: Recipe, engine: Engine) -> bool:
    """Whether all names of `recipe` lead to an image made from it."""
    return all(
        engine.has(ref) and engine.config(ref).get("Labels", {}).get(RECIPE_LABEL) == recipe.key
        for ref in recipe.refs
    )


def load_image(
    place: Workplace, found: Mapping[str, Any], *, recipe: Recipe, engine: Engine | None
) -> Record:
    """Have the image, which is in the store, in the Engine too, if there is one."""
    image: Image = found[image_key(recipe)]
    loadable = LoadableImage(image.config, image.layers, recipe.refs)
    if engine and not in_engine(recipe, engine):
        engine.load(loadable, place.store, place.progress)
    return _recorded(
        Record(
            ref=recipe.ref,
            recipe_key=recipe.key,
            digest=image.digest,
            image_id=loadable.id,
            layers=len(image.layers),
            size=image.size,
            unpacked=image.unpacked,
        ),
        place.store,
    )


def build_image(
    place: Workplace, found: Mapping[str, Any], *, recipe: Recipe, made: Mapping[str, Layer], engine: Engine
) -> Record:
    """Have the Engine build the image of `recipe`, unless it has it.

    Args:
        made: key of a source -> its layer, for those that no node makes.
    """
    if not in_engine(recipe, engine):
        layers = {one.key: made.get(one.key) or found[layer_key(one)] for one in recipe.sources.values()}
        here = _on_local_base(recipe, engine, place.store, place.progress)
        with place.store.work_folder() as work:
            render_context(here, layers, place.store, work / "context")
            build_with_docker(work / "context", recipe.refs, engine, place.progress)
    facts = engine.facts(recipe.ref)
    return _recorded(
        Record(
            ref=recipe.ref,
            recipe_key=recipe.key,
            digest="",
            image_id=facts.id,
            layers=facts.layers,
            size=0,
            unpacked=facts.size,
        ),
        place.store,
    )


def test_image(place: Workplace, found: Mapping[str, Any], *, recipe: Recipe, engine: Engine) -> Record:
    """The record with smoke results: those it has, unless they are bad or more checks can run here."""
    record: Record = found[record_key(recipe)]
    if record.smoke and record.smoke.ok and not (record.smoke.count("skipped") and engine.has_gpu()):
        return record
    with place.progress.task(f"smoke tests in {record.ref}") as advance:
        record = record.model_copy(update={"smoke": smoke(engine, record.ref, advance=advance)})
    keep_record(record, place.store)
    return record


def _on_local_base(recipe: Recipe, engine: Engine, store: Store, progress: Progress) -> Recipe:
    """`recipe` with FROM naming the brought base as the Engine has it from us: it need not reach, or be let
    into, the registry."""
    if recipe.base is None:
        return recipe
    load_base(base_image(recipe.base, store, progress), engine, store, progress)
    local = recipe.dockerfile.replace(f"FROM {recipe.base.image}\n", f"FROM {recipe.base.tag}\n", 1)
    return replace(recipe, dockerfile=local)


def _recorded(record: Record, store: Store) -> Record:
    """`record` with the smoke results that this very image has had, kept in the store."""
    known = find_record(record.recipe_key, store)
    if known and known.image_id == record.image_id:
        record = record.model_copy(update={"smoke": known.smoke})
    if record != known:
        keep_record(record, store)
    return record
