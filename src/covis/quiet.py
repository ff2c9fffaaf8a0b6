"""No words of C libraries between those of a program."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from covis.messages import without_controls

_OUTPUT, _ERRORS = 1, 2
"""The descriptors that C libraries print to."""


class _Plain(io.TextIOWrapper):
    """Prints lines, in which names of files can neither move the cursor nor be no text."""

    def write(self, text: str) -> int:
        return super().write(without_controls(text))


def own_streams() -> None:
    """Let Python's stdout take any file's name, and its stderr print through a descriptor of its
    own, to the same place, so that `quiet` can close the other one's mouth. Does nothing where
    they are not the process' first ones."""
    with suppress(OSError, ValueError, AttributeError):
        if sys.stdout.fileno() == _OUTPUT:
            plain = _Plain(
                sys.stdout.buffer,
                encoding=sys.stdout.encoding,
                errors="backslashreplace",
                line_buffering=sys.stdout.isatty(),
            )
            sys.stdout.flush()
            sys.stdout = plain
    with suppress(OSError, ValueError, AttributeError):
        if sys.stderr.fileno() == _ERRORS:
            sys.stderr = open(  # noqa: SIM115
                os.dup(_ERRORS),
                "w",
                buffering=1,
                encoding=sys.stderr.encoding,
                errors="backslashreplace",
            )


class _Mouth:
    """Descriptor 2, closed while any thread is at it."""

    def __init__(self) -> None:
        self._lock, self._inside, self._kept = threading.Lock(), 0, -1

    @contextmanager
    def closed(self) -> Iterator[None]:
        with self._lock:
            if not self._inside:
                self._kept = os.dup(_ERRORS)
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, _ERRORS)
                os.close(nothing)
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    os.dup2(self._kept, _ERRORS)
                    os.close(self._kept)


_mouth = _Mouth()


@contextmanager
def quiet(wanted: bool = True) -> Iterator[None]:
    """Inside, what C libraries print goes nowhere, once `own_streams` was called."""
    if not (wanted and _apart()):
        yield
        return
    with _mouth.closed():
        yield


def _apart() -> bool:
    try:
        return sys.stderr.fileno() != _ERRORS
    except (OSError, ValueError, AttributeError):
        return False
