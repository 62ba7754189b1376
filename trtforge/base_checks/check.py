"""One check: what was found, the rule, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """What one check saw.

    status: "failed": it cannot be a base; "warning": it can, and somebody will wonder; "skipped": it could
    not be looked at. found: what is there. rule: what must hold. remedy: what to do, "" if nothing.
    """

    name: str
    status: Literal["passed", "failed", "warning", "skipped"]
    found: str
    rule: str
    remedy: str = ""
