"""Downloads: failures are tried again, what came is kept and resumed, nothing wrong gets a name.
Served from this machine.
"""

import hashlib
import logging
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from polymodal.data.readers import download as transport
from polymodal.data.readers.files import fetch

CONTENT = np.random.default_rng(0).bytes(250_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = 2 * transport.CHUNK  # bytes: chunks that are not whole are asked for again


class Server(ThreadingHTTPServer):
    """Answers each request as the next word of `script` says; after it, as it should.

    500, 404: an error; stall: half the bytes, then nothing; cut: half of what is asked for; wrong:
    other bytes; whole: all, whatever range is asked for.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[str] = []
        self.ranges: list[int] = []
        self.end = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments) -> None:
        pass

    def do_GET(self) -> None:
        word = self.server.script.pop(0) if self.server.script else "right"
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        self.server.ranges.append(start)
        if word.isdigit():
            return self.send_error(int(word))
        if word == "whole":
            asked, start = None, 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        content = bytes(len(CONTENT)) if word == "wrong" else CONTENT
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if asked:
            last = len(content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
        self.end_headers()
        short = word in ("stall", "cut")
        self.wfile.write(content[start : start + HALF] if short else content[start:])
        if word == "stall":
            self.wfile.flush()
            self.server.end.wait(10)


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setattr(transport, "PAUSE", 0.001)
    monkeypatch.setattr(transport, "STALL", 0.2)
    with Server() as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        yield httpd
        httpd.end.set()
        httpd.shutdown()


@pytest.mark.parametrize(
    ("script", "ranges"),
    [
        ([], [0]),
        (["500", "503"], [0, 0, 0]),
        (["cut"], [0, HALF]),
        (["stall"], [0, HALF]),
        (["cut", "500", "stall"], [0, HALF, HALF]),
        (["cut", "whole"], [0, HALF]),
        (["cut"] + ["500"] * 3, [0] + [HALF] * 4),
    ],
)
def test_a_failure_that_passes_is_resumed(server, tmp_path, script, ranges) -> None:
    server.script = list(script)
    target = tmp_path / "new" / "file.bin"
    assert fetch(server.url, target, sha256=SHA256) == target
    assert target.read_bytes() == CONTENT
    assert server.ranges[: len(ranges)] == ranges
    assert [f.name for f in target.parent.iterdir()] == ["file.bin"]


def test_what_another_process_left_is_resumed(server, tmp_path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    fetch(server.url, tmp_path / "file.bin", sha256=SHA256)
    assert server.ranges == [1000] and (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("left", [bytes(1000), CONTENT, CONTENT + b"x"])
def test_what_was_left_is_checked_and_fetched_anew_if_it_is_wrong(server, tmp_path, left) -> None:
    """It may belong to another file, be whole already, or be too long."""
    (tmp_path / "file.bin.part").write_bytes(left)
    fetch(server.url, tmp_path / "file.bin", sha256=SHA256)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.ranges == ([len(left)] if left == CONTENT else [len(left), 0])


@pytest.mark.parametrize(
    ("script", "why", "requests", "kept"),
    [
        (["500"] * 9, "since the server answers 500;", 5, 0),
        (["404"], "since the server answers 404;", 1, 0),
        (["stall"] + ["500"] * 9, "since the server answers 500;", 5, HALF),
        (["wrong"], "since it has sha256 [0-9a-f]{64}, the published file " + SHA256, 1, 0),
    ],
)
def test_what_cannot_be_fetched_is_told(server, tmp_path, script, why, requests, kept) -> None:
    """Nothing has the final name; what came is kept, unless it is known to be wrong."""
    server.script = list(script)
    target = tmp_path / "file.bin"
    with pytest.raises(ValueError, match=rf"file\.bin is not in .*{why}.*put the file there"):
        fetch(server.url, target, sha256=SHA256)
    assert len(server.ranges) == requests
    left = {f.name: f.stat().st_size for f in tmp_path.iterdir()}
    assert left == ({"file.bin.part": kept} if kept else {})


@pytest.mark.parametrize(
    ("word", "why"), [("stall", "nothing came for 0.2 s"), ("cut", "the connection ended before")]
)
def test_why_the_last_try_failed_is_told(server, tmp_path, monkeypatch, word, why) -> None:
    monkeypatch.setattr(transport, "TRIES", 1)
    server.script = [word]
    with pytest.raises(ValueError, match=why):
        fetch(server.url, tmp_path / "file.bin", sha256=SHA256)
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:HALF]
    fetch(server.url, tmp_path / "file.bin", sha256=SHA256)
    assert server.ranges == [0, HALF]


def test_a_download_without_a_hash_is_refused(server, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"file\.bin needs its md5 or sha256"):
        fetch(server.url, tmp_path / "file.bin")
    assert server.ranges == []


def test_one_process_downloads_and_the_others_wait(server, tmp_path, caplog) -> None:
    target, done = tmp_path / "file.bin", []
    fetch_it = lambda: done.append(fetch(server.url, target, sha256=SHA256))
    server.script = ["stall"]
    with caplog.at_level(logging.WARNING, "polymodal"):
        threads = [threading.Thread(target=fetch_it) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert done == [target] * 3 and server.ranges == [0, HALF]
    assert sum("Downloading" in record.message for record in caplog.records) == 1
    assert [f.name for f in tmp_path.iterdir()] == ["file.bin"]
