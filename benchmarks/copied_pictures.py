"""Material for finding copies: documents that share a template, and the ways a picture is copied.

Pictures are (h, w, 3) uint8, RGB, made by code from a seed; fonts are Pillow's own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Draw = PIL.ImageDraw.ImageDraw

SYLLABLES = ("ka", "lo", "mer", "ti", "sun", "va", "res", "pol", "en", "dri", "ma", "gu", "sta")
WHITE, INK, PALE, BLUE = (255, 255, 255), (25, 25, 30), (225, 228, 235), (40, 80, 160)


@cache
def font(size: int) -> PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont:
    return PIL.ImageFont.load_default(size)


def word(rng: np.random.Generator) -> str:
    return "".join(rng.choice(SYLLABLES, int(rng.integers(1, 4))))


def words(rng: np.random.Generator, count: int) -> str:
    return " ".join(word(rng) for _ in range(count)).capitalize()


def number(rng: np.random.Generator, digits: int) -> str:
    return "".join(map(str, rng.integers(0, 10, digits)))


def lines(
    draw: Draw, rng: np.random.Generator, x: int, y: int, count: int, length: int, size: int = 17
) -> None:
    for row in range(count):
        draw.text((x, y + row * int(1.5 * size)), words(rng, length), INK, font(size))


def blotches(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Soft patches of colour: a face or a photo, as far as anybody looks."""
    coarse = rng.integers(20, 236, (max(3, height // 24), max(3, width // 24), 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def paste(page: PIL.Image.Image, pixels: Pixels, x: int, y: int) -> None:
    page.paste(PIL.Image.fromarray(pixels), (x, y))


def text(page: PIL.Image.Image, draw: Draw, rng: np.random.Generator) -> None:
    for top in range(60, 840, 200):
        lines(draw, rng, 60, top, 6, 9)
    draw.text((310, 870), number(rng, 2), INK, font(15))


def letter(page: PIL.Image.Image, draw: Draw, rng: np.random.Generator) -> None:
    draw.rectangle((60, 50, 130, 100), BLUE)
    draw.text((145, 60), "Northern Water Works", BLUE, font(28))
    draw.line((60, 115, 580, 115), BLUE, 2)
    lines(draw, rng, 60, 150, 3, 3)
    draw.text((60, 260), "Dear customer,", INK, font(17))
    lines(draw, rng, 60, 300, 12, 8)
    draw.text((60, 640), "Yours sincerely,", INK, font(17))
    draw.text((60, 850), "Northern Water Works, 12 Mill Lane, account 4411 2290", INK, font(13))


def slide(page: PIL.Image.Image, draw: Draw, rng: np.random.Generator) -> None:
    draw.rectangle((0, 0, 960, 90), BLUE)
    draw.text((40, 25), words(rng, 3), WHITE, font(36))
    for row in range(4):
        draw.ellipse((60, 160 + 80 * row, 72, 172 + 80 * row), BLUE)
        draw.text((95, 150 + 80 * row), words(rng, int(rng.integers(4, 7))), INK, font(26))
    draw.text((40, 505), "Annual meeting of the society", BLUE, font(16))
    draw.text((900, 505), number(rng, 2), BLUE, font(16))


FIELDS = (
    "Name",
    "First name",
    "Street",
    "Town",
    "Date of birth",
    "Telephone",
    "Account",
    "Remarks",
)


def form(page: PIL.Image.Image, draw: Draw, rng: np.random.Generator) -> None:
    draw.text((60, 40), "Application for a parking permit", INK, font(28))
    draw.text((60, 85), "Please fill in all fields in block letters. Form 17-B.", INK, font(15))
    for row, field in enumerate(FIELDS):
        top = 130 + 75 * row
        draw.text((60, top), field, INK, font(16))
        draw.rectangle((200, top - 8, 580, top + 36), None, INK, 2)
        draw.text((212, top), word(rng).upper(), BLUE, font(22))
    for row in range(5):
        draw.rectangle((60, 740 + 26 * row, 76, 756 + 26 * row), None, INK, 2)
        draw.text(
            (90, 738 + 26 * row), f"I agree to paragraph {row + 3} of the terms", INK, font(15)
        )


def card(page: PIL.Image.Image, draw: Draw, rng: np.random.Generator) -> None:
    paste(page, blotches(np.random.default_rng(7), 400, 640) // 6 + 210, 0, 0)
    draw.text((40, 25), "STATE LIBRARY  -  READER'S CARD", BLUE, font(28))
    for wave in range(12):
        draw.arc((-100 + 60 * wave, 80, 400 + 60 * wave, 480), 200, 340, (180, 190, 215), 2)
    paste(page, blotches(rng, 190, 150), 40, 110)
    for row, field in enumerate(("Surname", "Given name", "Born", "Valid until", "No.")):
        draw.text((225, 110 + 48 * row), field, BLUE, font(13))
        value = number(rng, 8) if row > 1 else word(rng).upper()
        draw.text((225, 126 + 48 * row), value, INK, font(22))


def receipt(page: PIL.Image.Image, draw: Draw, rng: np.random.Generator) -> None:
    draw.text((70, 30), "CORNER SHOP", INK, font(32))
    draw.text((60, 75), "Market Square 4, open 8 to 20", INK, font(15))
    draw.line((30, 105, 330, 105), INK, 1)
    for row in range(10):
        draw.text((30, 125 + 32 * row), word(rng), INK, font(18))
        draw.text((270, 125 + 32 * row), f"{number(rng, 1)}.{number(rng, 2)}", INK, font(18))
    draw.line((30, 455, 330, 455), INK, 1)
    draw.text((30, 470), "TOTAL", INK, font(24))
    draw.text((245, 470), f"{number(rng, 2)}.{number(rng, 2)}", INK, font(24))
    draw.text((60, 525), "Thank you for your visit!", INK, font(16))
    draw.text((30, 560), f"Date {number(rng, 8)}  Till {number(rng, 3)}", INK, font(14))


def browser(page: PIL.Image.Image, draw: Draw, rng: np.random.Generator) -> None:
    draw.rectangle((0, 0, 1100, 78), PALE)
    for tab, name in enumerate(("Mail", "News", "Weather", "Calendar")):
        draw.rounded_rectangle((12 + 160 * tab, 6, 164 + 160 * tab, 40), 8, WHITE, INK)
        draw.text((26 + 160 * tab, 13), name, INK, font(15))
    draw.rounded_rectangle((120, 44, 960, 72), 14, WHITE, INK)
    draw.text((20, 46), "<  >  C", INK, font(20))
    for icon in range(5):
        draw.ellipse((975 + 24 * icon, 50, 991 + 24 * icon, 66), BLUE)
    kind = int(rng.integers(3))
    draw.text((60, 110), words(rng, 4), INK, font(32))
    if kind == 0:
        lines(draw, rng, 60, 180, int(rng.integers(3, 18)), 11)
    elif kind == 1:
        paste(page, blotches(rng, 260, 420), 60, 180)
        lines(draw, rng, 520, 180, 8, 6)
    else:
        for row in range(3):
            draw.text((60, 190 + 90 * row), words(rng, 4), BLUE, font(21))
            lines(draw, rng, 60, 222 + 90 * row, 2, 9, 14)


def phone(page: PIL.Image.Image, draw: Draw, rng: np.random.Generator) -> None:
    draw.text((20, 8), f"{number(rng, 2)}:{number(rng, 2)}", INK, font(18))
    draw.text((300, 8), "4G  |||  87%", INK, font(16))
    draw.text((20, 45), "Albums", INK, font(32))
    for row in range(4):
        for column in range(3):
            paste(page, blotches(rng, 125, 125), 15 + 140 * column, 100 + 155 * row)
            left = 15 + 140 * column
            draw.text((left, 228 + 155 * row), word(rng), INK, font(14))
    draw.rectangle((0, 745, 440, 800), PALE)
    for place, name in enumerate(("Photos", "Search", "Albums", "Shared")):
        draw.text((25 + 105 * place, 762), name, BLUE, font(17))


DOCUMENTS: dict[str, tuple[tuple[int, int], Callable[..., None]]] = {
    "text": ((640, 900), text),
    "letter": ((640, 900), letter),
    "slide": ((960, 540), slide),
    "form": ((640, 900), form),
    "card": ((640, 400), card),
    "receipt": ((360, 600), receipt),
    "browser": ((1100, 700), browser),
    "phone": ((440, 800), phone),
}
"""The sizes (width, height) of documents, and what draws their template and their own words."""


def document(kind: str, seed: int) -> Pixels:
    """One of `DOCUMENTS`; each seed has words of its own on the one template."""
    size, fill = DOCUMENTS[kind]
    page = PIL.Image.new("RGB", size, WHITE)
    fill(page, PIL.ImageDraw.Draw(page), np.random.default_rng([seed, len(kind)]))
    return np.asarray(page)


def shrunk(picture: Pixels, across: float, down: float | None = None) -> Pixels:
    height, width = picture.shape[:2]
    size = max(1, round(width * across)), max(1, round(height * (down or across)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def cropped(picture: Pixels, left: float, top: float, right: float, bottom: float) -> Pixels:
    """The part between shares of the width and of the height."""
    height, width = picture.shape[:2]
    rows = slice(round(top * height), round(bottom * height))
    return np.ascontiguousarray(picture[rows, round(left * width) : round(right * width)])


def turned(picture: Pixels, degrees: float) -> Pixels:
    """Turned about its middle, the corners black."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height)), np.uint8)


def bordered(picture: Pixels, across: float, down: float, colour: int) -> Pixels:
    """With bars left and right, above and below, in shares of the sides."""
    height, width = picture.shape[:2]
    x, y = round(across * width), round(down * height)
    fill = (colour, colour, colour)
    return np.asarray(
        cv2.copyMakeBorder(picture, y, y, x, x, cv2.BORDER_CONSTANT, value=fill), np.uint8
    )


def written_over(picture: Pixels) -> Pixels:
    """Two lines of large letters, white with a dark edge."""
    page = PIL.Image.fromarray(picture)
    draw, size = PIL.ImageDraw.Draw(page), max(12, picture.shape[1] // 11)
    for share, line in ((0.05, "WHEN YOU LOOK"), (0.82, "AND IT IS MONDAY")):
        place = picture.shape[1] // 2, round(share * picture.shape[0])
        draw.text(
            place, line, WHITE, font(size), anchor="ma", stroke_width=size // 12, stroke_fill=INK
        )
    return np.asarray(page)


def contrasted(picture: Pixels) -> Pixels:
    return np.clip(1.4 * (picture.astype(np.float32) - 110) + 120, 0, 255).astype(np.uint8)


def grey(picture: Pixels) -> Pixels:
    return np.asarray(cv2.cvtColor(cv2.cvtColor(picture, 7), 8), np.uint8)


def jpeg(picture: Pixels, quality: int) -> Pixels:
    _, data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1], np.uint8)


COPIES: dict[str, Callable[[Pixels], Pixels]] = {
    "half": lambda p: shrunk(p, 0.5),
    "quarter": lambda p: shrunk(p, 0.25),
    "160 px": lambda p: shrunk(p, 160 / max(p.shape)),
    "JPEG 12": lambda p: jpeg(p, 12),
    "blurred": lambda p: np.asarray(cv2.GaussianBlur(p, (0, 0), 2), np.uint8),
    "grey": grey,
    "contrast": contrasted,
    "10 % cropped": lambda p: cropped(p, 0.02, 0.06, 0.96, 0.96),
    "14 % cropped": lambda p: cropped(p, 0.07, 0.07, 0.93, 0.93),
    "cropped and halved": lambda p: shrunk(cropped(p, 0.1, 0.15, 0.9, 0.95), 0.5),
    "bordered": lambda p: bordered(p, 0.05, 0.05, 255),
    "letterbox": lambda p: bordered(p, 0, 0.25, 0),
    "stretched": lambda p: shrunk(p, 0.7, 0.9),
    "turned 10": lambda p: turned(p, 10),
    "turned 90": lambda p: np.ascontiguousarray(np.rot90(p, 3)),
    "turned 180": lambda p: np.ascontiguousarray(p[::-1, ::-1]),
    "mirrored": lambda p: np.ascontiguousarray(p[:, ::-1]),
    "mirrored and cropped": lambda p: np.ascontiguousarray(
        cropped(p, 0.07, 0.07, 0.93, 0.93)[:, ::-1]
    ),
    "left half": lambda p: cropped(p, 0, 0, 0.5, 1),
    "centre half": lambda p: cropped(p, 0.25, 0.25, 0.75, 0.75),
    "text over it": written_over,
}
