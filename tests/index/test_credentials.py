"""A password reaches the server it is for."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import httpx
import pytest

from trtforge.index.credentials import IndexCredentials
from trtforge.index.uv import Sources

if TYPE_CHECKING:
    from pathlib import Path


def sent(url: str, sources: Sources, environ: dict[str, str]) -> str | None:
    """What a request to `url` carries, as user:password."""
    request = next(IndexCredentials(sources, environ).auth_flow(httpx.Request("GET", url)))
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    return base64.b64decode(encoded).decode() if scheme == "Basic" else None


@pytest.fixture
def nowhere(tmp_path: Path) -> dict[str, str]:
    return {"NETRC": str(tmp_path / "netrc"), "UV_CONFIG_FILE": str(tmp_path / "absent.toml")}


def test_credentials_of_an_address_hold_for_its_server_only(nowhere: dict[str, str]) -> None:
    sources = Sources(indexes={"nvidia": "https://me:p%40ss@index.test/simple/"})
    assert sent("https://index.test/files/libs.whl", sources, nowhere) == "me:p@ss"
    assert sent("https://files.index.test/libs.whl", sources, nowhere) is None
    assert sent("https://index.test:8443/libs.whl", sources, nowhere) is None
    assert sent("http://index.test/libs.whl", sources, nowhere) is None, "never without TLS"


def test_uvs_variables_are_heeded(nowhere: dict[str, str]) -> None:
    sources = Sources(indexes={"pytorch-cu126": "https://index.test/whl/"})
    environ = nowhere | {
        "UV_INDEX_PYTORCH_CU126_USERNAME": "me",
        "UV_INDEX_PYTORCH_CU126_PASSWORD": "torch",
        "UV_DEFAULT_INDEX": "https://you:default@mirror.test/simple/",
    }
    assert sent("https://index.test/whl/torch.whl", sources, environ) == "me:torch"
    assert sent("https://mirror.test/files/x.whl", sources, environ) == "you:default"


def test_netrc_is_the_last_to_be_asked(nowhere: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine index.test login net password rc\n", encoding="utf-8")
    (tmp_path / "netrc").chmod(0o600)
    assert sent("https://index.test/x.whl", Sources(), nowhere) == "net:rc"
    assert sent("https://elsewhere.test/x.whl", Sources(), nowhere) is None
    own = Sources(indexes={"nvidia": "https://me:mine@index.test/simple/"})
    assert sent("https://index.test/x.whl", own, nowhere) == "me:mine"
