"""What became larger, and what smaller, since an image was published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtforge.sizes.report import BASE, layer_sizes
from trtforge.sizes.size import Size, total

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtforge.publishing.catalogue import Catalogue
    from trtforge.publishing.entry import Entry
    from trtforge.sizes.report import LayerSize


@dataclass(frozen=True)
class Growth:
    """The difference to a published image.

    since: its name, with the dated tag.
    change: of the whole. layers: of each layer that changed, what grew most first, by the image that adds it
        and its name; none where the published image's record does not tell its layers.
    """

    since: str
    change: Size
    layers: tuple[tuple[str, str, Size], ...]


def growth(layers: Sequence[LayerSize], before: Entry, catalogue: Catalogue) -> Growth:
    """What an image with `layers` has more than the published one, `before`; less is negative."""
    change = total(one.size for one in layers) - Size(before.size, before.unpacked)
    now = {key: size for key, size in layer_sizes(layers).items() if key[0] != BASE}
    chain = catalogue.chain(before)
    was = {(one.image, name): Size(*sizes) for one in chain for name, sizes in one.layers.items()}
    changed = []
    if all(one.layers for one in chain):
        for image, name in now.keys() | was.keys():
            more = now.get((image, name), Size()) - was.get((image, name), Size())
            if more:
                changed.append((image, name, more))
    changed.sort(key=lambda one: (-one[2].compressed, -one[2].on_disk, one[0], one[1]))
    return Growth(f"{before.image}:{before.dated}", change, tuple(changed))
