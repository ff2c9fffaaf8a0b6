"""Who is answered, and what can be read."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import socket
import struct
import zlib
from pathlib import Path

import pytest
from helpers.server import start
from typer.testing import CliRunner

pytest.importorskip("starlette")

from covis.cli import app
from covis.demo import render_demo
from covis.draw.canvas import save_picture
from covis.errors import ImageError
from covis.web import access as access_module
from covis.web.access import Access, NoSuchError
from covis.web.guard import Door


def upload(server, content, name="a.png"):
    return server.ask(f"/api/upload?name={name}", content)


def test_it_listens_on_this_machine_only(server):
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    here = [row[1] for row in listening if int(row[1].split(":")[1], 16) == server.port]
    assert {address.split(":")[0] for address in here if address} == {"0100007F"}


@pytest.mark.parametrize("host", ["evil.example:{port}", "127.0.0.1:1", "localhost", "", "[::1"])
def test_other_names_of_this_address_are_refused(server, host):
    status, _, content = server.ask("/api/sources", Host=host.format(port=server.port))
    assert status in (400, 421)
    assert b"photos" not in content


def test_other_websites_are_refused(server):
    own = f"http://127.0.0.1:{server.port}"
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", f"https{own[4:]}"):
        assert server.ask("/api/demo", {}, Origin=origin)[0] == 403
        assert server.ask("/api/sources", Origin=origin)[0] == 403
    assert server.ask("/api/demo", {}, Origin=None)[0] == 403
    assert server.ask("/api/sources", Sec_Fetch_Site="cross-site")[0] == 403
    assert server.ask("/pictures/x", Sec_Fetch_Site="same-site")[0] == 403
    assert server.ask("/api/sources", Origin=own)[0] == 200
    # A link on another page may open this one, and no more.
    assert server.ask("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 200
    assert server.ask("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="cors")[0] == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:{port}"])
def test_there_are_no_websockets(server, origin):
    status, headers, _ = server.ask(
        "/", Upgrade="websocket", Connection="Upgrade", Sec_WebSocket_Version="13",
        Sec_WebSocket_Key=base64.b64encode(os.urandom(16)).decode(),
        Origin=origin.format(port=server.port),
    )  # fmt: skip
    assert status != 101
    assert "Sec-WebSocket-Accept" not in headers


def test_nothing_is_loaded_from_elsewhere(server):
    _, headers, page = server.ask("/")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    for name in re.findall(r'(?:src|href)="(/static/[^"]+)"', page.decode()):
        status, headers, content = server.ask(name)
        assert status == 200
        assert headers["X-Content-Type-Options"] == "nosniff"
        addresses = set(re.findall(rb"https?://[\w.]+", content))
        assert addresses <= {b"http://www.w3.org"}  # The name of SVG, which nobody asks for.


@pytest.mark.parametrize(
    "path",
    [
        "/static/../guard.py", "/static/%2e%2e/guard.py", "/static/..%2fguard.py",
        "/static//etc/passwd", "/pictures/..%2f..%2fetc%2fpasswd", "/pictures//etc/passwd",
        "/pictures/../../etc/passwd", "/api/pictures?source=../photos",
        "/api/pictures?source=/etc", "/api/stores/..%2f..%2ftmp", "/etc/passwd",
    ],
)  # fmt: skip
def test_paths_lead_nowhere(server, path):
    status, _, content = server.ask(path)
    assert status in (400, 404)
    assert b"root:" not in content
    assert b"class Guard" not in content


def test_pictures_are_named_by_ids_that_only_the_server_makes(server, photos):
    listed = server.said("/api/pictures?source=folder0")
    there = {each["name"]: each["id"] for each in listed["pictures"]}
    assert "street0.png" in there
    status, headers, content = server.ask(f"/pictures/{there['street0.png']}?size=320")
    assert (status, headers["Content-Type"], content[:2]) == (200, "image/jpeg", b"\xff\xd8")
    path = str(photos / "street0.png")
    for wrong in (path, "0" * 24, there["street0.png"][:-1], {"id": 1}, None, 3):
        status, _, _ = server.ask("/api/match", {"image0": wrong, "image1": wrong})
        assert status == 404


def test_links_that_lead_out_are_not_followed(server):
    listed = server.said("/api/pictures?source=folder0")
    assert "link.png" not in {each["name"] for each in listed["pictures"]}


def test_a_file_that_is_swapped_for_a_link_is_refused(tmp_path):
    (tmp_path / "uploads").mkdir()
    inside = tmp_path / "inside"
    inside.mkdir()
    for path in (inside / "a.png", tmp_path / "secret.png"):
        save_picture(render_demo((64, 64)).image0, path)
    access = Access(tmp_path / "uploads")
    found = access.admit(str(inside / "a.png"), within=str(inside))
    assert access.picture(found.id) == found
    (inside / "a.png").unlink()
    (inside / "a.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(ImageError, match="changed"):
        access.picture(found.id)
    with pytest.raises(ImageError, match="leads out of"):
        access.admit(str(inside / "a.png"), within=str(inside))
    os.mkfifo(inside / "pipe.png")
    with pytest.raises(ImageError, match="is no file"):
        access.admit(str(inside / "pipe.png"), within=str(inside))
    with pytest.raises(NoSuchError):
        Access(tmp_path / "uploads").picture(found.id)


def bomb(width, height):
    """A PNG that says it has so many pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "content", [bomb(50_000, 50_000), bomb(14_000, 14_000), b"no picture", b""]
)
def test_bombs_and_what_is_no_picture_are_refused_and_not_kept(server, content):
    before = set(server.temporary.rglob("*"))
    status, _, said = upload(server, content, "../../bomb.png")
    assert status == 400
    assert b"bomb.png" in said
    assert str(server.temporary).encode() not in said
    assert set(server.temporary.rglob("*")) == before


