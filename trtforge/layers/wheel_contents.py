"""What a wheel installs, and where: a `WheelArchive` as PyPA's `installer` wants to see it.

`installer` knows what a wheel means: schemes, entry points, RECORD. It drives; the archive gives it members
that it never reads, and the destination copies them. What RECORD says of a member is checked while its bytes
pass.

Sources: the binary distribution format (packaging.python.org, PEP 427), RECORD (PEP 376, PEP 627).
"""

from __future__ import annotations

import configparser
import csv
import hashlib
import io
import posixpath
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, cast

from installer import install
from installer.exceptions import InstallerError
from installer.records import Hash, InvalidRecordEntry, RecordEntry, parse_record_file
from installer.sources import WheelContentElement, WheelSource
from installer.utils import canonicalize_name, parse_entrypoints

from trtforge.errors import CorruptWheel, UnsafeWheel
from trtforge.layers.cut import WHOLE, Cut

if TYPE_CHECKING:
    from collections.abc import Iterator

    from installer.destinations import WheelDestination

    from trtforge.layers.gzip_tar import Piece
    from trtforge.layers.install_target import InstallTarget
    from trtforge.layers.wheel_archive import Member, WheelArchive

INSTALLER = b"trtforge\n"

MAX_METADATA = 64 << 20
"""Bytes of a file in .dist-info that is held in memory; torch's RECORD, the largest known, has 2 MiB."""

_STRONG = frozenset({"sha256", "sha384", "sha512"})
"""RECORD's hashes must be sha256 or better (binary distribution format, "Signed wheel files")."""


def install_wheel(contents: WheelContents, destination: WheelDestination) -> None:
    """Give everything that the wheel installs to `destination`, as `installer.install` does.

    Files come as `MemberStream` (of the wheel) or as plain streams (made while installing).

    Raises:
        UnsafeWheel: it holds what RECORD does not name, or its parts do not fit together.
        CorruptWheel: its metadata cannot be read, or what it holds is not what RECORD names.
    """
    try:
        contents.validate_record()
        install(contents, destination, additional_metadata={"INSTALLER": INSTALLER})
    except (InstallerError, configparser.Error, AssertionError, ValueError) as error:
        wheel, folder = contents.archive.name, contents.dist_info_dir
        raise CorruptWheel(wheel, folder, f"its metadata is malformed: {error}") from error


def place(scheme: str, path: str, target: InstallTarget, distribution: str) -> str:
    """The absolute path, in the image, of `path` in one of a wheel's five schemes."""
    return posixpath.join(scheme_root(scheme, target, distribution), path)


def scheme_root(scheme: str, target: InstallTarget, distribution: str) -> str:
    """The absolute path of a scheme: as a virtual environment has them, and pip fills them."""
    return {
        "purelib": target.site_packages,
        "platlib": target.site_packages,
        "scripts": f"{target.prefix}/bin",
        "headers": f"{target.prefix}/include/site/python{target.python}/{distribution}",
        "data": target.prefix,
    }[scheme]


def reserved(target: InstallTarget) -> frozenset[str]:
    """Where no wheel may put a file: the environment's interpreter and settings, and all folders above."""
    folder = f"{target.prefix}/bin"
    names = "python", "python3", f"python{target.python}"
    own = [target.interpreter, f"{target.prefix}/pyvenv.cfg", *(f"{folder}/{name}" for name in names)]
    above = (str(parent) for path in (*own, target.site_packages) for parent in PurePosixPath(path).parents)
    return frozenset((*own, target.site_packages, *above))


class MemberStream(io.RawIOBase):
    """A member on its way through `installer`, which hands it on unread; the destination takes its pieces.

    sha256: the hash of the content that has passed.
    """

    def __init__(self, archive: WheelArchive, member: Member, record: RecordEntry) -> None:
        super().__init__()
        self.archive, self.member = archive, member
        self.sha256 = hashlib.sha256()
        self._record = record

    def recorded(self) -> bytes | None:
        """The SHA-256 that RECORD says the content has; None where RECORD has another hash of it."""
        expected = self._record.hash_
        if expected is None or expected.name != "sha256":
            return None
        return urlsafe_b64decode(expected.value.rstrip("=") + "=")

    def pieces(self) -> Iterator[Piece]:
        """The content, in pieces, checked against the archive and RECORD while it passes.

        Raises:
            CorruptWheel: it is not what the archive or RECORD says; known at the latest after the last piece.
        """
        expected = self._record.hash_
        hashes = [self.sha256]
        if expected and expected.name != self.sha256.name:
            hashes.append(hashlib.new(expected.name))
        for piece in self.archive.pieces(self.member):
            for check in hashes:
                check.update(piece.plain)
            yield piece
        if expected and _base64(hashes[-1].digest()) != expected.value.rstrip("="):
            reason = f"its {expected.name} is not the one in RECORD"
            raise CorruptWheel(self.archive.name, self.member.name, reason)
        if self._record.size not in (None, self.member.size):
            raise CorruptWheel(self.archive.name, self.member.name, "its size is not the one in RECORD")

    def content(self, limit: int) -> bytes:
        """The whole content, checked likewise.

        Raises:
            UnsafeWheel: it has more than `limit` bytes.
        """
        if self.member.size > limit:
            reason = f"it has {self.member.size} bytes, over the limit of {limit}"
            raise UnsafeWheel(self.archive.name, self.member.name, reason)
        return b"".join(piece.plain for piece in self.pieces())


