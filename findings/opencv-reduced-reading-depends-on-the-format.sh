#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: IMREAD_REDUCED_* gives another size and another picture for PNG,
#   TIFF, BMP, WebP and AVIF than for JPEG.
#
# Expected: the same picture, reduced by 2, 4 or 8 in the same way, whatever file it lies in; "the
#   image size reduced" is all that the flags' documentation says.
# Seen: only JPEG is reduced while it is decoded: sides are rounded up, and each pixel is the mean of
#   those it stands for. All others are decoded whole and then sampled by two pixels a side, sides
#   rounded down: of 641x481 one has 321x241 and the others 320x240 pixels (so what is measured in
#   them lies up to a pixel apart after scaling back), one white column in every eight is an eighth
#   of white in a JPEG by 8, and gone in a PNG, and 5x5 pixels by 8 are one pixel or an exception.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet opencv-python-headless==5.0.0.93 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import cv2
import numpy as np


def reduced(picture, ending, flag):
    return cv2.imdecode(cv2.imencode(ending, picture)[1], flag)


by2, by8 = cv2.IMREAD_REDUCED_GRAYSCALE_2, cv2.IMREAD_REDUCED_GRAYSCALE_8
plain = np.full((481, 641), 90, np.uint8)
stripes = np.zeros((480, 640), np.uint8)
stripes[:, ::8] = 255
small = np.full((5, 5), 90, np.uint8)
for ending in (".jpg", ".png", ".tiff", ".bmp", ".webp", ".avif"):
    height, width = reduced(plain, ending, by2).shape
    mean = reduced(stripes, ending, by8).mean()
    try:
        least = reduced(small, ending, by8).shape
    except cv2.error as error:
        least = error.err
    print(f"{ending}: {width}x{height}, stripes by 8 have a mean of {mean:.1f}, 5x5 by 8: {least}")
    jpeg = ending == ".jpg"
    assert (width, height) == ((321, 241) if jpeg else (320, 240))
    assert (25 < mean < 40) if jpeg else mean < 5
    assert (least == (1, 1)) == jpeg
PYTHON
