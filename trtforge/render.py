"""A recipe as a folder that a plain `docker build` understands: the Dockerfile and its context."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from trtforge.oci import EPOCH, is_program

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trtforge.oci import Layer
    from trtforge.recipe import Recipe
    from trtforge.store import Store


def render_context(recipe: Recipe, layers: Mapping[str, Layer], store: Store, folder: Path) -> None:
    """Write the Dockerfile of `recipe` and all it needs to `folder`, which is made anew.

    Args:
        layers: key of a source -> its layer in the store. Layers become hard links where the folder is on the
            store's disk, copies elsewhere.
    """
    shutil.rmtree(folder, ignore_errors=True)
    files = recipe.files | {"Dockerfile": recipe.dockerfile.encode()}
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o755 if is_program(content) else 0o644)
        os.utime(file, (EPOCH, EPOCH))  # COPY keeps it
    for name, source in recipe.sources.items():
        blob = store.blob(layers[source.key].digest)
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            file.hardlink_to(blob)
        except OSError:
            shutil.copyfile(blob, file)