class WheelContents(WheelSource):
    """A wheel as a source for `installer`; unlike `installer.sources.WheelFile` it trusts nothing.

    Its distribution and version are those of its .dist-info folder, so what it installs does not depend on
    the file's name. What its `cut` leaves out is not in it; that is not even inflated.

    Raises:
        StaleFileRule: the cut is of another wheel than this.
        UnsafeWheel: it does not have one .dist-info folder, of the distribution that the file is named after.
        CorruptWheel: its RECORD cannot be read.
    """

    def __init__(self, archive: WheelArchive, cut: Cut = WHOLE) -> None:
        self.archive, self.cut = archive, cut
        cut.check(archive.name, archive.members)
        tops = {name.split("/", 1)[0] for name in archive.members if "/" in name}
        found = sorted(top for top in tops if top.endswith(".dist-info"))
        if len(found) != 1:
            raise UnsafeWheel(archive.name, ", ".join(found), "it has not exactly one .dist-info folder")
        distribution, _, version = found[0].removesuffix(".dist-info").rpartition("-")
        if canonicalize_name(distribution) != canonicalize_name(archive.name.split("-", 1)[0]):
            raise UnsafeWheel(archive.name, found[0], "the file is named after another distribution")
        super().__init__(distribution, version)
        for name in archive.members:
            top, *rest = name.split("/")
            if top == self.data_dir and len(rest) < 2:
                raise UnsafeWheel(archive.name, name, "it is in the .data folder and in no scheme")
        self._records = self._read_records()

    @property
    def dist_info_filenames(self) -> list[str]:
        folder = f"{self.dist_info_dir}/"
        return [name.removeprefix(folder) for name in self.archive.members if name.startswith(folder)]

    def read_dist_info(self, filename: str) -> str:
        name = f"{self.dist_info_dir}/{filename}"
        if name not in self.archive.members:
            raise CorruptWheel(self.archive.name, name, "it is missing")
        try:
            return self.archive.read(self.archive.members[name], MAX_METADATA).decode("utf-8")
        except UnicodeDecodeError as error:
            raise CorruptWheel(self.archive.name, name, "it is not UTF-8 text") from error

    def validate_record(self) -> None:
        """Check that RECORD names every file, with a strong hash; the hashes are checked while files pass."""
        wheel = self.archive.name
        for name in self.archive.members:
            record = self._records.get(name)
            signature = name in (f"{self.dist_info_dir}/RECORD.jws", f"{self.dist_info_dir}/RECORD.p7s")
            if signature and record:
                raise UnsafeWheel(wheel, name, "it signs RECORD and is named in it")
            if name == f"{self.dist_info_dir}/RECORD":
                if record and (record.hash_ or record.size is not None):
                    raise UnsafeWheel(wheel, name, "it names its own hash or size")
            elif not signature:
                if not record:
                    raise UnsafeWheel(wheel, name, "RECORD does not name it")
                if not record.hash_ or record.hash_.name not in _STRONG:
                    raise UnsafeWheel(wheel, name, "RECORD has no hash of it that is sha256 or better")
        if "entry_points.txt" in self.dist_info_filenames:
            list(parse_entrypoints(self.read_dist_info("entry_points.txt")))

    def get_contents(self) -> Iterator[WheelContentElement]:
        for name, member in self.archive.members.items():
            if not self.cut.installs(name):
                continue
            record = self._records.get(name, RecordEntry(name, None, None))
            stream = MemberStream(self.archive, member, record)
            if "__pycache__" in name.split("/")[:-1]:
                # Left out, as installer does (it would warn): bytecode must come from the sources beside it.
                for _ in stream.pieces():
                    pass
            else:
                yield record.to_row(), cast("BinaryIO", stream), member.executable

    def _read_records(self) -> dict[str, RecordEntry]:
        # Not str.splitlines: that also splits at characters which a quoted name may hold.
        lines = io.StringIO(self.read_dist_info("RECORD"), newline="")
        try:
            return {row[0]: RecordEntry.from_elements(*row) for row in parse_record_file(lines)}
        except (InstallerError, InvalidRecordEntry, csv.Error) as error:
            raise CorruptWheel(
                self.archive.name, f"{self.dist_info_dir}/RECORD", f"it is malformed: {error}"
            ) from error


def record_hash(sha256: bytes) -> Hash:
    """A SHA-256 as RECORD writes it."""
    return Hash("sha256", _base64(sha256))


def _base64(digest: bytes) -> str:
    return urlsafe_b64encode(digest).decode().rstrip("=")
