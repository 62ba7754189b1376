"""Wheels become layers that unpack to what an installer writes, and are the same bytes everywhere."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings

from tests.wheel_factory import (
    TARGET,
    ZipMember,
    folder_tree,
    installer_tree,
    layer_tree,
    make_wheel,
    raw_deflate,
    record_of,
    wheel_members,
    wheels,
    zip_of,
)
from trtforge.errors import CorruptWheel, HashMismatch, UnsafeWheel
from trtforge.layers.install_target import InstallTarget
from trtforge.layers.wheel_layer import PinnedWheel, layer_in_store, wheel_layer
from trtforge.oci import EPOCH, Layer, digest_of
from trtforge.progress import Silent
from trtforge.store import Store

SITE = TARGET.site_packages.removeprefix("/")


def made(wheel: Path | list[Path], target: InstallTarget = TARGET) -> tuple[bytes, Layer]:
    out = io.BytesIO()
    layer = wheel_layer(wheel if isinstance(wheel, list) else [wheel], target, out)
    return out.getvalue(), layer


def pinned(path: Path) -> PinnedWheel:
    return PinnedWheel(path, hashlib.sha256(path.read_bytes()).hexdigest())


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(wheels())
def test_a_layer_unpacks_to_what_an_installer_writes(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        wheel = Path(folder, "demo-1.0-py3-none-any.whl")
        wheel.write_bytes(content)
        blob, _ = made(wheel)
        assert layer_tree(blob) == installer_tree([wheel], Path(folder, "theirs"))


def test_the_digests_are_those_of_the_blob_and_of_the_tar_in_it(tmp_path: Path) -> None:
    blob, layer = made(make_wheel(tmp_path, [ZipMember("demo.py", b"x" * 3_000_000)]))
    tar = subprocess.run(["gzip", "-dc"], input=blob, capture_output=True, check=True).stdout
    assert layer == Layer(digest_of(blob), digest_of(tar), len(blob), len(tar))


def test_the_wheels_deflate_streams_are_in_the_layer_as_they_are(tmp_path: Path) -> None:
    text = b"".join(b"line %d of a module\n" % (line * line) for line in range(20_000))
    blob, _ = made(make_wheel(tmp_path, [ZipMember("demo/data.txt", text)]))
    assert raw_deflate(text) in blob


def test_tar_unpacks_it(tmp_path: Path) -> None:
    long = "/".join(["directory with a long name"] * 12)
    wheel = make_wheel(
        tmp_path,
        [
            ZipMember(f"demo/{long}/é.txt", b"deep"),
            ZipMember("demo/empty.py"),
            ZipMember("demo/stored", b"s" * 200_000, deflated=False),
            ZipMember("demo-1.0.data/scripts/tool", b"#!python\nprint()\n", 0o100755),
        ],
        entry_points="[console_scripts]\nrun = demo.cli:main\n",
    )
    (tmp_path / "layer.tgz").write_bytes(made(wheel)[0])
    (tmp_path / "ours").mkdir()
    umask = os.umask(0o022)
    subprocess.run(["tar", "-xzf", "layer.tgz", "-C", "ours", "--no-same-owner"], cwd=tmp_path, check=True)
    os.umask(umask)
    ours = folder_tree(tmp_path / "ours")
    assert ours == installer_tree([wheel], tmp_path / "theirs")
    assert ours["opt/venv/bin/tool"] == (0o755, b"#!/opt/venv/bin/python\nprint()\n")
    assert ours["opt/venv/bin/run"][0] == 0o755


def test_the_prefix_belongs_to_the_user_and_what_is_above_to_root(tmp_path: Path) -> None:
    blob, _ = made(make_wheel(tmp_path, [ZipMember("demo.py")]), replace(TARGET, uid=1234, gid=567))
    with tarfile.open(fileobj=io.BytesIO(blob)) as tar:
        owners = {info.name: (info.uid, info.gid, info.uname, info.mode) for info in tar}
        assert {info.mtime for info in tar} == {EPOCH}
    assert owners.pop("opt") == (0, 0, "", 0o755)
    assert {owner[:3] for owner in owners.values()} == {(1234, 567, "")}
    assert next(iter(owners)) == "opt/venv"


def test_the_bytes_do_not_depend_on_where_how_and_under_which_name_it_is_made(tmp_path: Path) -> None:
    members = [ZipMember("demo/__init__.py", b"pass\n"), ZipMember("demo/x.so", b"\x7fELF" * 999, 0o100755)]
    wheel = make_wheel(tmp_path, members, entry_points="[console_scripts]\nrun = demo:main\n")
    here = made(wheel)[0]
    other = tmp_path / "Demo-1.0-1build-py2.py3-none-any.whl"
    wheel.rename(other)
    script = (
        "import os, sys; from pathlib import Path; from trtforge.layers.wheel_layer import wheel_layer;"
        "from trtforge.layers.install_target import InstallTarget; os.umask(0o077); os.chdir('/');"
        f"wheel_layer([Path({str(other)!r})], InstallTarget('3.11'), sys.stdout.buffer)"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    run = [sys.executable, "-c", script]
    assert subprocess.run(run, env=environment, capture_output=True, check=True).stdout == here


def test_a_layers_bytes_are_the_ones_that_are_published(tmp_path: Path) -> None:
    members = [
        ZipMember("demo/__init__.py", b"print('demo')\n" * 20),
        ZipMember("demo/stored.bin", bytes(range(256)) * 300),
        ZipMember("demo/" + "ä" * 60 + ".txt", b"PAX"),
    ]
    wheel = tmp_path / "demo-1.0-py3-none-any.whl"
    # Nothing deflated: zlib's output is not the same on every host.
    wheel.write_bytes(zip_of(replace(member, deflated=False) for member in wheel_members(members)))
    _, layer = made(wheel)
    # If these change, every published layer does: raise FORMAT, and say why in the changelog.
    assert layer.diff_id == "sha256:e6b2ca6fcd5244f938433e947239365e6166759acaf2882823cfa452cbe56a82"
    assert layer.digest == "sha256:ffb347fe8ba6ecd7c84d1b10a2db78533c1e3a857fdb965b66538f2055ac9746"


def test_wheels_of_a_bundle_share_folders_and_equal_files(tmp_path: Path) -> None:
    shared = ZipMember("space/__init__.py", b"# shared\n")
    one = make_wheel(tmp_path, [shared, ZipMember("space/one.py", b"1")], name="one")
    two = make_wheel(tmp_path, [shared, ZipMember("space/two.py", b"2")], name="two")
    tree = layer_tree(made([one, two])[0])
    assert {path for path in tree if path.startswith(f"{SITE}/space")} == {
        f"{SITE}/space",
        f"{SITE}/space/__init__.py",
        f"{SITE}/space/one.py",
        f"{SITE}/space/two.py",
    }
    assert made([one, two])[1] != made([two, one])[1]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (ZipMember("space/x.py", b"2"), "one-1.0-py3-none-any.whl has another file"),
        (ZipMember("space/x.py", b"1", 0o100755), "one-1.0-py3-none-any.whl has another file"),
        (ZipMember("space/x.py/y.py", b"1"), "is a file in one-1.0-py3-none-any.whl"),
        (ZipMember("space", b"1"), "is a directory in one-1.0-py3-none-any.whl"),
    ],
    ids=["content", "mode", "below a file", "over a directory"],
)
def test_wheels_of_a_bundle_must_not_disagree(tmp_path: Path, other: ZipMember, reason: str) -> None:
    one = make_wheel(tmp_path, [ZipMember("space/x.py", b"1")], name="one")
    two = make_wheel(tmp_path, [other], name="two")
    with pytest.raises(UnsafeWheel) as refusal:
        made([one, two])
    assert (refusal.value.wheel, refusal.value.member) == (two.name, other.name)
    assert reason in refusal.value.reason


SCHEME = "demo-1.0.data"


@pytest.mark.parametrize(
    ("members", "member"),
    [
        ([ZipMember("a.py"), ZipMember(f"{SCHEME}/purelib/a.py")], f"{SCHEME}/purelib/a.py"),
        ([ZipMember("a/b.py"), ZipMember(f"{SCHEME}/platlib/a")], f"{SCHEME}/platlib/a"),
        ([ZipMember(f"{SCHEME}/data/bin/python")], "bin/python"),
        ([ZipMember(f"{SCHEME}/scripts/python3")], "python3"),
        ([ZipMember(f"{SCHEME}/data/lib")], "lib"),
        ([ZipMember(f"{SCHEME}/data/pyvenv.cfg")], "pyvenv.cfg"),
        ([ZipMember(f"{SCHEME}/scripts")], f"{SCHEME}/scripts"),
        ([ZipMember(SCHEME)], SCHEME),
        ([ZipMember("demo-1.0.dist-info/INSTALLER")], "demo-1.0.dist-info/INSTALLER"),
        ([ZipMember("demo-1.0.dist-info/RECORD.jws")], "demo-1.0.dist-info/RECORD.jws"),
        ([ZipMember("other-2.dist-info/METADATA")], "demo-1.0.dist-info, other-2.dist-info"),
    ],
)
def test_what_must_not_be_installed_is_refused(tmp_path: Path, members: list[ZipMember], member: str) -> None:
    wheel = make_wheel(tmp_path, members)
    with pytest.raises(UnsafeWheel) as refusal:
        made(wheel)
    assert refusal.value.wheel == wheel.name
    assert member.endswith(refusal.value.member) or refusal.value.member.endswith(member)


@pytest.mark.parametrize("name", ["../../evil", "a/b", "..", ".wh.bin"])
def test_a_scripts_name_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    wheel = make_wheel(tmp_path, [], entry_points=f"[console_scripts]\n{name} = demo:main\n")
    with pytest.raises(UnsafeWheel, match="no name for a script"):
        made(wheel)


@pytest.mark.parametrize(
    "entry_points", ["[console_scripts]\nrun\n", "[console_scripts]\nrun = a b c\n", "run = a:b"]
)
def test_malformed_entry_points_are_refused(tmp_path: Path, entry_points: str) -> None:
    with pytest.raises(CorruptWheel, match="malformed"):
        made(make_wheel(tmp_path, [], entry_points=entry_points))


@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
def test_record_may_use_stronger_hashes(tmp_path: Path, algorithm: str) -> None:
    made(make_wheel(tmp_path, [ZipMember("a.py", b"a")], record=record_with("a.py", b"a", algorithm)))
    with pytest.raises(CorruptWheel, match=f"its {algorithm} is not the one in RECORD"):
        made(make_wheel(tmp_path, [ZipMember("a.py", b"b")], record=record_with("a.py", b"a", algorithm)))


@pytest.mark.parametrize("algorithm", ["md5", "sha1", ""])
def test_record_must_not_use_weak_hashes_or_none(tmp_path: Path, algorithm: str) -> None:
    with pytest.raises(UnsafeWheel, match="no hash of it that is sha256 or better") as refusal:
        made(make_wheel(tmp_path, [ZipMember("a.py", b"a")], record=record_with("a.py", b"a", algorithm)))
    assert refusal.value.member == "a.py"


def test_a_file_that_record_does_not_name_is_refused(tmp_path: Path) -> None:
    record = record_of(wheel_members([])[:-1], "demo-1.0.dist-info")
    with pytest.raises(UnsafeWheel, match="RECORD does not name it") as refusal:
        made(make_wheel(tmp_path, [ZipMember("stowaway.py", b"a")], record=record))
    assert refusal.value.member == "stowaway.py"


def test_a_file_that_is_not_what_record_says_is_refused(tmp_path: Path) -> None:
    record = record_of(wheel_members([ZipMember("a.py", b"good")])[:-1], "demo-1.0.dist-info")
    with pytest.raises(CorruptWheel, match="its sha256 is not the one in RECORD") as refusal:
        made(make_wheel(tmp_path, [ZipMember("a.py", b"evil")], record=record))
    assert (refusal.value.wheel, refusal.value.member) == ("demo-1.0-py3-none-any.whl", "a.py")


def test_bytecode_in_a_wheel_is_left_out(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, [ZipMember("a.py"), ZipMember("__pycache__/a.cpython-311.pyc", b"evil")])
    assert not any("__pycache__" in path for path in layer_tree(made(wheel)[0]))


def test_the_store_makes_a_layer_once(tmp_path: Path) -> None:
    store, wheel = Store(tmp_path / "store"), pinned(make_wheel(tmp_path, [ZipMember("a.py", b"a")]))
    layer = layer_in_store(store, [wheel], TARGET, Silent())
    assert store.blob(layer.digest).read_bytes() == made(wheel.path)[0]
    wheel.path.unlink()
    assert layer_in_store(store, [wheel], TARGET, Silent()) == layer


def test_the_store_keeps_one_layer_for_each_target(tmp_path: Path) -> None:
    store, wheel = Store(tmp_path / "store"), pinned(make_wheel(tmp_path, [ZipMember("a.py", b"a")]))
    targets = [TARGET, replace(TARGET, uid=7), InstallTarget("3.12"), InstallTarget("3.11", prefix="/srv/x")]
    assert len({layer_in_store(store, [wheel], target, Silent()).digest for target in targets}) == 4


def test_a_wheel_that_is_not_the_pinned_one_makes_no_layer(tmp_path: Path) -> None:
    store, wheel = Store(tmp_path / "store"), make_wheel(tmp_path, [ZipMember("a.py", b"a")])
    locked = pinned(wheel)
    found = make_wheel(tmp_path, [ZipMember("a.py", b"b")])
    with pytest.raises(HashMismatch) as refusal:
        layer_in_store(store, [locked], TARGET, Silent())
    assert (refusal.value.expected, refusal.value.actual) == (locked.sha256, pinned(found).sha256)
    assert not (store.root / "layers").exists()
    assert not list((store.root / "tmp").iterdir())


def test_a_wheel_that_is_broken_because_it_is_not_the_pinned_one_says_so(tmp_path: Path) -> None:
    locked = pinned(make_wheel(tmp_path, [ZipMember("a.py", b"a")]))
    locked.path.write_bytes(locked.path.read_bytes()[:-30])
    with pytest.raises(HashMismatch):
        layer_in_store(Store(tmp_path / "store"), [locked], TARGET, Silent())


def record_with(name: str, content: bytes, algorithm: str) -> bytes:
    """The RECORD of a wheel whose one file is named with a hash of another kind."""
    lines = (
        record_of(wheel_members([ZipMember(name, content)])[:-1], "demo-1.0.dist-info").decode().splitlines()
    )
    value = ""
    if algorithm:
        digest = hashlib.new(algorithm, content).digest()
        value = f"{algorithm}={base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
    return "\n".join([f"{name},{value},{len(content)}", *lines[1:], ""]).encode()
