"""Parts that look alike, in two photos of things that need not be the same:

python dense_match.py cat1.jpg cat2.jpg 320,200 410,215
"""

import sys

from covis.dense import DenseExtractor, transfer


def main(photo0: str, photo1: str, places: list[str]) -> None:
    describe = DenseExtractor()  # LiFT on XFeat: a descriptor every 4 pixels
    dense0, dense1 = describe(photo0), describe(photo1)
    print(f"{photo0}: descriptors {dense0.descriptors.shape}")
    points0 = [[float(number) for number in place.split(",")] for place in places]
    points1, cosines = transfer(dense0, dense1, points0)
    for point0, point1, cosine in zip(points0, points1, cosines, strict=True):
        print(f"{point0} -> {point1.round(1)}, cosine {cosine:.3f}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
