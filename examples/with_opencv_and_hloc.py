"""Features and matches for other programs: OpenCV's objects, and hloc's files for COLMAP:

python with_opencv_and_hloc.py a.jpg b.jpg out/
"""

import sys
from pathlib import Path

import cv2

import covis
from covis.convert import hloc, opencv


def main(photo0: Path, photo1: Path, out: Path) -> None:
    extract, match = covis.Extractor(max_keypoints=1024), covis.Matcher()
    features = {photo.name: extract(photo) for photo in (photo0, photo1)}
    features0, features1 = features.values()
    found = match(features0, features1)

    drawing = cv2.drawMatches(
        *(cv2.imread(str(photo0)), opencv.keypoints(features0)),
        *(cv2.imread(str(photo1)), opencv.keypoints(features1)),
        *(opencv.dmatches(found), None),
    )
    out.mkdir(exist_ok=True)
    cv2.imwrite(str(out / "matches.png"), drawing)

    pair = (photo0.name, photo1.name)
    hloc.write_features(out / "features.h5", features)
    hloc.write_matches(out / "matches.h5", {pair: found}, features)
    hloc.write_pairs(out / "pairs.txt", [pair])
    again = hloc.read_matches(out / "matches.h5", [pair], features)[pair]
    print(f"{len(again)} matches of {' and '.join(pair)} in {out}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
