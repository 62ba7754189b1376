"""Samples from a folder of images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trtkit.calibrate.samples import Sample, Skipped, files_sha256
from trtkit.errors import RequestError
from trtkit.images import UnreadableImage, image_tensor
from trtkit.sidecar import Preprocess
from trtkit.tensors import TensorSpec


class ImageFolder:
    """Images of `folder`, taken in an order that follows from `seed`.

    Raises:
        RequestError: the network takes no such images.
    """

    def __init__(
        self,
        folder: Path,
        files: list[Path],
        inputs: tuple[TensorSpec, ...],
        preprocess: Preprocess,
        seed: int,
    ) -> None:
        crop = preprocess.crop
        if len(inputs) != 1 or not inputs[0].admits((max(inputs[0].shape[:1], default=1), 3, crop, crop)):
            raise RequestError(
                f"the network does not take images of 3x{crop}x{crop}",
                ("because", f"its inputs are: {', '.join(map(str, inputs))}"),
                ("next", _advice(inputs)),
            )
        self._folder, self._preprocess, self._input = folder, preprocess, inputs[0].name
        self._files = [files[index] for index in np.random.default_rng(seed).permutation(len(files))]
        self.total: int | None = len(files)

    def read(self, start: int, stop: int) -> Iterator[Sample | Skipped]:
        for path in self._files[start:stop]:
            name = str(path.relative_to(self._folder))
            try:
                tensor = image_tensor(path.read_bytes(), self._preprocess)
            except UnreadableImage as error:
                yield Skipped(name, error.reason)
            except OSError as error:
                yield Skipped(name, error.strerror or str(error))
            else:
                yield Sample(name, {self._input: tensor[np.newaxis]})

    def sha256(self, stop: int) -> str | None:
        return files_sha256(self._preprocess.model_dump_json(), self._files[:stop])


def _advice(inputs: tuple[TensorSpec, ...]) -> str:
    shape = inputs[0].shape
    if len(inputs) == 1 and len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3] > 0:
        fitting = f'{{"resize": {round(shape[2] / 0.875)}, "crop": {shape[2]}}}'
        return f"--preprocess FILE.json, with {fitting} in it, or how it was trained"
    return "give its samples as .npy or .npz files, or through a data loader: --data module:callable"
