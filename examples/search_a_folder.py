"""Which photos of a folder show what a picture shows, and where:

python search_a_folder.py photos/ crop.jpg photos.covis
"""

import sys

import covis


def main(photos: str, query: str, store: str) -> None:
    index = covis.Index(store)  # a new folder, or one of an earlier run
    index.add([photos])  # takes up what is new or changed
    found = index.search(query, k=5, budget=None)
    for hit in found.hits:
        where = "" if hit.regions is None else "x {:.0f} y {:.0f} w {:.0f} h {:.0f}".format(
            *hit.regions[1]
        )  # fmt: skip
        print(f"{hit.path}: similarity {hit.similarity:.3f}, {hit.inliers} inliers {where}")
    for group in index.duplicates():
        print("copies:", *(copy.path for copy in group))


if __name__ == "__main__":
    main(*sys.argv[1:4])
