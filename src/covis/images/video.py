"""Video files, read by OpenCV."""

from __future__ import annotations

import os

import cv2

from covis.errors import ImageError
from covis.quiet import quiet

_LISTS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"v=0", b"[playlist]")
"""How files begin that name others, which OpenCV would open, on the network as well."""


def open_video(path: str | os.PathLike[str]) -> cv2.VideoCapture:
    """Open a video file. Raises ImageError for anything else, and for lists of other files."""
    path = os.fspath(path)
    wrong = ImageError(f"{path} is no video that covis can read.")
    if not os.path.isfile(path):
        raise wrong
    try:
        with open(path, "rb") as file:
            begin = file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t")
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}.") from None
    if begin.startswith(_LISTS):
        raise wrong
    with quiet():
        video = cv2.VideoCapture(path)
    if not video.isOpened():
        raise wrong
    return video
