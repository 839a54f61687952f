"""A hub in this process, on 127.0.0.1: repositories of small files, by the real one's paths."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SHA = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Repositories by name, each {file: content}. `cut` shortens the files that are sent."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.cut = 0
        self.sent: list[str] = []


def oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_) -> None: ...

    def answer(self, value, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def missing(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_POST(self) -> None:
        path, body = urlsplit(self.path).path, self.body()
        parts = path.strip("/").split("/")
        if path == "/api/repos/create":
            given = json.loads(body)
            repo = "/".join(filter(None, [given.get("organization"), given["name"]]))
            repo = repo if "/" in repo else f"me/{repo}"
            self.hub.repos.setdefault(repo, {})
            self.answer({"url": f"http://{self.headers['Host']}/{repo}"})
        elif path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files
            ]
            self.answer({"files": modes})
        elif "/commit/" in path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.hub.repos["/".join(parts[2:4])][line["value"]["path"]] = content
            url = f"http://{self.headers['Host']}/{'/'.join(parts[2:4])}/commit/{SHA}"
            self.answer({"commitUrl": url, "commitOid": SHA, "success": True})
        else:
            self.missing()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        parts = path.strip("/").split("/")
        repo = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        files = self.hub.repos.get(repo)
        if files is None:
            self.missing()
        elif "/tree/" in path:
            rows = [
                {"type": "file", "path": name, "size": len(x), "oid": oid(x)}
                for name, x in files.items()
            ]
            self.answer(rows)
        elif parts[0] == "api":
            siblings = [{"rfilename": name} for name in files]
            self.answer({"id": repo, "sha": SHA, "siblings": siblings, "private": False})
        else:
            self.send_file("/".join(parts[4:]), files)

    do_HEAD = do_GET  # noqa: N815

    def send_file(self, name: str, files: dict[str, bytes]) -> None:
        if name not in files:
            self.missing()
            return
        content = files[name]
        self.send_response(200)
        self.send_header("ETag", f'"{oid(content)}"')
        self.send_header("X-Repo-Commit", SHA)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.hub.sent.append(name)
            self.wfile.write(content[: len(content) - self.hub.cut])


@contextmanager
def hub() -> Iterator[tuple[Hub, str]]:
    """The hub and its address."""
    made = Hub()
    handler = type("Bound", (Handler,), {"hub": made})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield made, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
