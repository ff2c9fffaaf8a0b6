"""What can go wrong that a user can put right: one class a kind, one sentence a message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from covis.messages import extra


class CovisError(Exception):
    """A mistake in the input or the set-up. The message says what, where and what to do."""


class ImageError(CovisError):
    """A picture that cannot be used: missing, unreadable, damaged, empty, too large."""


class ArgumentError(CovisError):
    """An argument outside what the function takes."""


class BundleError(CovisError):
    """A model bundle or a weights file that is missing, damaged or of the wrong kind."""


class DeviceWarning(RuntimeWarning):
    """A device that was named and cannot be used; the processor takes its place."""


class TrainingError(CovisError):
    """A training run that cannot start or go on."""


_TRAIN_MODULES = ("torch", "onnx", "onnxscript", "safetensors")


@contextmanager
def needing_train_extra() -> Iterator[None]:
    """Raise CovisError where a module of the extra "train" is missing: how to install it.

    For a `with`, or as a decorator.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _TRAIN_MODULES:
            raise
        raise CovisError(f"this needs {error.name}, which is missing: {extra('train')}") from None
