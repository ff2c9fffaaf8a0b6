"""The command line. What is heavy is imported inside the commands, so that help is instant."""

from __future__ import annotations

import errno
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from covis import __version__
from covis.cli import (
    add,
    align,
    demo,
    dense,
    doctor,
    duplicates,
    eval,
    export,
    info,
    locate,
    map,
    match,
    match_many,
    remove,
    reproduce,
    search,
    train,
    verify,
    web,
    weights,
)
from covis.cli.commands import App
from covis.errors import CovisError, DeviceWarning
from covis.messages import one_line
from covis.quiet import own_streams


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


def _in_one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """A warning as it is printed: our own, which are for users, without a place in the code."""
    if issubclass(category, DeviceWarning):
        return f"covis: {one_line(str(message))}\n"
    return _FORMAT(message, category, filename, lineno, line)


_FORMAT = warnings.formatwarning


def _terminate(*_: object) -> None:
    raise Terminated


_UsageError = cast(type[Exception], typer.BadParameter.__bases__[0])
"""Of Typer's own library in newer releases, of Click in older ones."""


@contextmanager
def _mistakes_in_one_line() -> Iterator[None]:
    """Tells what the user can mend in one line, and exits."""
    try:
        yield
    except CovisError as error:
        raise _ends(str(error), 2) from None
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # Its message is the help.
            raise
        raise _ends(_said_of_usage(error), 2) from None
    except OSError as error:
        if error.errno == errno.EPIPE or error.filename is None:
            raise
        what = f"{error.filename}: {error.strerror}; check its rights and its disk."
        raise _ends(what, 2) from None
    except KeyboardInterrupt as stop:
        code = 143 if isinstance(stop, Terminated) else 130
        raise _ends("stopped; run it again to go on.", code) from None


def _ends(message: str, code: int) -> typer.Exit:
    """Tells what was wrong; what ends the program with an exit code."""
    typer.echo(f"covis: {one_line(message)}", err=True)
    return typer.Exit(code)


def _said_of_usage(error: Any) -> str:
    """What is wrong with a command line, and where to read how it should be."""
    # Newer releases of Typer put their library's own words first.
    error.message = error.message.removeprefix("Value error, ")
    words = " ".join(error.format_message().split()).removeprefix("Invalid value: ")
    if not words.endswith((".", "?")):
        words += "."
    command = error.ctx.command_path if error.ctx is not None else "covis"
    return f"{words[:1].lower()}{words[1:]} See {command} --help."


class _Group(TyperGroup):
    """Tells mistakes of the user in one line, and lets nobody else print."""

    def main(self, *args: Any, **options: Any) -> Any:
        own_streams()
        if not sys.warnoptions:
            warnings.filterwarnings("ignore", module=r"PIL\.")  # On damaged files.
        warnings.formatwarning = _in_one_line
        with suppress(ValueError):  # Outside the main thread.
            signal.signal(signal.SIGTERM, _terminate)
        return super().main(*args, **options)

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _mistakes_in_one_line():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with _mistakes_in_one_line():
            return super().invoke(ctx)


app = App(
    name="covis",
    cls=_Group,
    help="Find, match and search what images have in common.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Rich would triple the time that help takes.
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"covis {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


app.command("match")(match.command)
app.command("align")(align.command)
app.command("match-many")(match_many.command)
app.command("add")(add.command)
app.command("search")(search.command)
app.command("duplicates")(duplicates.command)
app.command("remove")(remove.command)
app.command("info")(info.command)
app.command("verify")(verify.command)
app.command("map")(map.command)
app.command("locate")(locate.command)
app.command("web")(web.command)
app.command("demo")(demo.command)
app.command("eval")(eval.command)
app.command("reproduce")(reproduce.command)
app.command("doctor")(doctor.command)
app.add_typer(dense.app, name="dense")
app.add_typer(weights.app, name="weights")
app.add_typer(export.app, name="export")
app.add_typer(train.app, name="train")

__all__ = ["app"]
