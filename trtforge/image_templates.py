"""An image's template, filled: its Dockerfile, the files that this copies, and the key that both decide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

from trtforge.dockerfile import read_dockerfile
from trtforge.errors import RequestError
from trtforge.oci import canonical_json, digest_of

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
"""Changes when the same recipe would give other bytes, so that images made before are not taken for it."""


@dataclass(frozen=True)
class BuildContext:
    """A Dockerfile and the files beside it, layers aside. key: names everything that decides the image."""

    dockerfile: str
    files: dict[str, bytes]
    key: str


class ImageTemplates:
    """The folders of images/: in each a Dockerfile.j2, and files that it copies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = Environment(
            loader=FileSystemLoader(folder),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,
        )

    def fill(self, image: str, parent_key: str, files: dict[str, bytes], **facts: Any) -> BuildContext:
        """The context of `image`: its template says `facts`, and copies of its own folder and of `files`.

        parent_key: the key of the image it stands on, "" if that is not ours.

        Raises:
            RequestError: the template cannot be rendered with these facts.
        """
        keyless = self._render(image, recipe_key="", **facts)
        copied = _copied(keyless)
        context = self._beside(image) | files
        context = {path: content for path, content in context.items() if path.startswith(copied)}
        decides = {
            "format": FORMAT,
            "parent": parent_key,
            "dockerfile": keyless,
            "files": {path: digest_of(content) for path, content in context.items()},
        }
        key = digest_of(canonical_json(decides))
        return BuildContext(self._render(image, recipe_key=key, **facts), context, key)

    def _beside(self, image: str) -> dict[str, bytes]:
        """The files that an image's own folder has for COPY, beside its template."""
        folder = self._folder / image
        files = sorted(
            file for file in folder.rglob("*") if file.is_file() and file.suffix not in (".j2", ".pyc")
        )
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}

    def _render(self, image: str, **facts: Any) -> str:
        try:
            return self._environment.get_template(f"{image}/Dockerfile.j2").render(**facts)
        except TemplateError as error:
            raise RequestError(
                f"the template of the image {image} cannot be rendered: {error}",
                ("template", f"images/{image}/Dockerfile.j2"),
                ("next", "correct the template"),
            ) from error


def _copied(dockerfile: str) -> tuple[str, ...]:
    """What a Dockerfile copies of its context, as prefixes of paths: an image is not what it leaves out."""
    copies = [one for one in read_dockerfile(dockerfile) if one.name == "COPY"]
    return tuple(word for one in copies for word in one.words()[:-1])
