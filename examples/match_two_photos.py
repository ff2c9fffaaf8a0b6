"""The points that two photos share, drawn: python match_two_photos.py a.jpg b.jpg matches.png"""

import sys

import covis


def main(photo0: str, photo1: str, drawing: str) -> None:
    found = covis.match(photo0, photo1, geometry="homography", max_keypoints=2048)
    assert found.geometry is not None
    assert found.verdict is not None
    print(f"{len(found)} matches, {found.inliers.sum()} agree with a homography")
    print(f"the same? {found.verdict.label}, probability {found.verdict.probability:.3f}")
    print("homography_1from0:", found.geometry.matrix, sep="\n")
    print("best match:", found.points0[0], "in image 0 is", found.points1[0], "in image 1")
    found.draw(photo0, photo1, drawing)


if __name__ == "__main__":
    main(*sys.argv[1:4])
