"""Start JupyterLab with a token: the one that is given, or a random one that is printed once.

JUPYTER_TOKEN, or a file that JUPYTER_TOKEN_FILE names, or the secret /run/secrets/jupyter_token gives it.
Arguments are JupyterLab's. Whether what comes of it all is safe, `token_required` sees at its start.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from token_required import LEAST, refuse

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRET = Path("/run/secrets/jupyter_token")
NOTEBOOKS = Path(__file__).with_name("notebooks")


def given_token(environment: Mapping[str, str], secret: Path = SECRET) -> str | None:
    """The token that `environment` or the `secret` gives, None where nothing does; ends if too short."""
    named = environment.get("JUPYTER_TOKEN_FILE")
    if "JUPYTER_TOKEN" in environment:
        if named is not None:
            refuse("JUPYTER_TOKEN and JUPYTER_TOKEN_FILE are both set: set one")
        token, origin = environment["JUPYTER_TOKEN"], "JUPYTER_TOKEN"
    elif named is not None or secret.is_file():
        file = secret if named is None else Path(named)
        origin = str(file)
        try:
            token = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            refuse(f"the token in {file} cannot be read: {error}")
    else:
        return None
    if len(token) < LEAST:
        refuse(f"{origin} is {'empty' if not token else f'shorter than {LEAST} characters'}")
    return token


def copy_notebooks(folder: Path) -> None:
    """Put the examples into `folder`, where they are not there yet: what a person has changed stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for notebook in NOTEBOOKS.glob("*.ipynb"):
        if not (folder / notebook.name).exists():
            shutil.copyfile(notebook, folder / notebook.name)


def main(arguments: list[str]) -> None:
    """Become JupyterLab."""
    token = given_token(os.environ)
    if token is None:
        token = secrets.token_urlsafe(32)
        print(f"jupyter: open http://127.0.0.1:8888/lab?token={token}", file=sys.stderr, flush=True)
    folder = Path.home() / "notebooks"
    try:
        copy_notebooks(folder)
    except OSError as error:
        refuse(f"the notebooks cannot be put into {folder}: {error}")
    # A given token is not shown in Jupyter's own messages; so neither is the random one a second time.
    environment = {name: value for name, value in os.environ.items() if name != "JUPYTER_TOKEN_FILE"}
    environment["JUPYTER_TOKEN"] = token
    command = ["jupyter-lab", f"--ServerApp.root_dir={folder}", *arguments]
    os.execvpe(command[0], command, environment)


if __name__ == "__main__":
    main(sys.argv[1:])
