"""A folder of generated images: gradients, shapes and noise, as different as small images can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def write_images(folder: Path, number: int, side: int = 40) -> Path:
    """`number` JPEG and PNG files, in folders of two classes; the same ones in every run."""
    for index in range(number):
        random = np.random.default_rng(index)
        width, height = (int(size) for size in random.integers(side // 2, side * 2, 2))
        across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
        gradient = np.stack([across * a + down * b for a, b in random.uniform(0, 128, (3, 2))], axis=-1)
        grain = random.normal(0, random.uniform(0, 30), gradient.shape)
        image = Image.fromarray((gradient + grain).clip(0, 255).astype(np.uint8))
        draw = ImageDraw.Draw(image)
        for left, top, size in random.integers(0, side, (4, 3)):
            colour = tuple(int(value) for value in random.integers(0, 256, 3))
            draw.ellipse([int(left), int(top), int(left + size), int(top + size)], fill=colour)
        path = folder / f"class{index % 2}" / f"{index:04}.{'jpg' if index % 3 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return folder
