"""A folder with a tiny network in PyTorch, samples for it, and a pipeline's file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

NETWORK = """
import numpy as np
import torch


def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(8, 4),
    )


def samples():
    random = np.random.default_rng(0)
    return (random.standard_normal((3, 8, 8), np.float32) for _ in range(60))
"""


def wanted(**changes: Any) -> dict[str, Any]:
    """What the file says: everything, small; with `changes` in place of its keys."""
    asked: dict[str, Any] = {
        "model": "tiny.py:net",
        "export": {"inputs": ["image:1x3x8x8"], "batches": [1, 2], "device": "cpu"},
        "profile": {"min": ["image:1x3x8x8"], "opt": ["image:2x3x8x8"], "max": ["image:4x3x8x8"]},
        "labels": "labels.txt",
        "calibrate": {"data": "tiny.py:samples", "samples": 20, "evaluate": 10, "method": "minmax"},
        "engines": [{"precision": "fp16", "sm": [86]}, {"precision": "int8", "sm": [86]}],
        "bench": {"batches": [1], "rounds": 1, "round_seconds": 0.05, "warm_up_seconds": 0},
        "budgets": {"cosine": 0.5},
    }
    return asked | changes


def write(folder: Path, asked: Mapping[str, Any]) -> Path:
    """Write tiny.yaml, and what it names where that is not there; the file."""
    if not (folder / "tiny.py").exists():
        (folder / "tiny.py").write_text(NETWORK)
        (folder / "labels.txt").write_text("a\nb\nc\nd\n")
    path = folder / "tiny.yaml"
    YAML(typ="safe").dump(dict(asked), path)
    return path
