"""The choice of code agrees with the smoke tests' rule, which reads compilers' flags instead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoke.arch import runs_on
from trtforge.slim.fatbin import Entry
from trtforge.slim.select import kept


def entries(*architectures: str) -> list[Entry]:
    made = []
    for architecture in architectures:
        kind, _, number = architecture.partition("_")
        suffix = number.lstrip("0123456789")
        made.append(Entry(0, 8, kind, int(number.removesuffix(suffix)), suffix))  # type: ignore[arg-type]
    return made


def chosen(gpus: list[int], *architectures: str) -> list[str]:
    return [entry.architecture for entry in kept(entries(*architectures), gpus)]


@pytest.mark.parametrize(
    ("gpus", "has", "stay"),
    [
        ([80], ["sm_70", "sm_80", "sm_86"], ["sm_80"]),
        ([86], ["sm_80", "sm_90"], ["sm_80"]),
        ([89], ["sm_80", "sm_86", "sm_90"], ["sm_86"]),
        ([80, 86], ["sm_75", "sm_80", "sm_86"], ["sm_80", "sm_86"]),
        ([90], ["sm_90", "sm_90a", "compute_90"], ["sm_90", "sm_90a"]),
        ([90], ["sm_80", "compute_80", "compute_70"], ["compute_80"]),
        ([80, 90], ["sm_80", "compute_80"], ["sm_80", "compute_80"]),
        ([103], ["sm_100", "sm_100a", "sm_100f", "sm_103f"], ["sm_100", "sm_100f", "sm_103f"]),
        ([103], ["sm_100a", "compute_100"], ["compute_100"]),
        ([103], ["sm_100f"], ["sm_100f"]),
        ([110], ["sm_100f", "compute_100f"], []),
        ([75], ["sm_80", "compute_80"], []),
        ([90], ["sm_90", "sm_90"], ["sm_90", "sm_90"]),
    ],
)
def test_what_stays(gpus: list[int], has: list[str], stay: list[str]) -> None:
    assert chosen(gpus, *has) == stay


NUMBERS = st.sampled_from([50, 60, 70, 75, 80, 86, 89, 90, 100, 103, 120])
FLAGS = st.lists(st.builds("{}_{}".format, st.sampled_from(["sm", "compute"]), NUMBERS), max_size=6)


@given(NUMBERS, FLAGS)
def test_what_a_gpu_would_run_is_always_among_what_stays(gpu: int, flags: list[str]) -> None:
    stay = chosen([gpu], *flags)
    best = runs_on(str(gpu), flags)
    assert (best in stay) if best else not stay
    assert {flag.split("_")[0] for flag in stay} <= {(best or "").split("_")[0]}
