"""The server: its addresses, its start and its end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import secrets
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from covis.errors import CovisError
from covis.options import DEFAULT_DEVICE, Device
from covis.web import dense_page, duplicates_page, map_page, match_page, search_page
from covis.web.access import Access
from covis.web.described import Described
from covis.web.guard import LOOPBACK, Door, Guard
from covis.web.jobs import Jobs
from covis.web.maps import Maps
from covis.web.recent import recent, remember
from covis.web.shown import SIZES, Shrunk
from covis.web.site import Answer, Site, answered, as_json, cancel, refused, whole
from covis.web.sources import Sources

STATIC = Path(__file__).parent / "static"
PORT = 8470
"""Unless another is asked for; where it is taken, the next free one."""
TRIED = 20
NEWS = 20.0
"""Seconds that a question for news of a job waits at most."""
M_ARENA_MAX, M_MMAP_THRESHOLD = -8, -3
"""Of glibc's mallopt."""

ANSWERS: dict[str, tuple[str, Answer]] = {
    "/api/sources": ("GET", search_page.stores),
    "/api/pictures": ("GET", search_page.pictures),
    "/api/size": ("GET", match_page.size),
    "/api/options": ("GET", match_page.options),
    "/api/demo": ("POST", match_page.demo),
    "/api/match": ("POST", match_page.start),
    "/api/match/{job}/alignment": ("GET", match_page.alignment),
    "/api/match/{job}/overlay": ("GET", match_page.overlay),
    "/api/match/{job}/{name}": ("GET", match_page.file),
    "/api/search": ("POST", search_page.search),
    "/api/search/ready": ("POST", search_page.prepare),
    "/api/search/{job}/{hit}": ("GET", search_page.lines),
    "/api/stores/{store}": ("GET", search_page.info),
    "/api/stores/{store}/add": ("POST", search_page.add),
    "/api/stores/{store}/verify": ("POST", search_page.verify),
    "/api/stores/{store}/remove": ("POST", search_page.remove),
    "/api/folder": ("POST", search_page.folder),
    "/api/stores/{store}/duplicates": ("POST", duplicates_page.start),
    "/api/duplicates/{job}/list": ("POST", duplicates_page.listed),
    "/api/duplicates/{job}/move": ("POST", duplicates_page.move),
    "/api/duplicates/{job}/undo": ("POST", duplicates_page.undo),
    "/api/maps": ("GET", map_page.listed),
    "/api/maps/{map}": ("GET", map_page.scene),
    "/api/maps/{map}/points": ("GET", map_page.points),
    "/api/maps/{map}/photos/{photo}": ("GET", map_page.photo),
    "/api/maps/{map}/pairs/{photo0}/{photo1}": ("GET", map_page.pair),
    "/api/maps/{map}/locate": ("POST", map_page.locate),
    "/api/maps/{map}/export/{kind}": ("GET", map_page.export),
    "/api/dense/options": ("GET", dense_page.options),
    "/api/dense/frame": ("GET", dense_page.frame),
    "/api/dense/places": ("POST", dense_page.describe),
    "/api/dense/places/{job}": ("POST", dense_page.place),
    "/api/dense/places/{job}/heat": ("GET", dense_page.heat),
    "/api/dense/masks": ("POST", dense_page.carry),
    "/api/dense/masks/{job}/{frame}": ("GET", dense_page.drawn),
    "/api/dense/files/{job}": ("GET", dense_page.files),
    "/api/jobs/{job}/cancel": ("POST", cancel),
}


def make_app(site: Site, door: Door) -> ASGIApp:
    """All addresses, behind the guard."""
    routes: list[Route | Mount] = [
        Route("/", _page),
        Route("/api/upload", _upload(site), methods=["POST"]),
        Route("/api/jobs/{job}", _news(site)),
        Route("/pictures/{picture}", _shown(site)),
        *(
            Route(path, answered(site, answer), methods=[method])
            for path, (method, answer) in ANSWERS.items()
        ),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, door=door)])