def test_names_of_uploads_are_no_headers_and_no_paths(server):
    content = server.ask("/static/icon.svg")[2]
    picture = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
    )
    assert upload(server, content, "icon.svg")[0] == 400  # What may hold code is no picture.
    status, headers, said = upload(server, picture, "..%2f..%2fa%0d%0aSet-Cookie:%20x=1%00.png")
    assert status == 200, said
    assert "Set-Cookie" not in headers
    assert json.loads(said)["name"] == "aSet-Cookie: x=1.png"
    identity = json.loads(said)["id"]
    assert server.ask(f"/pictures/{identity}?size=1%0d%0aX-A:%20b")[0] == 400
    assert (
        server.ask(f"/pictures/{identity}", Accept="text/html")[1]["Content-Type"] == "image/jpeg"
    )


def test_uploads_above_the_limit_are_refused_before_they_are_sent(server):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(
            f"POST /api/upload?name=a.png HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
            f"Origin: http://127.0.0.1:{server.port}\r\nContent-Length: 200000001\r\n\r\n".encode()
        )
        answer = connection.recv(4096)
        while b"larger than" not in answer and (more := connection.recv(4096)):
            answer += more
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"larger than 200 MB" in answer


def test_uploads_that_say_nothing_of_their_size_are_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(access_module, "UPLOAD", 1000)

    async def body():
        for _ in range(10):
            yield bytes(200)

    with pytest.raises(ImageError, match="larger than"):
        asyncio.run(Access(tmp_path).upload("a.png", None, body()))
    assert not list(tmp_path.iterdir())


def test_uploads_that_send_no_more_make_room_for_others(tmp_path, monkeypatch):
    monkeypatch.setattr(access_module, "STALLED", 0.2)
    access = Access(tmp_path)
    begun = []

    async def stalled():
        begun.append(True)
        yield b"some"
        await asyncio.Event().wait()

    async def whole():
        yield b"all "
        yield b"of it"

    async def together():
        held = [
            asyncio.create_task(access.upload(f"{n}.png", 100, stalled()))
            for n in range(access_module.AT_A_TIME)
        ]
        while len(begun) < len(held):
            await asyncio.sleep(0)
        picture = await access.upload("good.png", 9, whole())
        return picture, await asyncio.gather(*held, return_exceptions=True)

    picture, failed = asyncio.run(asyncio.wait_for(together(), 30))
    assert Path(picture.path).read_bytes() == b"all of it"
    assert [str(error) for error in failed] == [
        f"{n}.png did not arrive: for 0.2 seconds too little came; send it again."
        for n in range(access_module.AT_A_TIME)
    ]
    assert all(isinstance(error, ImageError) for error in failed)
    assert [str(path) for path in tmp_path.iterdir()] == [picture.path]


