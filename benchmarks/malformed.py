"""Malformed, odd and huge picture files through match, add and map: each a result or one line.

The files are made from a seed, of pictures drawn by code. For every stage it prints how many gave
a result, how many one line, what went wrong, the most memory (MB) and the slowest file (seconds of
processor time).

    python benchmarks/malformed.py
    python benchmarks/malformed.py --stages match --count 100 --seed 3
"""

from __future__ import annotations

import argparse
import io
import re
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
STAGES = ("match", "add", "map")
MEMORY, SECONDS = 1000, 10.0
SIDE = 17_000
"""Of the huge ones: within the limit on pixels."""


@dataclass(frozen=True)
class Case:
    """A file's name, its bytes (or what writes it), and whether it must be read."""

    name: str
    content: bytes | Callable[[Path], None]
    good: bool = False


def drawn(rng: np.random.Generator, height: int = 240, width: int = 320) -> Pixels:
    """Blobs of several sizes, in colour."""
    picture = np.zeros((height, width, 3), np.float32)
    for size in (5, 12, 40):
        noise = rng.random((height // size + 2, width // size + 2, 3), np.float32)
        picture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(picture / 3 * 255, 0, 255).astype(np.uint8)


def encoded(pixels: NDArray[Any], kind: str, mode: str = "", **options: Any) -> bytes:
    """A file's bytes, as Pillow writes them."""
    picture, file = PIL.Image.fromarray(pixels), io.BytesIO()
    if kind == "GIF" and not mode and picture.mode == "RGB":
        mode = "P"  # Pillow would look two seconds for the best palette.
    (picture.convert(mode) if mode else picture).save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, depth: int, colour: int, data: bytes, *more: bytes) -> bytes:
    """A PNG of those chunks; data is what its IDAT holds."""
    header = width.to_bytes(4) + height.to_bytes(4) + bytes([depth, colour, 0, 0, 0])
    chunks = [b"IHDR" + header, *more, b"IDAT" + data, b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (len(c) - 4).to_bytes(4) + c + zlib.crc32(c).to_bytes(4) for c in chunks
    )


def zeros(count: int) -> bytes:
    """So many zeros, deflated."""
    deflate = zlib.compressobj(1)
    block = bytes(1 << 20)
    parts = [deflate.compress(block) for _ in range(count >> 20)]
    return b"".join([*parts, deflate.compress(bytes(count & 0xFFFFF)), deflate.flush()])


def jpeg_sized(content: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header claims another size."""
    at = next(m.start() for m in re.finditer(rb"\xff[\xc0-\xc2]\x00\x11", content, re.DOTALL))
    size = height.to_bytes(2) + width.to_bytes(2)
    return content[: at + 5] + size + content[at + 9 :]


def many_scans(content: bytes, scans: int) -> bytes:
    """A progressive JPEG with its last scan over and over."""
    at = content.rindex(b"\xff\xda")
    return content[:-2] + content[at:-2] * scans + b"\xff\xd9"


def sparse(head: bytes, size: int) -> Callable[[Path], None]:
    """A file that begins so and has holes up to its size."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(head)
            file.truncate(size)

    return write


def valid(rng: np.random.Generator) -> Iterator[Case]:
    """What must be read, however odd it is."""
    a = drawn(rng)
    grey, deep = a[:, :, 0], a[:, :, 0].astype(np.uint16)
    for kind, suffix, modes in (
        ("JPEG", "jpg", ("RGB", "L", "CMYK")), ("PNG", "png", ("RGB", "L", "RGBA", "LA", "P", "1")),
        ("TIFF", "tif", ("RGB", "L", "CMYK", "RGBA", "LAB")), ("WEBP", "webp", ("RGB", "RGBA")),
        ("BMP", "bmp", ("RGB", "L")), ("GIF", "gif", ("P", "L")), ("PPM", "ppm", ("RGB", "L")),
        ("TGA", "tga", ("RGB", "L", "RGBA")), ("JPEG2000", "jp2", ("RGB", "L")),
    ):  # fmt: skip
        for mode in modes:
            yield Case(f"good-{mode}.{suffix}", encoded(a, kind, mode), True)
    for name, options in (
        ("progressive.jpg", {"progressive": True}), ("best.jpg", {"quality": 100}),
        ("444.jpg", {"subsampling": 0}), ("worst.jpg", {"quality": 3}),
        ("restarts.jpg", {"restart_marker_rows": 1}), ("comment.jpg", {"comment": b"x" * 60_000}),
    ):  # fmt: skip
        yield Case(name, encoded(a, "JPEG", **options), True)
    for kind in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        yield Case(f"{kind}.tif", encoded(a, "TIFF", compression=kind), True)
    yield Case("eight-in-sixteen.png", encoded(deep, "PNG"), True)
    yield Case("ten-in-sixteen.tif", encoded(deep * 4, "TIFF"), True)
    yield Case("sixteen.tif", encoded(deep * 257, "TIFF"), True)
    yield Case("int32.tif", encoded(grey.astype(np.int32), "TIFF"), True)
    yield Case("float.tif", encoded(grey.astype(np.float32) / np.float32(254.9999), "TIFF"), True)
    whole = encoded(a, "PNG")
    exif = b"eXIf" + rng.bytes(40)
    broken = exif[4:].join([(40).to_bytes(4) + b"eXIf", zlib.crc32(exif).to_bytes(4)])
    yield Case("broken-exif.png", whole[:33] + broken + whole[33:], True)
    yield Case("broken-exif.jpg", encoded(a, "JPEG", exif=b"Exif\0\0" + rng.bytes(80)), True)
    yield Case("wrong-name.png", encoded(a, "JPEG"), True)
    yield Case("bytes-after.jpg", encoded(a, "JPEG") + rng.bytes(9000), True)
    yield Case("bytes-after.png", whole + rng.bytes(9000), True)
    frames = [PIL.Image.fromarray(drawn(rng)) for _ in range(4)]
    for kind, suffix in (("GIF", "gif"), ("TIFF", "tif"), ("WEBP", "webp"), ("PNG", "apng")):
        more = [frame.convert("P") for frame in frames] if kind == "GIF" else frames
        options = {"save_all": True, "append_images": more}
        yield Case(f"frames.{suffix}", encoded(a, kind, **options), True)
    for width, height in ((1, 1), (1, 5000), (9000, 1), (7, 3), (3000, 8)):
        thin = cv2.resize(a, (width, height))
        for kind, suffix in (("PNG", "png"), ("JPEG", "jpg")):
            yield Case(f"{width}x{height}.{suffix}", encoded(thin, kind), True)


def huge(rng: np.random.Generator) -> Iterator[Case]:
    """What is large, or says so: valid within the limit, or a few bytes only."""
    a, n = drawn(rng), SIDE
    for colour, each, name in ((0, 1, "grey"), (2, 3, "rgb"), (6, 4, "rgba"), (3, 1, "palette")):
        palette = [b"PLTE" + bytes(range(48))] if colour == 3 else []
        whole = zeros(n * (n * each + 1))
        yield Case(f"whole-{name}.png", png(n, n, 8, colour, whole, *palette))
        yield Case(f"claims-{name}.png", png(n, n, 8, colour, zeros(5), *palette))
    yield Case("whole-bits.png", png(n, n, 1, 0, zeros(n * (n // 8 + 1))))
    yield Case("beyond.png", png(2**31 - 1, 2**31 - 1, 16, 6, zeros(5)))
    yield Case("wide.png", png(2**31 - 1, 1, 8, 0, zeros(5)))
    for name, options in (("base", {}), ("progressive", {"progressive": True})):
        small = encoded(a, "JPEG", **options)
        for width, height in ((n, n), (65_000, 4000), (65_535, 65_535)):
            yield Case(f"{name}-{width}.jpg", jpeg_sized(small, width, height))
    small = encoded(a, "JPEG", progressive=True)
    yield Case("scans.jpg", many_scans(jpeg_sized(small, 8000, 8000), 3000))
    yield Case("scans-small.jpg", many_scans(small, 20_000))
    yield Case("whole.jpg", encoded(np.zeros((12_000, n, 3), np.uint8), "JPEG"))
    yield Case(
        "whole-progressive.jpg", encoded(np.zeros((9000, n), np.uint8), "JPEG", progressive=1)
    )
    yield Case("whole.gif", encoded(np.zeros((9000, 9000), np.uint8), "GIF"))
    yield Case("whole.webp", encoded(np.zeros((6000, 6000, 3), np.uint8), "WEBP", method=0))
    yield Case("huge.webp", encoded(np.zeros((12_000, 12_000, 3), np.uint8), "WEBP", method=0))
    yield Case("whole.jp2", encoded(np.zeros((4000, 4000, 3), np.uint8), "JPEG2000"))
    flat = np.zeros((9000, 9000, 3), np.uint8)
    yield Case("whole-lzw.tif", encoded(flat, "TIFF", compression="tiff_lzw"))
    yield Case("one-strip.tif", encoded(flat, "TIFF", compression="tiff_lzw", strip_size=1 << 30))
    yield Case("whole-rle.tga", encoded(flat, "TGA", compression="tga_rle"))
    header = encoded(a, "TIFF", tiffinfo={})
    yield Case("claims.tif", header.replace((320).to_bytes(2, "little"), b"\xff\x3f"))
    bmp = encoded(a, "BMP")
    big = bmp[:18] + n.to_bytes(4, "little") * 2 + bmp[26:54]
    yield Case("claims.bmp", big)
    yield Case("sparse.bmp", sparse(big, n * n * 3 + 54))
    yield Case("sparse.ppm", sparse(b"P6 11000 11000 255\n", 363_000_019))
    yield Case("claims.ppm", b"P6 17000 17000 255\n")
    yield Case("plain.ppm", b"P3 5000 5000 255\n" + b"7 " * 6_000_000)
    yield Case("sparse.jpg", sparse(encoded(a, "JPEG")[:-2], 900_000_000))
    yield Case("beyond.jpg", sparse(encoded(a, "JPEG"), 30_000_000_000))
    gif = encoded(a, "GIF")
    yield Case("claims.gif", gif[:6] + n.to_bytes(2, "little") * 2 + gif[10:])
    bomb = b"zTXtcomment\0\0" + zeros(200_000_000)
    yield Case("text.png", png(8, 8, 8, 0, zeros(72), bomb))


def damaged(rng: np.random.Generator) -> Iterator[Case]:
    """Good files cut, with bytes changed, moved or repeated; without end."""
    kinds = (
        ("JPEG", "jpg", {}), ("JPEG", "jpg", {"progressive": True}), ("PNG", "png", {}),
        ("TIFF", "tif", {"compression": "tiff_lzw"}), ("TIFF", "tif", {}), ("WEBP", "webp", {}),
        ("BMP", "bmp", {}), ("GIF", "gif", {}), ("PPM", "ppm", {}), ("JPEG2000", "jp2", {}),
        ("TGA", "tga", {"compression": "tga_rle"}), ("PNG", "png", {"exif": b"Exif\0\0II*\0"}),
    )  # fmt: skip
    number = 0
    while True:
        for kind, suffix, options in kinds:
            content = bytearray(encoded(drawn(rng, 120, 160), kind, **options))
            way = ("cut", "head", "bytes", "zeros", "twice")[int(rng.integers(5))]
            at = int(rng.integers(len(content)))
            match way:
                case "cut":
                    del content[at:]
                case "head":  # Sizes, counts, offsets.
                    for place in rng.integers(4, min(200, len(content)), 4):
                        content[place] = rng.integers(256)
                case "bytes":
                    for place in rng.integers(0, len(content), 20):
                        content[place] = rng.integers(256)
                case "zeros":
                    content[at : at + 300] = bytes(300)
                case "twice":
                    content[at:at] = content[: at + 50]
            yield Case(f"{way}-{number}.{suffix}", bytes(content))
            number += 1


def cases(seed: int, count: int, with_huge: bool = True) -> list[Case]:
    """So many, each kind in turn until there are no more of it but damaged ones."""
    rng = np.random.default_rng(seed)
    found = [*valid(rng), *(huge(rng) if with_huge else [])]
    found += [
        Case("empty.jpg", b""), Case("text.jpg", b"hello, world\n" * 99),
        Case("zeros.png", bytes(999)),
        Case("page.tif", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        Case("page.jpg", b"%PDF-1.4\n"), Case("noise.webp", rng.bytes(5000)),
    ]  # fmt: skip
    found += [case for case, _ in zip(damaged(rng), range(count - len(found)), strict=False)]
    return found[:count]


def write(case: Case, folder: Path) -> Path:
    """The case as a file."""
    path = folder / case.name
    if isinstance(case.content, bytes):
        path.write_bytes(case.content)
    else:
        case.content(path)
    return path


ONE_BY_ONE = """
import re, sys, time, warnings
from pathlib import Path
import covis
from covis.quiet import own_streams
own_streams()
warnings.filterwarnings("ignore", module=r"PIL\\.")
from covis.images import load_image
folder, good = Path(sys.argv[1]), sys.argv[2]
covis.match(good, good, matcher="nearest")
for path in sorted(folder.iterdir()):
    Path("/proc/self/clear_refs").write_text("5")
    began = time.process_time()
    try:
        found = covis.match(path, good, matcher="nearest")
        what = "result"
    except covis.CovisError as error:
        what = "line" if "\\n" not in str(error) else "several lines: " + repr(str(error))
    except BaseException as error:
        what = "error: " + repr(error)
    took = time.process_time() - began
    peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
    print("case", path.name, int(peak) // 1024, round(took, 2), what, sep="\\t", flush=True)
"""


def through_match(folder: Path, found: list[Case], good: Path) -> list[str]:
    """Each file with a good picture, in one process; what is wrong, a line each."""
    command = [sys.executable, "-c", ONE_BY_ONE, str(folder), str(good)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = [line.split("\t")[1:] for line in done.stdout.splitlines() if line.startswith("case\t")]
    other = [line for line in done.stdout.splitlines() if not line.startswith("case\t")]
    wrong = [f"printed: {line}" for line in other + done.stderr.splitlines()]
    must = {case.name for case in found if case.good}
    for name, peak, took, what in rows:
        if what not in ("result", "line") or (name in must and what != "result"):
            wrong.append(f"{name}: {what}")
        if int(peak) > MEMORY or float(took) > SECONDS:
            wrong.append(f"{name}: {peak} MB, {took} s")
    if len(rows) < len(found):
        wrong.append(f"ended after {len(rows)} of {len(found)} files, exit code {done.returncode}")
    results = sum(row[3] == "result" for row in rows)
    most = max(rows, key=lambda row: int(row[1]))
    slowest = max(rows, key=lambda row: float(row[2]))
    print(f"match: {results} results, {len(rows) - results} lines; most memory {most[1]} MB")
    print(f"    ({most[0]}), slowest {slowest[2]} s ({slowest[0]})")
    return wrong


def through_command(stage: str, arguments: list[str], found: list[Case]) -> list[str]:
    """All files by one command; what is wrong, a line each."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = Path(tempfile.gettempdir()) / f"malformed-{stage}.txt"
    code = common.PEAK.replace("print(", f"print(file=open({str(peak)!r}, 'w'), *(").replace(
        '"MB")', '"MB"))'
    )
    code += "\nfrom covis.cli import app; app()"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    lines = done.stderr.splitlines()
    wrong = [f"printed: {line}" for line in lines if not line.startswith("covis: ")]
    told = " ".join(lines + done.stdout.splitlines())
    must = [case.name for case in found if case.good]
    wrong += [f"{name}: must be read" for name in must if f"/{name} " in told]
    held = int(peak.read_text().split()[1]) if peak.exists() else MEMORY + 1
    peak.unlink(missing_ok=True)
    if held > MEMORY:
        wrong.append(f"{held} MB")
    if done.returncode not in (0, 1):
        wrong.append(f"exit code {done.returncode}: {' '.join(lines[-1:])}")
    print(f"{stage}: {len(lines)} lines, exit code {done.returncode}, most memory {held} MB,")
    print(f"    {time.monotonic() - began:.0f} s, {cpu:.0f} s of processors")
    print("    " + (done.stdout.splitlines() or ["nothing printed"])[-1])
    return wrong


def run(arguments: argparse.Namespace) -> None:
    stages = common.names(arguments.stages)
    common.check_known("stage", stages, STAGES)
    found = cases(arguments.seed, arguments.count)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folder = root / "photos"
        folder.mkdir()
        for case in found:
            write(case, folder)
        good = root / "good.png"
        good.write_bytes(encoded(drawn(np.random.default_rng(0)), "PNG"))
        must = sum(case.good for case in found)
        print(f"{len(found)} files, {must} of them to be read")
        wrong: list[str] = []
        if "match" in stages:
            wrong += through_match(folder, found, good)
        if "add" in stages:
            wrong += through_command("add", ["add", str(folder), "--to", str(root / "s")], found)
        if "map" in stages:
            options = ["--pairs", "sequential", "--overlap", "1", "--max-size", "640"]
            wrong += through_command(
                "map", ["map", str(folder), "-o", str(root / "m"), *options], found
            )
    print(f"{len(wrong)} wrong", *wrong, sep="\n    ")


def main() -> int:
    options = common.parser(__doc__)
    options.add_argument("--stages", default=",".join(STAGES), help="which of them")
    options.add_argument("--count", type=int, default=400, help="files")
    options.add_argument("--seed", type=int, default=0, help="of the files")
    return common.main(run, options)


if __name__ == "__main__":
    sys.exit(main())