def serve(
    given: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    opened: Callable[[Door], None] = lambda _: None,
    device: Device = DEFAULT_DEVICE,
) -> bool:
    """Serve the page until SIGINT or SIGTERM. Returns whether all work has ended: threads that are
    still at it would abort a process that ends in the usual way.

    given: stores, maps, folders and pictures; without any the stores of last time. host: an address
    of this machine to listen on. port: None for `PORT` or the next that is free. opened: called
    with the address once it answers. device: see `RuntimeOptions`.

    Raises ArgumentError for what was given and is not there, CovisError for an address that
    cannot be had.
    """
    _share_heaps()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="covis-web-"))
        access = Access(Path(folder))
        sources = Sources(offered(given, host), access, device)
        remember(source.uri for source in sources.all if source.kind == "store")
        if any(source.kind == "map" for source in sources.all):
            # Imported later, it would take SIGTERM from the server, which then could not clean up.
            from covis.sfm.map import need_pycolmap

            with contextlib.suppress(CovisError):
                need_pycolmap()
        maps, described = Maps(sources), Described(device)
        site = Site(access, sources, Jobs(), Shrunk(), maps, described, host in LOOPBACK, device)
        bound = stack.enter_context(_bound(host, port))
        token = None if host in LOOPBACK else secrets.token_urlsafe(24)
        door = Door(host, bound.getsockname()[1], token)
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        settings = uvicorn.Config(
            make_app(site, door), log_config=None, access_log=False, ws="none",
            server_header=False, timeout_graceful_shutdown=1, lifespan="off",
        )  # fmt: skip
        server = uvicorn.Server(settings)
        bound.listen(128)  # From here on who asks waits, and is answered.
        opened(door)
        warming = threading.Thread(target=_warm, daemon=True)
        warming.start()
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[bound])
        return site.jobs.close() and not warming.is_alive()


def offered(given: Sequence[str], host: str) -> Sequence[str]:
    """What the page may read: what was given, else, on this machine only, stores of last time."""
    return given or (recent() if host in LOOPBACK else [])


def _bound(host: str, port: int | None) -> socket.socket:
    """A socket at that address. Raises CovisError where it cannot be had."""
    error: OSError | None = None
    for number in [port] if port is not None else [*range(PORT, PORT + TRIED), 0]:
        try:
            family, kind, proto, _, address = socket.getaddrinfo(
                host, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            bound = socket.socket(family, kind, proto)
        except OSError as problem:
            raise CovisError(f"{host}: no such address ({problem.strerror}).") from None
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError as problem:
            bound.close()
            error = problem
            continue
        return bound
    why = error.strerror if error else "none is free"
    raise CovisError(f"cannot listen on {host}, port {port}: {why}; name another --port.")


def _share_heaps() -> None:
    """Have all threads take memory from two places: in one for each, which glibc would make, what
    is free stays out of the others' reach, some 100 MB of it. Large pieces go back at once."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_ARENA_MAX, 2)
        libc.mallopt(M_MMAP_THRESHOLD, 4_000_000)


def _warm() -> None:
    """Import what the first match needs, while the page is being looked at."""
    with contextlib.suppress(CovisError):
        from covis.api import open_pipeline
        from covis.options import MatchOptions

        match_page.choices()
        open_pipeline(MatchOptions())


async def _page(_: Request) -> Response:
    return Response((STATIC / "index.html").read_bytes(), media_type="text/html")


def _upload(site: Site) -> Callable[[Request], object]:
    async def upload(request: Request) -> Response:
        length = request.headers.get("content-length", "")
        announced = int(length) if length.isdigit() else None
        name = request.query_params.get("name", "")
        try:
            picture = await site.access.upload(name, announced, request.stream())
            try:
                width, height = await run_in_threadpool(site.shrunk.size, picture)
            except CovisError:
                site.access.forget(picture)
                raise
        except CovisError as error:
            return refused(error)
        told = {"id": picture.id, "name": picture.name, "width": width, "height": height}
        return as_json(told)

    return upload


def _shown(site: Site) -> Callable[[Request], object]:
    async def shown(request: Request) -> Response:
        try:
            picture = site.access.picture(request.path_params["picture"])
            size = whole(dict(request.query_params), "size", 1, 100_000, SIZES[0])
            content = await run_in_threadpool(site.shrunk.jpeg, picture, size)
        except CovisError as error:
            return refused(error)
        # An id stands for a file as it is: another content has another.
        headers = {"Cache-Control": "private, max-age=3600, immutable"}
        return Response(content, media_type="image/jpeg", headers=headers)

    return shown


def _news(site: Site) -> Callable[[Request], object]:
    async def news(request: Request) -> Response:
        """A job once it has changed since the version that the page knows."""
        try:
            job = site.job(dict(request.path_params))
            after = whole(dict(request.query_params), "after", -1, 10**9, -1)
        except CovisError as error:
            return refused(error)
        changed, loop = asyncio.Event(), asyncio.get_running_loop()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # The server has ended.
                loop.call_soon_threadsafe(changed.set)

        with job.heard(wake):
            if job.version == after and not job.over:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), NEWS)
        return as_json(job.to_dict())

    return news
