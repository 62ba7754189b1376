"""The pipeline that publishes, for GitLab: from `plan --github-matrix` on standard input.

Source: GitLab CI/CD YAML reference: parallel:matrix, and child pipelines from an artifact. JSON is YAML.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def pipeline(matrix: dict[str, list[dict[str, str]]]) -> dict[str, Any]:
    """One job `publish` for each entry of `matrix`, with its values as $CUDA, $ARCH, ..."""
    jobs = [{axis.upper(): value for axis, value in job.items()} for job in matrix["include"]]
    publish = {"publish": {"extends": ".publish", "parallel": {"matrix": jobs}}} if jobs else {}
    return {"include": [{"local": "ci/gitlab-publish.yml"}], **publish}


if __name__ == "__main__":
    print(json.dumps(pipeline(json.load(sys.stdin)), indent=1))
