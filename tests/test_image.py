from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from trtforge.errors import RequestError
from trtforge.image import Image, assemble, drop_images, find_image, keep_image, name_image
from trtforge.layers.gzip_tar import GzipTar
from trtforge.oci import CONFIG, LAYER_GZIP, MANIFEST, Layer, canonical_json, digest_of
from trtforge.store import Store

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"smoke/a.py": b"print()\n", "smoke/checks/b.py": b"", "LICENSE": b"text"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def layer(store: Store, name: str) -> Layer:
    """A layer with one file, in the store."""
    with store.work_folder() as work:
        with (work / "blob").open("wb") as out:
            tar = GzipTar(out)
            tar.add_file(f"/{name}", name.encode())
            made = tar.finish()
        store.keep_layer(name, work / "blob", made)
    return made


def build(store: Store, text: str, parent: Image | None = None) -> Image:
    return assemble(text, {"layers/one.tar.gz": layer(store, "one")}, FILES, parent, store)


def settings(image: Image) -> dict[str, object]:
    return dict(json.loads(image.config)["config"])


def test_settings_are_those_of_the_dockerfile(store: Store) -> None:
    image = build(
        store, 'FROM scratch\nENV A="1" B="x y"\nLABEL l="v"\nUSER trt\nWORKDIR /home\nCMD ["sh"]\n'
    )
    assert settings(image) == {
        "Env": ["A=1", "B=x y"],
        "Labels": {"l": "v"},
        "User": "trt",
        "WorkingDir": "/home",
        "Cmd": ["sh"],
    }


def test_a_child_inherits_and_overrides(store: Store) -> None:
    parent = build(store, 'FROM scratch\nADD layers/one.tar.gz /\nENV A="1" B="2"\nLABEL l="v"\nCMD ["a"]\n')
    child = build(store, 'FROM p\nENV A="3" C="$B"\nENTRYPOINT ["tini"]\n', parent)
    assert settings(child) == {"Env": ["A=3", "B=2", "C=2"], "Labels": {"l": "v"}, "Entrypoint": ["tini"]}
    assert child.layers == parent.layers


def test_ports_and_health_check_are_settings_that_a_child_inherits(store: Store) -> None:
    parent = build(store, 'FROM scratch\nEXPOSE 8000\nHEALTHCHECK --timeout=3s CMD ["a"]\n')
    child = build(store, "FROM p\nEXPOSE 9000/udp 8000\n", parent)
    check = {"Test": ["CMD", "a"], "Timeout": 3_000_000_000}
    assert settings(parent) == {"ExposedPorts": {"8000/tcp": {}}, "Healthcheck": check}
    assert settings(child) == {"ExposedPorts": {"8000/tcp": {}, "9000/udp": {}}, "Healthcheck": check}
    other = build(store, 'FROM p\nHEALTHCHECK --retries=2 CMD ["b"]\n', parent)
    assert settings(other)["Healthcheck"] == {"Test": ["CMD", "b"], "Retries": 2}


def test_a_parent_of_somebody_else_s_may_lack_history_and_have_nulls(store: Store) -> None:
    below = layer(store, "theirs")
    config = canonical_json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": None, "Labels": None, "User": "1234"},
            "rootfs": {"type": "layers", "diff_ids": [below.diff_id]},
        }
    )
    parent = keep_image(config, (below,), store)
    image = build(store, 'FROM theirs\nENV A="1"\nLABEL l="v"\nADD layers/one.tar.gz /\n', parent)
    assert settings(image) == {"Env": ["A=1"], "Labels": {"l": "v"}, "User": "1234"}
    assert image.layers == (below, layer(store, "one"))


def test_manifest_and_configuration_say_what_the_blobs_are(store: Store) -> None:
    image = build(store, "FROM scratch\nADD layers/one.tar.gz /\nCOPY smoke/ /opt/smoke/\n")
    manifest = json.loads(store.blob(image.digest).read_bytes())
    assert manifest["mediaType"] == MANIFEST
    assert manifest["config"] == {
        "mediaType": CONFIG,
        "digest": digest_of(image.config),
        "size": len(image.config),
    }
    config = json.loads(image.config)
    for described, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        blob = store.blob(described["digest"]).read_bytes()
        assert described["mediaType"] == LAYER_GZIP
        assert (digest_of(blob), len(blob)) == (described["digest"], described["size"])
        assert digest_of(gzip.decompress(blob)) == diff_id
    assert sum(not entry.get("empty_layer") for entry in config["history"]) == len(manifest["layers"])


