"""How to calibrate."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trtkit.errors import RequestError
from trtkit.sidecar import Preprocess

Method = Literal["entropy", "minmax", "percentile"]
"""How the range of a tensor follows from its values. entropy: where cutting the tail loses the least
information, as TensorRT's own calibrators do; minmax: all of it; percentile: all but the largest few."""

ADVISED_SAMPLES = 500
"""TensorRT's guide: about 500 images are enough for an ImageNet network; 500 to 1000 are usual."""

FEW_SAMPLES = 100
"""With fewer, the report asks whether they are representative."""


@dataclass(frozen=True)
class CalibrateOptions:
    """How to calibrate.

    data: where samples come from: a folder of images or of .npy / .npz files, one such file, or
        "module:callable", a data loader.
    samples: how many to calibrate with, at most. seed: of the order in which files are taken.
    percentile: of the method "percentile": percent of a tensor's values that its range covers.
    cache: a file of ranges that is used where it fits, and written where it does not.
    keep_fp16: globs over a node's name, the names of its outputs, its type, and the PyTorch modules it came
        from; these nodes are not quantised.
    preprocess: how images become the input.
    evaluate: how many samples to compare INT8 with FP32 on.
    min_agreement: the least share (0 to 1) of samples whose top-1 class stays the same; None for no limit.
    """

    data: str
    samples: int = ADVISED_SAMPLES
    method: Method = "entropy"
    percentile: float = 99.99
    cache: Path | None = None
    keep_fp16: tuple[str, ...] = ()
    seed: int = 0
    preprocess: Preprocess = field(default_factory=Preprocess)
    evaluate: int = 100
    min_agreement: float | None = None

    def __post_init__(self) -> None:
        for name, valid, rule in (
            ("samples", self.samples > 0, "1 or more"),
            ("evaluate", self.evaluate > 0, "1 or more"),
            ("percentile", 50 < self.percentile <= 100, "above 50, and 100 at most"),
            ("min_agreement", 0 <= (self.min_agreement or 0) <= 1, "between 0 and 1"),
        ):
            if not valid:
                option = "--" + name.replace("_", "-")
                raise RequestError(
                    f"{option} {getattr(self, name)} is out of range", ("next", f"it is {rule}")
                )
