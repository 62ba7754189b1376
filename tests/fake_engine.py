"""As much of a Docker Engine as loading an image needs, on loopback, with the misbehaviour tests ask for."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from trtforge.oci import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class FakeEngine:
    """What it has, what it was sent, and how it behaves.

    images: ID -> chain of diff IDs. loads: names of the files in each archive that it was sent.
    on_load: "ok", "die" (the connection breaks in mid-load), "full" (its disk is), "refuse" (an error event),
        "refuse-partial" (that for archives without all layers), "lie" (it ends up with another image).
    """

    address: str = ""
    api_version: str = "1.41"
    info: dict[str, Any] = field(default_factory=dict)
    images: dict[str, list[str]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    loads: list[list[str]] = field(default_factory=list)
    on_load: str = "ok"

    def load(self, archive: bytes) -> list[dict[str, Any]]:
        """Take an archive in; the events to answer with."""
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        self.loads.append(sorted(files))
        manifest = json.loads(files["manifest.json"])[0]
        if self.on_load == "refuse" or (
            self.on_load == "refuse-partial" and not set(manifest["Layers"]) <= set(files)
        ):
            return [
                {"status": "Loading layer"},
                {"errorDetail": {"message": "no"}, "error": "invalid diffID"},
            ]
        config = files[manifest["Config"]]
        image_id = digest_of(b"another" if self.on_load == "lie" else config)
        self.images[image_id] = json.loads(config)["rootfs"]["diff_ids"]
        self.tags.update(dict.fromkeys(manifest["RepoTags"], image_id))
        return [{"status": "Loading layer", "id": "1", "progressDetail": {"current": 5, "total": 5}}]


@contextmanager
def running(fake: FakeEngine) -> Iterator[FakeEngine]:
    """Serve `fake` while the block runs; its `address` says where."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            path = unquote(self.path.partition("?")[0])
            name = path.partition("/images/")[2].removesuffix("/json")
            image_id = fake.tags.get(name, name)
            if path.endswith("/version"):
                self.answer(200, {"ApiVersion": fake.api_version})
            elif path.endswith("/info"):
                self.answer(200, fake.info)
            elif path.endswith("/images/json"):
                self.answer(200, [{"Id": known} for known in fake.images])
            elif image_id in fake.images:
                self.answer(200, {"Id": image_id, "RootFS": {"Layers": fake.images[image_id]}, "Config": {}})
            else:
                self.answer(404, {"message": f"No such image: {name}"})

        def do_POST(self) -> None:
            if fake.on_load == "die":
                self.rfile.read(1000)
                self.connection.close()
                self.close_connection = True
            elif fake.on_load == "full":
                self.close_connection = True
                self.answer(500, {"message": "Error processing tar file: write /x: no space left on device"})
            else:
                events = fake.load(self.body())
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for event in events:
                    data = json.dumps(event).encode() + b"\r\n"
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
                self.wfile.write(b"0\r\n\r\n")

        def do_DELETE(self) -> None:
            name = unquote(self.path.partition("/images/")[2].partition("?")[0])
            fake.tags.pop(name, None)
            self.answer(200, [{"Untagged": name}])

        def body(self) -> bytes:
            data = bytearray()
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return bytes(data)

        def answer(self, status: int, value: object) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    fake.address = f"tcp://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
