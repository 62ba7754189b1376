"""What of the user's machine reaches uv: where the packages are, and nothing that changes the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtforge.index.uv import pip_index, uv_environment, uv_indexes

if TYPE_CHECKING:
    from pathlib import Path


def test_only_what_leads_to_the_indexes_is_passed_on() -> None:
    leads = {
        "UV_DEFAULT_INDEX": "http://127.0.0.1/simple/",
        "UV_INDEX_NVIDIA_PASSWORD": "secret",
        "UV_CACHE_DIR": "/cache",
        "UV_HTTP_TIMEOUT": "60",
        "HTTPS_PROXY": "http://127.0.0.1:3128",
        "SSL_CERT_FILE": "/ca.pem",
        "HOME": "/home/me",
    }
    leaks = {
        "UV_PYTHON": "3.8",
        "UV_RESOLUTION": "lowest",
        "UV_PRERELEASE": "allow",
        "UV_EXCLUDE_NEWER": "2020-01-01",
        "UV_CONSTRAINT": "mine.txt",
        "UV_OVERRIDE": "mine.txt",
        "UV_NO_BUILD_ISOLATION": "1",
        "UV_TORCH_BACKEND": "cpu",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "VIRTUAL_ENV": "/venv",
        "PYTHONPATH": "/lib",
    }
    passed = uv_environment(leads | leaks | {"LC_ALL": "tr_TR", "TZ": "Asia/Tokyo"})
    assert passed.items() >= leads.items()
    assert not passed.keys() & leaks.keys()
    assert (passed["LC_ALL"], passed["TZ"], passed["SOURCE_DATE_EPOCH"]) == ("C.UTF-8", "UTC", "315532800")
    assert passed["NVIDIA_TENSORRT_DISABLE_INTERNAL_PIP"] == "1"


def test_uv_indexes_are_found_in_variables_and_files(tmp_path: Path) -> None:
    (tmp_path / "uv").mkdir()
    (tmp_path / "uv/uv.toml").write_text(
        'index-url = "http://127.0.0.1/a/"\n[pip]\nextra-index-url = ["http://127.0.0.1/b/"]\n'
        '[[index]]\nname = "c"\nurl = "http://127.0.0.1/c/"\n',
        encoding="utf-8",
    )
    environ = {
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_CONFIG_DIRS": str(tmp_path / "none"),
        "UV_INDEX": "d=http://127.0.0.1/d/ http://127.0.0.1/e/?x=1",
    }
    assert set(uv_indexes(environ)) == {f"http://127.0.0.1/{name}/" for name in "abcd"} | {
        "http://127.0.0.1/e/?x=1"
    }


def test_without_configuration_uv_has_no_index_of_its_own(tmp_path: Path) -> None:
    assert uv_indexes({"UV_CONFIG_FILE": str(tmp_path / "absent.toml")}) == ()


def test_pip_index_comes_from_the_variable_or_the_files(tmp_path: Path) -> None:
    conf = tmp_path / "pip.conf"
    conf.write_text("[global]\nindex-url = http://127.0.0.1/global%20/\n", encoding="utf-8")
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(conf)}
    assert pip_index(environ) == "http://127.0.0.1/global%20/"
    conf.write_text(
        "[global]\nindex-url = http://127.0.0.1/g/\n[install]\nindex-url = http://127.0.0.1/i/\n",
        encoding="utf-8",
    )
    assert pip_index(environ) == "http://127.0.0.1/i/"
    assert pip_index(environ | {"PIP_INDEX_URL": "http://127.0.0.1/env/"}) == "http://127.0.0.1/env/"
    assert pip_index({"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"}) is None
