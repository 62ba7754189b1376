"""What a throw-away Engine is told, and what it leaves; tests/e2e/test_pull.py runs one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.fake_engine import FakeEngine, running
from trtforge.engine import fresh as engine_fresh
from trtforge.engine.fresh import fresh_engine, settings
from trtforge.engine.own import mounts_below
from trtforge.errors import EnvironmentLack


def test_gpus_and_registries_are_reached_as_the_machine_does(tmp_path: Path) -> None:
    machine = tmp_path / "daemon.json"
    nvidia = {"nvidia": {"path": "nvidia-container-runtime", "args": []}}
    machine.write_text(
        json.dumps(
            {
                "runtimes": nvidia,
                "features": {"cdi": True, "containerd-snapshotter": True},
                "registry-mirrors": ["https://mirror.example"],
                "insecure-registries": ["old.example:80"],
                "data-root": "/big",
                "hosts": ["tcp://0.0.0.0:2375"],
            }
        )
    )
    assert settings(machine, ["new.example:5000"]) == {
        "runtimes": nvidia,
        "features": {"cdi": True, "containerd-snapshotter": False},
        "registry-mirrors": ["https://mirror.example"],
        "insecure-registries": ["new.example:5000", "old.example:80"],
    }


@pytest.mark.parametrize("content", [None, "{not json", "[]"])
def test_a_machine_without_settings_has_none(content: str | None, tmp_path: Path) -> None:
    machine = tmp_path / "daemon.json"
    if content is not None:
        machine.write_text(content)
    assert settings(machine, []) == {
        "insecure-registries": [],
        "features": {"containerd-snapshotter": False},
    }


def test_mounts_are_found_innermost_first() -> None:
    line = "36 35 98:0 / {} rw,relatime shared:1 - ext4 /dev/vda rw"
    points = ["/", "/c/fresh/a", "/c/fresh/a/data", "/c/fresh/ab", r"/c/fresh/a/with\040space"]
    found = mounts_below(Path("/c/fresh/a"), "\n".join(map(line.format, points)))
    assert found == [Path("/c/fresh/a/with space"), Path("/c/fresh/a/data"), Path("/c/fresh/a")]


@pytest.mark.parametrize("lacks", ["root", "dockerd", "the right to mount"])
def test_where_none_can_be_started_the_one_at_hand_is_taken(
    lacks: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dockerd = tmp_path / "dockerd"
    dockerd.write_text("#!/bin/sh\nexit 1\n")
    dockerd.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 1000 if lacks == "root" else 0)
    monkeypatch.setattr(engine_fresh, "find_dockerd", lambda: None if lacks == "dockerd" else str(dockerd))
    with running(FakeEngine()) as fake:
        monkeypatch.setenv("DOCKER_HOST", fake.address)
        with fresh_engine(tmp_path / "cache") as engine:
            assert (engine.address, engine.disposable) == (fake.address, False)
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(EnvironmentLack), fresh_engine(tmp_path / "cache"):
        pass
    assert not list((tmp_path / "cache").glob("fresh/tmp*"))
