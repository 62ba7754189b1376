"""Wheels that we build have one hash, whoever builds them, where and when."""

from __future__ import annotations

import os
import zipfile
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.loopback_index import LoopbackIndex, ask_only, loopback_index, sha256_of, tiny_sdist, tiny_wheel
from trtforge.errors import BuildError
from trtforge.index.sdist import build_wheel, canonicalise
from trtforge.index.uv import Sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A build backend with every bad habit: it writes the time, the umask, an order and a compression of its own.
CARELESS_BACKEND = """
import os, random, time, zipfile
from pathlib import Path

VERSION = "{version}"
TAG = "{tag}"

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = f"careless-1.0-{{TAG}}.whl"
    members = {{
        "careless.py": f"backend = {{VERSION!r}}\\n",
        "careless-1.0.data/scripts/careless": "#!python\\n",
        "careless-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: careless\\nVersion: 1.0\\n",
        "careless-1.0.dist-info/WHEEL": f"Wheel-Version: 1.0\\nTag: {{TAG}}\\n",
        "careless-1.0.dist-info/RECORD": f"nonsense {{time.time_ns()}}\\n",
    }}
    order = list(members)
    random.shuffle(order)
    file = Path(wheel_directory, name)
    with zipfile.ZipFile(file, "w") as archive:
        for member in order:
            entry = zipfile.ZipInfo(member, time.localtime()[:6])
            entry.external_attr = (0o100777 & ~os.umask(0o022)) << 16 if "scripts" in member else 0
            archive.writestr(entry, members[member], random.choice([0, 8]), random.randint(1, 9))
    return name
"""


def careless_backend(folder: Path, version: str, tag: str = "py3-none-any") -> Path:
    text = CARELESS_BACKEND.format(version=version, tag=tag)
    return tiny_wheel(folder, "careless-backend", version, files={"careless_backend.py": text.encode()})


def careless_sdist(folder: Path, backend: str = "careless_backend") -> Path:
    project = f'[build-system]\nrequires = ["careless-backend"]\nbuild-backend = "{backend}"\n'
    return tiny_sdist(folder, "careless", "1.0", {"pyproject.toml": project})


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackIndex]:
    with loopback_index(tmp_path / "index") as index:
        ask_only(index, monkeypatch, tmp_path)
        careless_backend(index.folder, "1.0")
        careless_backend(index.folder, "2.0")
        yield index


def build(folder: Path, sdist: Path, *requirements: str) -> Path:
    folder.mkdir(parents=True)
    return build_wheel(sdist, requirements, folder, Sources())


@pytest.mark.usefixtures("index")
def test_two_builds_in_different_surroundings_have_one_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdist = careless_sdist(tmp_path)
    first = build(tmp_path / "one", sdist, "careless-backend==1.0")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    before = os.umask(0o077)
    try:
        second = build(tmp_path / "another place", sdist, "careless-backend==1.0")
    finally:
        os.umask(before)
    assert sha256_of(first) == sha256_of(second)
    assert first.name == second.name == "careless-1.0-py3-none-any.whl"


@pytest.mark.usefixtures("index")
def test_the_build_requirements_are_the_pinned_ones(tmp_path: Path) -> None:
    sdist = careless_sdist(tmp_path)
    old = build(tmp_path / "old", sdist, "careless-backend==1.0")
    new = build(tmp_path / "new", sdist, "careless-backend==2.0")
    assert zipfile.ZipFile(old).read("careless.py") == b"backend = '1.0'\n"
    assert zipfile.ZipFile(new).read("careless.py") == b"backend = '2.0'\n"


@pytest.mark.usefixtures("index")
def test_a_build_without_network_takes_its_requirements_from_the_wheelhouse(tmp_path: Path) -> None:
    careless_backend(tmp_path / "wheelhouse", "1.5")
    (tmp_path / "work").mkdir()
    offline = Sources(wheelhouse=tmp_path / "wheelhouse", offline=True)
    wheel = build_wheel(careless_sdist(tmp_path), ["careless-backend==1.5"], tmp_path / "work", offline)
    assert zipfile.ZipFile(wheel).read("careless.py") == b"backend = '1.5'\n"


def test_a_wheel_for_one_platform_is_refused(index: LoopbackIndex, tmp_path: Path) -> None:
    careless_backend(index.folder, "3.0", tag="cp311-cp311-linux_x86_64")
    with pytest.raises(BuildError, match="not pure Python") as refusal:
        build(tmp_path / "work", careless_sdist(tmp_path), "careless-backend==3.0")
    assert refusal.value.fact("wheel") == "careless-1.0-cp311-cp311-linux_x86_64.whl"


@pytest.mark.usefixtures("index")
def test_a_build_that_fails_says_what_uv_said(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"careless-1.0.tar.gz does not build") as failure:
        build(tmp_path / "work", careless_sdist(tmp_path, backend="nowhere"), "careless-backend==1.0")
    assert "No module named 'nowhere'" in (failure.value.fact("uv says") or "")


INFO = "tiny-1.0.dist-info"
members = st.dictionaries(
    st.text("abcdef/é", min_size=1, max_size=8).filter(lambda name: all(name.split("/"))),
    st.tuples(st.binary(max_size=200), st.booleans()),
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(content=members, data=st.data())
def test_equal_contents_have_equal_canonical_bytes(
    content: dict[str, tuple[bytes, bool]], data: st.DataObject, tmp_path: Path
) -> None:
    content = {**content, f"{INFO}/WHEEL": (b"Wheel-Version: 1.0\n", False), f"{INFO}/RECORD": (b"?", False)}
    made = []
    for copy in ("one", "two"):
        wheel = tmp_path / f"{copy}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name in data.draw(st.permutations(sorted(content))):
                entry = zipfile.ZipInfo(name, (data.draw(st.integers(1980, 2100)), 1, 1, 0, 0, 0))
                umask = data.draw(st.sampled_from([0o022, 0o077, 0o002]))
                mode = 0o100777 if content[name][1] else 0o100666
                entry.external_attr = (mode & ~umask) << 16
                entry.create_system = data.draw(st.sampled_from([0, 3]))
                archive.writestr(entry, content[name][0], data.draw(st.sampled_from([0, 8])))
        made.append(canonicalise(wheel, tmp_path / f"{copy}-canonical.whl"))
    assert made[0].read_bytes() == made[1].read_bytes()

    with zipfile.ZipFile(made[0]) as archive:
        infos = archive.infolist()
        assert {info.filename for info in infos} == set(content)
        assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}
        assert {info.flag_bits & 0x08 for info in infos} == {0}, "no data descriptors"
        assert {info.external_attr >> 16 for info in infos} <= {0o100644, 0o100755}
        executable = {info.filename for info in infos if info.external_attr >> 16 == 0o100755}
        assert executable == {name for name, (_, wanted) in content.items() if wanted}
        assert infos[-1].filename == f"{INFO}/RECORD"
        record = archive.read(infos[-1]).decode()
        for name, (body, _) in content.items():
            if name != f"{INFO}/RECORD":
                assert archive.read(name) == body
                digest = urlsafe_b64encode(sha256(body).digest()).decode().rstrip("=")
                assert f"{name},sha256={digest},{len(body)}\n" in record
