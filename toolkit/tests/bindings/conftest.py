"""All versions of the bindings, installed once for the whole run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.bindings.api import Api
from tests.bindings.installed import Bindings, install, listed, make_stubs

DESCRIBE = """
import importlib, json
from tests.bindings.api import describe
print(json.dumps(describe(importlib.import_module("{module}"))))
"""


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> list[Bindings]:
    folder = tmp_path_factory.mktemp("bindings")
    stubs = make_stubs(folder / "stubs")
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda one: install(one[0], one[1], folder / "-".join(one), stubs), listed()))


@pytest.fixture(scope="session")
def apis(installed: list[Bindings]) -> dict[Bindings, Api]:
    """What each version has."""
    return _described(installed)


@pytest.fixture(scope="session")
def lean(tmp_path_factory: pytest.TempPathFactory) -> dict[Bindings, Api]:
    """What each version of the lean runtime has."""
    folder = tmp_path_factory.mktemp("lean")
    stubs = make_stubs(folder / "stubs")
    return _described([install(*one, folder / one[1], stubs, lean=True) for one in listed(lean=True)])


def _described(installed: list[Bindings]) -> dict[Bindings, Api]:
    with ThreadPoolExecutor(2) as pool:
        described = pool.map(lambda one: one.run("-c", DESCRIBE.format(module=one.module)), installed)
        return dict(zip(installed, described, strict=True))
