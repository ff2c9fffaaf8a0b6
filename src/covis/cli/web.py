"""`covis web`: the page."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from covis.cli import options
from covis.errors import CovisError
from covis.messages import extra
from covis.options import Device as DeviceName

if TYPE_CHECKING:
    from covis.web.guard import Door


def command(
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STORE|MODEL|FOLDER|PICTURE",
            help="What the page may read: stores, maps, folders of photos, and pictures.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, metavar="N", help="Where to listen.", show_default="8470, or near it"
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Of this machine, to be reached from others; 0.0.0.0 for all. Then who opens the "
            "page needs the token in the address that is printed.",
        ),
    ] = "127.0.0.1",
    no_open: Annotated[
        bool, options.flag("--no-open", "Print the address only, open no browser.")
    ] = False,
    device: options.Device = options.DEFAULT_DEVICE,
) -> None:
    """Open a page in the browser: match, search, duplicates, maps, dense features.

    Only what is given here, and what is dropped on the page, can be read; a map's photos where they
    lie in a folder that is given, too. Ctrl-C ends it.
    """
    open_page(given or [], host=host, port=port, no_open=no_open, device=device)


def open_page(
    given: list[str],
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    no_open: bool = False,
    at: str = "",
    device: DeviceName = options.DEFAULT_DEVICE,
) -> None:
    """Serve the page until Ctrl-C. at: the part of it to open first, from # on.

    Raises CovisError as `serve` does, and where the extra is missing.
    """
    try:
        from covis.web.server import serve
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        needs = f"this needs {error.name}, which is missing: {extra('web')}"
        raise CovisError(needs) from None

    def opened(door: Door) -> None:
        typer.echo(f"covis is at {door.url}{at}  (Ctrl-C ends it)")
        if not no_open:
            import webbrowser

            with suppress(webbrowser.Error):
                webbrowser.open(door.url + at)

    if not serve(given, host=host, port=port, opened=opened, device=device):
        sys.stdout.flush()
        os._exit(0)  # What is written is safe at any moment, as in a kill.