def test_files_are_copied_as_root_s_with_no_time_of_ours(store: Store) -> None:
    image = build(store, "FROM scratch\nCOPY smoke/ /opt/smoke/\nCOPY LICENSE /opt/\n")
    found: dict[str, tuple[int, int, float]] = {}
    for one in image.layers:
        with tarfile.open(fileobj=io.BytesIO(store.blob(one.digest).read_bytes())) as tar:
            found |= {
                member.name: (member.mode, member.uid, member.mtime) for member in tar if member.isfile()
            }
    assert found == dict.fromkeys(
        ["opt/smoke/a.py", "opt/smoke/checks/b.py", "opt/LICENSE"], (0o644, 0, 315532800)
    )


def test_what_names_its_interpreter_may_be_executed(store: Store) -> None:
    files = {"guard.py": b"#!/bin/sh\n", "data": b"x#!"}
    lines = "FROM scratch\nCOPY guard.py /opt/guard\nCOPY data /opt/data\n"
    modes: dict[str, int] = {}
    for one in assemble(lines, {}, files, None, store).layers:
        with tarfile.open(store.blob(one.digest)) as tar:
            modes |= {member.name: member.mode for member in tar if member.isfile()}
    assert modes == {"opt/guard": 0o755, "opt/data": 0o644}


@pytest.mark.parametrize(
    "line",
    [
        "RUN apt-get update",
        "ADD https://example.org/x.tar.gz /",
        "ADD layers/two.tar.gz /",
        "ADD layers/one.tar.gz /opt",
        "COPY nothing/ /opt/",
        "COPY --from=other /a /b",
        "VOLUME /data",
        "EXPOSE 8000-8002",
        "HEALTHCHECK NONE",
    ],
)
def test_what_needs_an_engine_is_refused_with_its_line(store: Store, line: str) -> None:
    with pytest.raises(RequestError, match="line 3") as caught:
        build(store, f"FROM scratch\n\n{line}\n")
    assert caught.value.fact("line") == line


def test_the_same_dockerfile_gives_the_same_digest_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'FROM scratch\nADD layers/one.tar.gz /\nCOPY smoke/ /opt/smoke/\nENV A="1"\n'
    first = build(Store(tmp_path / "a"), text)
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    monkeypatch.setenv("LANG", "tr_TR.UTF-8")
    before = os.umask(0o077)
    try:
        second = build(Store(tmp_path / "b"), text)
    finally:
        os.umask(before)
    assert first == second


def test_an_image_is_found_by_its_name_and_recipe(store: Store) -> None:
    image = build(store, "FROM scratch\nADD layers/one.tar.gz /\n")
    name_image(image, "t/os:1", "sha256:key", store)
    assert find_image("t/os:1", "sha256:key", store) == image
    assert find_image("t/os:1", "sha256:other", store) is None
    assert find_image("t/os:2", "sha256:key", store) is None


def test_an_image_whose_blob_is_gone_or_short_is_not_found(store: Store) -> None:
    image = build(store, "FROM scratch\nADD layers/one.tar.gz /\n")
    name_image(image, "t/os:1", "sha256:key", store)
    blob = store.blob(image.layers[0].digest)
    blob.write_bytes(blob.read_bytes()[:-1])
    assert find_image("t/os:1", "sha256:key", store) is None


def test_a_name_moves_to_the_newer_image(store: Store) -> None:
    old = build(store, "FROM scratch\nADD layers/one.tar.gz /\n")
    new = build(store, 'FROM scratch\nADD layers/one.tar.gz /\nENV A="1"\n')
    name_image(old, "t/os:1", "sha256:old", store)
    name_image(new, "t/os:1", "sha256:new", store)
    index = json.loads((store.oci / "index.json").read_text(encoding="utf-8"))
    assert [entry["digest"] for entry in index["manifests"]] == [new.digest]
    drop_images(set(), store)
    assert find_image("t/os:1", "sha256:new", store) is None
