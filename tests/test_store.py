from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from trtforge.errors import EnvironmentLack
from trtforge.oci import digest_of
from trtforge.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_work_that_failed_leaves_nothing(store: Store) -> None:
    with pytest.raises(IsADirectoryError), store.work_folder() as work:
        work.write_text("")
    assert list((store.root / "tmp").iterdir()) == []


def test_only_the_work_of_dead_processes_is_swept(store: Store) -> None:
    script = "import sys; from trtforge.store import Store; from pathlib import Path\n"
    script += "with Store(Path(sys.argv[1])).work_folder() as work: print(work, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(store.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout
        theirs = Path(other.stdout.readline().strip())
        with store.work_folder() as ours:
            store.sweep()
            assert ours.exists()
            assert theirs.exists()
            other.kill()
            other.wait()
            assert store.dead_work() == [theirs]
            store.sweep()
            assert ours.exists()
            assert not theirs.exists()


def test_a_damaged_small_blob_is_not_read_and_written_anew(store: Store) -> None:
    digest = digest_of(b"content")
    store.write_blob(b"content", digest)
    assert store.read_blob(digest) == b"content"
    store.blob(digest).write_bytes(b"c0ntent")
    assert store.read_blob(digest) is None
    store.write_blob(b"content", digest)
    assert store.read_blob(digest) == b"content"


def test_a_full_disk_is_told(store: Store) -> None:
    """Every write to /dev/full fails as on a full disk."""
    with pytest.raises(EnvironmentLack, match="is full") as told, store.work_folder():
        Path("/dev/full").write_text("x")
    assert "whole" in (told.value.fact("state") or "")


def test_a_folder_that_is_somebody_else_s_is_told() -> None:
    user = os.geteuid()
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    try:
        folder.chmod(0o555)
        if user == 0:
            os.seteuid(65534)
        store = Store(folder / "store")
        with pytest.raises(EnvironmentLack, match="cannot be written: Permission denied") as told:
            store.write_text(store.root / "records" / "x.json", "{}")
        assert "TRTFORGE_CACHE" in (told.value.fact("next") or "")
    finally:
        os.seteuid(user)
        shutil.rmtree(folder)


def test_a_file_that_is_not_the_store_s_is_not_blamed_on_it(store: Store) -> None:
    with pytest.raises(FileNotFoundError), store.work_folder():
        Path("/nowhere/at/all").read_text()
    with pytest.raises(PermissionError), store.work_folder():
        raise PermissionError(13, "Permission denied", "/etc/elsewhere")
