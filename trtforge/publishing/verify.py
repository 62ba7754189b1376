"""See that what a registry holds under a digest works: pulled into a clean Engine, and smoke-tested there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtforge.smoke import SmokeReport, smoke

if TYPE_CHECKING:
    from trtforge.engine.engine import Engine
    from trtforge.progress import Progress


def verify_image(
    reference: str, engine: Engine, progress: Progress, gpu: bool | None = None, size: int | None = None
) -> SmokeReport:
    """Pull the image `reference` and run its smoke tests.

    In a disposable Engine (see `fresh_engine`) the image stays until that is thrown away, so that the images
    of one run pull the layers they share once. From any other it is removed before, so that it is truly
    pulled, and after; layers, and names, that other images have there stay.

    Args:
        reference: "host/path/tensorrt@sha256:...".
        gpu: as for `smoke`: None: test with a GPU if the Engine has one.
        size: bytes of its compressed layers, if known.

    Returns:
        What the smoke tests say; that a check failed is no error here.

    Raises:
        RequestError, BuildError, EnvironmentLack: it cannot be pulled; see `Engine.pull`.
    """
    if not engine.disposable:
        engine.remove(reference)
    try:
        engine.pull(reference, progress, size)
        with progress.task(f"smoke tests in {reference}") as advance:
            return smoke(engine, reference, gpu, advance=advance)
    finally:
        if not engine.disposable:
            engine.remove(reference)
