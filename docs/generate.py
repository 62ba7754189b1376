"""Writes the parts of docs/ that follow from code and matrix.yaml (`make docs`); a test compares."""

from __future__ import annotations

import json
from pathlib import Path

from trtforge.matrix import Matrix, Rule, json_schema, load_matrix

DOCS = Path(__file__).parent


def rules_page(matrix: Matrix) -> str:
    """docs/rules.md: a section a rule, where error messages point to."""
    head = """\
# Rules

Written by `make docs` from matrix.yaml. A cell is valid if, for each rule whose *when* holds, *require* holds
too. `{name}` stands for that fact of the cell.
"""
    return head + "".join(map(_section, matrix.rules))


def _section(rule: Rule) -> str:
    when = _conditions(rule.when) or "always"
    return f"""
## {rule.id}

{rule.because}.

* when: {when}
* require: {_conditions(rule.require)}
* source: {rule.source}
"""


def _conditions(conditions: dict[str, str | list[str]]) -> str:
    told = {
        name: " or ".join(condition) if isinstance(condition, list) else condition
        for name, condition in conditions.items()
    }
    return ", ".join(f"{name} `{condition}`" for name, condition in told.items())


def pages() -> dict[str, str]:
    """Each generated file below docs/ and its text."""
    matrix = load_matrix(DOCS.parent / "matrix.yaml")
    return {
        "matrix.schema.json": json.dumps(json_schema(), indent=2) + "\n",
        "rules.md": rules_page(matrix),
    }


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
