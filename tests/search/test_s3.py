"""A store in a bucket, on moto's server, which speaks S3's protocol."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from covis.search import Index

Pixels = NDArray[np.uint8]
Scene = Callable[..., Pixels]
Write = Callable[[Path, Pixels], Path]

pytestmark = pytest.mark.slow

ADD = """
import sys
from covis.search import Index
from covis.search.ingest import LocalEngine, add
index = Index(sys.argv[2], features="sift", max_keypoints=100)
index._make()
add(index.store, [sys.argv[1]], LocalEngine(index._extractor), commit=2)
"""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty one, which goes with the server."""
    for module in ("moto", "flask", "flask_cors"):
        pytest.importorskip(module, reason="the extra test brings it")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "moto.server", "-p", address.rpartition(":")[2]]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(address)
        urllib.request.urlopen(urllib.request.Request(f"{address}/photos", method="PUT"))
        monkeypatch.setenv("AWS_ENDPOINT", address)
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        yield "s3://photos/store"
    finally:
        server.kill()
        server.wait()


def wait_for(address: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(address, timeout=5)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"no server at {address}")


def start(photos: Path, store: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", ADD, str(photos), store])


def count(store: str) -> int:
    try:
        return len(Index(store))
    except Exception:  # There is none yet, or half of one.
        return 0


def check_whole(store: str, photos: Path, expected: int) -> None:
    index = Index(store)
    checked = index.verify()
    assert (checked.images, checked.files, checked.problems) == (expected, expected, [])
    for photo in sorted(photos.glob("*.png"))[::7]:
        assert index.search(photo, 1, budget=None).hits[0].path == str(photo)


def test_an_add_to_a_bucket_is_killed_and_run_again(
    bucket: str, tmp_path: Path, write: Write, scene: Scene
) -> None:
    for number in range(24):
        write(tmp_path / "p" / f"{number:02}.png", scene(number, 60, 80))
    process = start(tmp_path / "p", bucket)
    while process.poll() is None and count(bucket) < 4:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert 4 <= count(bucket) < 24
    again = Index(bucket).add([tmp_path / "p"])
    assert 0 < again.added < 24
    check_whole(bucket, tmp_path / "p", 24)


def test_several_write_into_a_bucket_at_once(
    bucket: str, tmp_path: Path, write: Write, scene: Scene
) -> None:
    """Of one folder, so that they commit the same pictures. Lance tells them apart by a conditional
    PUT of the new version, which a server must know."""
    for number in range(12):
        write(tmp_path / "p" / f"{number:02}.png", scene(number, 60, 80))
    writers = [start(tmp_path / "p", bucket) for _ in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    check_whole(bucket, tmp_path / "p", 12)
