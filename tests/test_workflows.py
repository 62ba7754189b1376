"""The CI files run what a person would type, with actions that cannot change; actionlint: `make lint`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from ci.gitlab_pipeline import pipeline
from tests.conftest import PROJECT
from trtforge.nightly.fan_out import github_matrix
from trtforge.registry.docker_config import Credentials, find_credentials

if TYPE_CHECKING:
    from pathlib import Path

    from trtforge.cells import Cells

GITHUB = PROJECT / ".github" / "workflows" / "nightly.yml"


def read(path: Path) -> Any:
    return YAML(typ="safe").load(path)


def commands(text: str) -> list[str]:
    """The `nightly` commands of a file, with single spaces and without where the report goes."""
    found = re.findall(r"build\.py nightly [^|]*?--report", " ".join(text.split()))
    return [one.removesuffix(" --report") for one in found]


def test_both_systems_run_the_same_commands() -> None:
    gitlab = [PROJECT / ".gitlab-ci.yml", PROJECT / "ci" / "gitlab-publish.yml"]
    ours = commands(GITHUB.read_text())
    assert ours == [one for file in gitlab for one in commands(file.read_text())]
    assert len(ours) == 2


def test_actions_are_pinned_by_commit_and_say_their_version() -> None:
    uses = re.findall(r"uses: (.+)", GITHUB.read_text())
    assert uses
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one) for one in uses), uses


def test_jobs_get_no_more_rights_than_they_need_and_an_identity_only_where_they_publish() -> None:
    workflow = read(GITHUB)
    assert workflow["permissions"] == {}
    rights = {name: job["permissions"] for name, job in workflow["jobs"].items()}
    assert [name for name, one in rights.items() if "id-token" in one] == ["publish"]
    assert [name for name, one in rights.items() if one["contents"] == "write"] == ["report"]


def test_a_job_takes_every_selector_that_tells_its_cells_apart(cells: Cells) -> None:
    jobs = github_matrix(choice.cell for choice in cells.published())["include"]
    (publish,) = [step for step in read(GITHUB)["jobs"]["publish"]["steps"] if step.get("name") == "Publish"]
    taken = {axis.lower() for axis in publish["env"]}
    assert taken == jobs[0].keys() - {"python"}  # the operating system's own
    assert len({tuple(job[axis] for axis in sorted(taken)) for job in jobs}) == len(jobs)
    assert all(f'--{axis} "${axis.upper()}"' in publish["run"] for axis in taken)


def test_gitlabs_jobs_are_the_same_and_fit_its_schema(cells: Cells, tmp_path: Path) -> None:
    matrix = github_matrix(choice.cell for choice in cells.published())
    made = pipeline(matrix)
    jobs = made["publish"]["parallel"]["matrix"]
    assert [{axis.lower(): value for axis, value in job.items()} for job in jobs] == matrix["include"]
    for number, one in enumerate((made, pipeline({"include": []}))):
        (tmp_path / f"{number}.yml").write_text(json.dumps(one))
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.gitlab-ci"]
    subprocess.run([*check, *tmp_path.glob("*.yml")], check=True, capture_output=True)


def test_a_login_is_what_docker_would_keep(tmp_path: Path) -> None:
    script = PROJECT / "scripts" / "registry-login"
    password = "p:ä" * 40
    subprocess.run(
        [script, "registry.example:5000", "someone"],
        input=password.encode(),
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        check=True,
    )
    kept = tmp_path / ".docker" / "config.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert find_credentials("registry.example:5000", {"HOME": str(tmp_path)}) == Credentials(
        "someone", password
    )
