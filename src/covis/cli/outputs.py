"""Where commands write: never over what they read."""

from __future__ import annotations

import os
from pathlib import Path

from covis.errors import ArgumentError


def check_output(output: Path, *inputs: Path | None) -> None:
    """Raise ArgumentError where writing to `output` would change an input.

    inputs: files, and folders, of which no file is written over either. None is for an option
        that was not given.
    """
    if not output.exists():
        return
    for given in inputs:
        if given is None or not given.exists():
            continue
        if output.samefile(given) or (given.is_dir() and _lies_in(output, given)):
            raise ArgumentError(
                f"{output} is read by this command, and must not be written over; name another "
                "place for the output."
            )


def check_drawing(output: Path | None, *inputs: Path | None) -> None:
    """The same for a picture that is to be drawn, if any.

    Raises ImageError where no picture can be written as well.
    """
    if output is None:
        return
    from covis.draw.canvas import check_drawable

    check_output(output, *inputs)
    check_drawable(output)


def _lies_in(output: Path, folder: Path) -> bool:
    """Whether an existing file, links followed, is in a folder at any depth."""
    return output.is_file() and Path(os.path.realpath(folder)) in output.resolve().parents
