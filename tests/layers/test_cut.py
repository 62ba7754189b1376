"""Layers that hold some of a wheel's files: what is in them, what RECORD says, rules that no longer fit."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.wheel_factory import TARGET, ZipMember, make_wheel, wheels
from trtforge.errors import HashMismatch, StaleFileRule
from trtforge.layers.cut import WHOLE, Cut, LeftOut
from trtforge.layers.loader_links import links_in_store
from trtforge.layers.wheel_layer import PinnedWheel, layer_in_store, layer_key, wheel_layer
from trtforge.progress import Silent
from trtforge.store import Store

SITE = TARGET.site_packages.removeprefix("/") + "/"
RECORD = f"{SITE}demo-1.0.dist-info/RECORD"

MEMBERS = [
    ZipMember("demo/__init__.py", b"name = 'demo'\n"),
    ZipMember("demo/lib/libdemo.so.1", b"\x7fELF" + b"code" * 900),
    ZipMember("demo/lib/libdemo_static.a", b"!<arch>\n" + b"object" * 700),
    ZipMember("demo/lib/libres_sm80.so", b"eighty" * 500),
    ZipMember("demo/lib/libres_sm86.so", b"eighty-six" * 500),
    ZipMember("demo/lib/libres_sm90.so", b"ninety" * 500),
    ZipMember("demo/include/demo.h", b"int demo(void);\n"),
    ZipMember("demo-1.0.data/scripts/demo", b"#!python\nprint('demo')\n"),
]
STATIC = LeftOut("static", ("*.a",))
HEADERS = LeftOut("headers", ("demo/include/*",))
OTHERS = LeftOut("others", ("demo/lib/libres_sm*",), ("demo/lib/libres_sm80.so", "demo/lib/libres_sm86.so"))


def pinned(path: Path, cut: Cut = WHOLE) -> PinnedWheel:
    return PinnedWheel(path, hashlib.sha256(path.read_bytes()).hexdigest(), cut)


def files_of(store: Store, *wheels: PinnedWheel) -> dict[str, bytes]:
    layer = layer_in_store(store, list(wheels), TARGET, Silent())
    with tarfile.open(store.blob(layer.digest)) as tar:
        return {one.name: tar.extractfile(one).read() for one in tar if one.isfile()}  # type: ignore[union-attr]


def recorded(files: dict[str, bytes]) -> set[str]:
    return {row[0] for row in csv.reader(io.StringIO(files[RECORD].decode()))}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path, MEMBERS)


def test_what_is_left_out_is_neither_in_the_layer_nor_in_record(store: Store, wheel: Path) -> None:
    whole = files_of(store, pinned(wheel))
    cut = files_of(store, pinned(wheel, Cut((STATIC, OTHERS))))
    gone = {"demo/lib/libdemo_static.a", "demo/lib/libres_sm90.so"}
    assert whole.keys() - cut.keys() == {SITE + name for name in gone}
    assert recorded(whole) - recorded(cut) == gone
    assert {name: cut[name] for name in cut if name != RECORD} == {
        name: whole[name] for name in cut if name != RECORD
    }


def test_what_is_left_out_is_not_inflated_but_the_wheels_hash_is_still_checked(
    store: Store, tmp_path: Path
) -> None:
    broken = make_wheel(tmp_path, [*MEMBERS[:2], ZipMember("demo/x.a", b"!" * 99, crc=1)])
    assert files_of(store, pinned(broken, Cut((STATIC,))))
    with pytest.raises(HashMismatch):
        layer_in_store(store, [PinnedWheel(broken, "0" * 64, Cut((STATIC,)))], TARGET, Silent())


def test_a_layer_gives_back_what_a_lower_one_left_out(store: Store, wheel: Path) -> None:
    lower = files_of(store, pinned(wheel, Cut((HEADERS, STATIC))))
    upper = files_of(store, pinned(wheel, Cut((STATIC,), gives_back=(HEADERS,))))
    assert upper.keys() == {SITE + "demo/include/demo.h", RECORD}
    assert lower | upper == files_of(store, pinned(wheel, Cut((STATIC,))))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(wheels(), st.data())
def test_a_cut_and_what_gives_it_back_are_the_whole_wheel(content: bytes, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        wheel, store = Path(folder, "demo-1.0-py3-none-any.whl"), Store(Path(folder, "store"))
        wheel.write_bytes(content)
        whole = files_of(store, pinned(wheel))
        members = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
        left_out = data.draw(st.sets(st.sampled_from(members), min_size=1)) if members else set()
        rule = LeftOut("any", tuple(glob.escape(name) for name in sorted(left_out)) or ("*",))
        lower, upper = files_of(store, pinned(wheel, Cut((rule,)))), pinned(wheel, Cut(gives_back=(rule,)))
        assert lower | files_of(store, upper) == whole


def test_a_whole_wheel_has_the_key_and_the_bytes_it_always_had(store: Store, wheel: Path) -> None:
    out = io.BytesIO()
    assert wheel_layer([wheel], TARGET, out) == layer_in_store(
        store, [pinned(wheel, Cut())], TARGET, Silent()
    )
    assert layer_key([PinnedWheel(Path("demo"), "ab" * 32)], TARGET) == (
        "585b588426897a3e619845023a9d585915e76dd8ecefa38edc279c1b8de9f9bd"
    )


def test_a_rules_name_does_not_decide_a_layer_but_its_globs_do(wheel: Path) -> None:
    def key(*rules: LeftOut, sm: tuple[str, ...] = ()) -> str:
        return layer_key([pinned(wheel, Cut(rules, sm=sm))], TARGET)

    assert key(STATIC) == key(LeftOut("renamed", STATIC.drop))
    assert len({key(), key(STATIC), key(HEADERS), key(STATIC, HEADERS), key(sm=("80",))}) == 5
    assert key(OTHERS) != key(LeftOut("others", OTHERS.drop))


@pytest.mark.parametrize(
    ("rule", "stale"),
    [
        (LeftOut("gone", ("demo/*.so.2",)), "demo/*.so.2"),
        (LeftOut("half", ("*.a", "*.lib")), "*.lib"),
        (LeftOut("keeps-nothing", ("demo/lib/libres_sm*",), ("demo/lib/libres_sm75.so",)), "libres_sm75"),
    ],
)
def test_a_rule_that_fits_nothing_in_the_wheel_is_stale(
    store: Store, wheel: Path, rule: LeftOut, stale: str
) -> None:
    for cut in (Cut((rule,)), Cut(gives_back=(rule,))):
        with pytest.raises(StaleFileRule) as caught:
            layer_in_store(store, [pinned(wheel, cut)], TARGET, Silent())
        assert (caught.value.rule, caught.value.wheel) == (rule.rule, wheel.name)
        assert stale in caught.value.glob
        assert caught.value.exit_code == 2
    assert not list(store.oci.glob("blobs/sha256/*"))


def test_nothing_links_to_a_library_that_was_left_out(store: Store, wheel: Path) -> None:
    def links(cut: Cut) -> set[str]:
        layer = links_in_store(pinned(wheel, cut), "demo/lib", TARGET, store, Silent())
        with tarfile.open(store.blob(layer.digest)) as tar:
            return {Path(one.name).name for one in tar if one.issym()}

    assert links(WHOLE) - links(Cut((OTHERS,))) == {"libres_sm90.so"}
