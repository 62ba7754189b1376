"""Which precision a GPU is fast at: data, from NVIDIA's tables (fast_precisions.yaml)."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict
from ruamel.yaml import YAML

from trtkit.sidecar import Precision


def slow_precision(precision: Precision, sms: tuple[str, ...]) -> tuple[str, ...]:
    """A sentence for each of the GPUs `sms` that is not faster in `precision` than in FP32."""
    row = _table().get(precision)
    if row is None:
        return ()
    return tuple(
        f"SM {sm} is not fast at {precision.upper()}: {row.because}"
        for sm in sms
        if int(sm) < row.start or sm in row.exceptions
    )


class _Row(BaseModel):
    """start: the first compute capability that is fast at it; exceptions: later ones that are not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: Precision
    start: int
    exceptions: tuple[str, ...]
    because: str


@cache
def _table() -> dict[Precision, _Row]:
    text = (files("trtkit.build") / "fast_precisions.yaml").read_text(encoding="utf-8")
    rows = [_Row.model_validate(row) for row in YAML(typ="safe").load(text)]
    return {row.precision: row for row in rows}
