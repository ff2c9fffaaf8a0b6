"""A running `covis web`, and raw questions to it."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import covis


@dataclass
class Server:
    """A running `covis web`. url: as printed, with the token if there is one."""

    process: subprocess.Popen[str]
    url: str
    temporary: Path

    @property
    def port(self) -> int:
        return int(re.search(r":(\d+)/", self.url)[1])

    def ask(self, path, body=None, method=None, **headers):
        """(status, headers, content) of a raw request, its path sent as it is."""
        own = f"http://127.0.0.1:{self.port}"
        given = {} if body is None else {"Origin": own}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        given = {name: value for name, value in given.items() if value is not None}
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method or ("GET" if body is None else "POST"), path, content, given)
        answer = connection.getresponse()
        found = answer.status, answer.headers, answer.read()
        connection.close()
        return found

    def said(self, path, body=None, **headers):
        """The JSON of an answer that must be one."""
        status, _, content = self.ask(path, body, **headers)
        assert status == 200, content
        return json.loads(content)

    def job(self, started):
        """The last news of a job."""
        news = {"version": -1, "state": "waiting"}
        while news["state"] in ("waiting", "running"):
            news = self.said(f"/api/jobs/{started['job']}?after={news['version']}")
        return news

    def stop(self):
        self.process.terminate()
        return self.process.wait(30)


def start(folder: Path, *arguments: str, command: Sequence[str] = ("web", "--no-open")) -> Server:
    """Start one; its temporary files, and what it remembers, go into `folder`."""
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    source = [str(Path(covis.__file__).parents[1]), *os.environ.get("PYTHONPATH", "").split(":")]
    environment = os.environ | {
        "PYTHONPATH": ":".join(filter(None, source)), "TMPDIR": str(temporary),
        "COVIS_HOME": str(folder / "home"), "BROWSER": "true", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    whole = [sys.executable, "-m", "covis", *command, *arguments]
    process = subprocess.Popen(whole, stdout=subprocess.PIPE, text=True, env=environment)
    line = process.stdout.readline()
    return Server(process, re.search(r"http://\S+", line)[0], temporary)
