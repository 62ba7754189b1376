"""Which precision a GPU is fast at: data, from NVIDIA's tables (fast_precisions.yaml)."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict
from ruamel.yaml import YAML

from trtkit.flavour import Flavour
from trtkit.sidecar import Precision


def slow_precision(precision: Precision, sms: tuple[str, ...], flavour: Flavour) -> tuple[str, ...]:
    """A sentence for each of the GPUs `sms` on which `flavour` is no faster in `precision` than above it."""
    rows = [row for row in _rows() if row.precision == precision and row.flavour in (flavour, None)]
    rows.sort(key=lambda row: row.flavour is None)
    slow = ((sm, next((row for row in rows if row.is_slow(sm)), None)) for sm in sms)
    return tuple(f"SM {sm} is not fast at {precision.upper()}: {row.because}" for sm, row in slow if row)


class _Row(BaseModel):
    """start: the first compute capability that is fast at it; exceptions: later ones that are not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: Precision
    flavour: Flavour | None = None
    start: int
    exceptions: tuple[str, ...] = ()
    because: str

    def is_slow(self, sm: str) -> bool:
        return int(sm) < self.start or sm in self.exceptions


@cache
def _rows() -> tuple[_Row, ...]:
    text = (files("trtkit.build") / "fast_precisions.yaml").read_text(encoding="utf-8")
    return tuple(_Row.model_validate(row) for row in YAML(typ="safe").load(text))
