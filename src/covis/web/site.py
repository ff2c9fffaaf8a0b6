"""What all pages share: the server's state, and how a request becomes an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from covis.errors import ArgumentError, CovisError
from covis.options import DEFAULT_DEVICE, Device
from covis.web.access import Access, NoSuchError
from covis.web.described import Described
from covis.web.jobs import BusyError, Job, Jobs
from covis.web.maps import Maps
from covis.web.shown import Shrunk
from covis.web.sources import Sources

MOST = 200_000
"""Bytes of a question."""


@dataclass(frozen=True)
class Site:
    """The state of one server.

    local: whether only this machine can reach it.
    """

    access: Access
    sources: Sources
    jobs: Jobs
    shrunk: Shrunk
    maps: Maps
    described: Described
    local: bool = True
    device: Device = DEFAULT_DEVICE

    def job(self, given: dict[str, Any]) -> Job:
        """The job that a question names. Raises NoSuchError."""
        found = self.jobs.get(str(given.get("job")))
        if found is None:
            raise NoSuchError("covis no longer knows this work; start it again.")
        return found

    def done(self, given: dict[str, Any], kind: str) -> dict[str, Any]:
        """What a finished job of a kind kept. Raises NoSuchError where there is none."""
        kept = self.job(given).kept
        if kind not in kept:
            raise NoSuchError("there is nothing to show of this work; start it again.")
        return kept


def as_json(content: Any, status: int = 200) -> Response:
    """JSON in plain ASCII: paths may be no text."""
    body = json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")
    return Response(body, status, media_type="application/json")


Answer = Callable[[Site, dict[str, Any]], Any]


def answered(site: Site, answer: Answer) -> Callable[[Request], Any]:
    """An endpoint: `answer` is given what the address and a JSON body say, in a thread; what it
    returns is sent as JSON, unless it is a response already."""

    async def endpoint(request: Request) -> Response:
        try:
            given = await _given(request)
            found = await run_in_threadpool(answer, site, given)
        except CovisError as error:
            return refused(error)
        return found if isinstance(found, Response) else as_json(found)

    return endpoint


def cancel(site: Site, given: dict[str, Any]) -> Any:
    """Stop a job."""
    job = site.job(given)
    job.cancel()
    return job.to_dict()


def refused(error: CovisError) -> Response:
    """The line that the command line would print."""
    status = 404 if isinstance(error, NoSuchError) else 503 if isinstance(error, BusyError) else 400
    return as_json({"error": str(error)}, status)


async def _given(request: Request) -> dict[str, Any]:
    given: dict[str, Any] = dict(request.query_params)
    if request.method == "POST":
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MOST:
                raise ArgumentError("the question is too long.")
        try:
            said = json.loads(body or b"{}")
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise ArgumentError("the question is no JSON object.")
        given |= said
    return given | request.path_params


def whole(given: dict[str, Any], name: str, least: int, most: int, default: int) -> int:
    """A whole number of a question. Raises ArgumentError for anything else."""
    value = given.get(name, default)
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = least - 1
    if isinstance(value, bool) or not least <= number <= most:
        raise ArgumentError(f"{name} must be a whole number from {least} to {most}.")
    return number


def one_of(given: dict[str, Any], name: str, choices: list[str], default: str) -> str:
    """A word of a question. Raises ArgumentError unless it is one of those."""
    value = given.get(name) or default
    if value not in choices:
        raise ArgumentError(f"no {name} '{str(value)[:60]}'; there are: {', '.join(choices)}.")
    return str(value)


def download(content: bytes, name: str, kind: str) -> Response:
    """A file to be saved. name: plain ASCII."""
    disposition = f'attachment; filename="{name}"'
    return Response(content, media_type=kind, headers={"Content-Disposition": disposition})
