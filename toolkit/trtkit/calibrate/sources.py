"""Which source of samples a text names."""

from __future__ import annotations

from pathlib import Path

from trtkit.calibrate.array_files import SUFFIXES as ARRAYS
from trtkit.calibrate.array_files import ArrayFiles
from trtkit.calibrate.image_folder import ImageFolder
from trtkit.calibrate.loader import Loader
from trtkit.calibrate.samples import SampleSource
from trtkit.errors import RequestError
from trtkit.images import SUFFIXES as IMAGES
from trtkit.object_reference import is_reference
from trtkit.sidecar import Preprocess
from trtkit.tensors import TensorSpec


def open_source(data: str, inputs: tuple[TensorSpec, ...], preprocess: Preprocess, seed: int) -> SampleSource:
    """The source that `data` names, for a network with `inputs`.

    data: a folder of images or of .npy / .npz files (those in folders below it too), such a file, or
        "module:callable" or "FILE.py:callable".

    Raises:
        RequestError: there is nothing there, or nothing that the network takes.
    """
    path = Path(data)
    if path.is_dir():
        files = sorted(one for one in path.rglob("*") if one.is_file() and not one.name.startswith("."))
        images = [one for one in files if one.suffix.lower() in IMAGES]
        arrays = [one for one in files if one.suffix.lower() in ARRAYS]
        if images and arrays:
            raise RequestError(
                f"{data} holds both images and arrays",
                ("because", f"{images[0].name} and {arrays[0].name} are different kinds of samples"),
                ("next", "give each kind a folder of its own, and name one"),
            )
        if images:
            return ImageFolder(path, images, inputs, preprocess, seed)
        if arrays:
            return ArrayFiles(arrays, inputs, seed)
        raise RequestError(
            f"{data} holds no samples",
            ("because", f"none of its {len(files)} files is called {', '.join(sorted(IMAGES | ARRAYS))}"),
            ("next", "name a folder with 500 to 1000 samples of what the network will see"),
        )
    if path.is_file() and path.suffix.lower() in ARRAYS:
        return ArrayFiles([path], inputs, seed)
    if not path.exists() and is_reference(data):
        return Loader(data, inputs)
    raise RequestError(
        f"there are no samples at {data}",
        ("because", "it is another kind of file" if path.exists() else "there is no such folder or file"),
        ("next", "name a folder of images, .npy or .npz files, or a data loader as FILE.py:callable"),
    )