@pytest.mark.parametrize(("stalled", "slowest", "arrives"), [(0.2, 10_000, False), (1, 10, True)])
def test_uploads_that_come_in_drops_are_given_up(tmp_path, monkeypatch, stalled, slowest, arrives):
    """Never silent for long, but 60 bytes take more than `stalled` seconds in all."""
    monkeypatch.setattr(access_module, "STALLED", stalled)
    monkeypatch.setattr(access_module, "SLOWEST", slowest)

    async def drops():
        for _ in range(60):
            await asyncio.sleep(0.02)
            yield b"1"

    upload = Access(tmp_path).upload("a.png", None, drops())
    if arrives:
        assert Path(asyncio.run(upload).path).read_bytes() == b"1" * 60
        return
    with pytest.raises(ImageError, match=r"a\.png did not arrive"):
        asyncio.run(upload)
    assert not list(tmp_path.iterdir())


def test_of_many_uploads_the_oldest_go(tmp_path, monkeypatch):
    monkeypatch.setattr(access_module, "UPLOADS", 250)
    access = Access(tmp_path)
    kept = [access.keep(f"{n}.png", bytes(100)) for n in range(4)]
    assert len(list(tmp_path.iterdir())) == 2
    assert access.picture(kept[3].id)
    with pytest.raises(ImageError, match="no longer there"):
        access.picture(kept[0].id)
    monkeypatch.setattr(access_module, "UPLOADED", 5)
    for number in range(12):
        access.keep(f"{number}.png", b"1")
    assert len(list(tmp_path.iterdir())) == 5


def test_questions_that_make_no_sense_are_refused(server):
    for body in (b"[]", b"{", b"\xff", b"x" * 300_000):
        status, _, content = server.ask("/api/match", body)
        assert status == 400, content
    some = server.said("/api/pictures?source=folder0")["pictures"][0]["id"]
    for wrong in (
        {"features": "/tmp"}, {"matcher": "../x"}, {"geometry": "affine"}, {"max_keypoints": 10**9},
        {"max_keypoints": True}, {"rotate": "yes"}, {"effort": "most"},
        {"max_keypoints": 5000, "matcher": "lightglue"},
    ):  # fmt: skip
        status, _, content = server.ask("/api/match", {"image0": some, "image1": some, **wrong})
        assert status == 400, wrong
    for region in ("1,2", [1, 2, 3], [1, 2, 3, "4"], [float("nan")] * 4):
        body = {"store": "store1", "image": some, "region": region}
        assert server.ask("/api/search", body)[0] == 400


def test_doors_know_their_names():
    door = Door("127.0.0.1", 8470)
    assert door.knows("127.0.0.1:8470")
    assert door.knows("localhost:8470")
    assert not door.knows("localhost:8471")
    assert not door.knows("localhost.evil.example:8470")
    assert not door.knows("user@localhost:8470")
    assert not door.knows(None)
    anywhere = Door("0.0.0.0", 80, "secret")
    assert anywhere.knows("192.168.1.5")
    assert not anywhere.knows("rebound.example")
    assert anywhere.url == "http://127.0.0.1:80/?token=secret"
    assert "secret" not in repr(anywhere)
    assert not anywhere.admits(None)
    assert not anywhere.admits("secre")
    assert anywhere.admits("secret")


def test_others_need_the_token_and_uploads_are_gone_at_the_end(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    odd = os.fsdecode(b"\xff\n<b>.png")  # No text in any encoding, and what might be code.
    save_picture(render_demo((64, 64)).image0, folder / odd)
    server = start(tmp_path, "--host", "0.0.0.0", str(folder))
    try:
        token = re.search(r"\?token=(\S{30,})", server.url)[1]
        assert server.ask("/")[0] == 401
        assert server.ask("/?token=wrong")[0] == 401
        assert server.ask("/api/sources", Cookie=f"covis_{server.port}=wrong")[0] == 401
        assert server.ask(f"/api/sources?token={token}")[0] == 401
        status, headers, _ = server.ask(f"/?token={token}")
        assert (status, headers["Location"]) == (303, "/")
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=lax" in cookie.lower()
        given = {"Cookie": cookie.split(";")[0]}
        assert server.ask("/", **given)[0] == 200
        (listed,) = server.said("/api/pictures?source=folder0", **given)["pictures"]
        assert listed["path"] == str(folder / odd)
        assert server.ask(f"/pictures/{listed['id']}", **given)[0] == 200
        demo = server.ask("/api/demo", {}, **given)
        assert demo[0] == 200
        assert len(list(server.temporary.glob("covis-web-*/*.png"))) == 2
    finally:
        server.stop()
    assert not list(server.temporary.iterdir())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nothing-there", "nothing-there: no such store, map, folder or picture"),
        ("text.txt", "text.txt is no picture; give pictures, folders, stores or maps."),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("x")
    result = CliRunner().invoke(app, ["web", "--no-open", given])
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
