"""schema: matrix.yaml's JSON Schema, for editors."""

from __future__ import annotations

import json

import typer

from trtforge.matrix import json_schema


def schema() -> None:
    """Print the JSON Schema of matrix.yaml (kept in docs/matrix.schema.json)."""
    typer.echo(json.dumps(json_schema(), indent=2))
