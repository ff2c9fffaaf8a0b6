"""What can go wrong that a user can put right: one class a kind, one sentence a message."""


class CovisError(Exception):
    """A mistake in the input or the set-up. The message says what, where and what to do."""


class ImageError(CovisError):
    """A picture that cannot be used: missing, unreadable, damaged, empty, too large."""


class ArgumentError(CovisError):
    """An argument outside what the function takes."""


class BundleError(CovisError):
    """A model bundle or a weights file that is missing, damaged or of the wrong kind."""


class TrainingError(CovisError):
    """A training run that cannot start or go on."""
