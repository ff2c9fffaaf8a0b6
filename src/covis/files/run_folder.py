"""A folder that one process at a time writes results of one kind into, over several runs.

Its settings.json says what the results depend on; a later run must have the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from covis.errors import ArgumentError, CovisError
from covis.files.atomic import PARTIAL, replacing


@contextmanager
def run_folder(
    out: Path, settings: Mapping[str, Any], folders: Sequence[str], follows: Mapping[str, str]
) -> Iterator[None]:
    """Make the folder, or take one made with the same settings, for this process alone.

    settings: what the results depend on, ready for JSON. folders: made in it. follows: see
    `differences`. What a killed run left half written is deleted.

    Raises ArgumentError where it holds results of other settings or another process is at it,
    CovisError where it cannot be made or its settings are damaged.
    """
    try:
        for name in folders:
            (out / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CovisError(f"{out}: cannot make this folder ({error.strerror}).") from None
    with locked(out):
        path = out / "settings.json"
        if path.exists():
            _check_same(path, settings, follows)
        else:
            with replacing(path) as file:
                file.write((json.dumps(settings, indent=2) + "\n").encode())
        for partial in [*out.glob(f"*{PARTIAL}*"), *out.glob(f"*/*{PARTIAL}*")]:
            partial.unlink()
        yield


def _check_same(path: Path, settings: Mapping[str, Any], follows: Mapping[str, str]) -> None:
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CovisError(f"{path} is damaged ({error}); use another folder.") from None
    different = differences(before, settings, follows)
    if different:
        raise ArgumentError(
            f"{path.parent} holds matches made with other settings "
            f"({'; '.join(different)}). Use another folder, or the same settings."
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second process out; the lock goes with the process. Windows has no such lock.

    Raises ArgumentError where another process has it.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArgumentError(f"{folder}: another process is matching into it.") from None
        yield
    finally:
        os.close(handle)


def differences(
    then: Mapping[str, Any], now: Mapping[str, Any], follows: Mapping[str, str]
) -> list[str]:
    """What differs between two runs' settings, a phrase each.

    follows: settings that depend on another one, and are not worth a word where that differs.
    """

    def differ(name: str | None) -> bool:
        return name is not None and then.get(name) != now.get(name)

    def said(value: Any) -> str:
        return "none" if value in (None, "") else str(value)

    return [
        f"{name.replace('_', ' ')} {said(then.get(name))} then, {said(value)} now"
        for name, value in now.items()
        if differ(name) and not differ(follows.get(name))
    ]
