"""Images to try a pipeline with where there are none: gradients and rectangles, the same in every run.

They are shaped as torchvision's classifiers take them. What INT8 costs on them says nothing of real pictures.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

MEAN = np.array([0.485, 0.456, 0.406], np.float32).reshape(3, 1, 1)
STD = np.array([0.229, 0.224, 0.225], np.float32).reshape(3, 1, 1)


def samples(count: int = 2000, size: int = 224) -> Iterator[NDArray[np.float32]]:
    """`count` images of (3, size, size), normalised as ImageNet's are."""
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 1, size, dtype=np.float32)
    for _ in range(count):
        image = np.empty((3, size, size), np.float32)
        for channel in image:
            along, across, offset = random.uniform(-1, 1, 3)
            channel[:] = np.abs(along * ramp[:, None] + across * ramp + offset)
        for _ in range(random.integers(3, 12)):
            top, left = random.integers(0, size - 8, 2)
            height, width = random.integers(8, size // 2, 2)
            image[:, top : top + height, left : left + width] = random.uniform(0, 1, (3, 1, 1))
        yield (image.clip(0, 1) - MEAN) / STD
