#!/usr/bin/env bash
# pycolmap 4.2.1: a model written as text and read back has other image names where they hold
# spaces; written as binary it has not.
#
# Expected: `Reconstruction.write_text` and reading that folder give the model back, or one of
#   them refuses the name. Names with spaces are valid everywhere else in COLMAP.
# Seen: "my photo.jpg" comes back as "my", without an error or a warning, with poses and points
#   intact: whatever then looks for the photo, or for its features by name, finds nothing. Two
#   names that begin alike, as "my photo.jpg" and "my dog.jpg", become one and the same.
#   The writer puts the name last on its line, so that a reader could take the rest of the line.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet pycolmap==4.2.1 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
from pathlib import Path

import pycolmap

options = pycolmap.SyntheticDatasetOptions()
options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 1, 1, 3
options.num_points3D = 20
model = pycolmap.synthesize_dataset(options)
names = ["my photo.jpg", "my dog.jpg", "plain.jpg"]
for image, name in zip(model.images.values(), names, strict=True):
    image.name = name
seen = {}
for kind in ("binary", "text"):
    Path(kind).mkdir()
    getattr(model, f"write_{kind}")(kind)
    seen[kind] = sorted(image.name for image in pycolmap.Reconstruction(kind).images.values())
    print(f"{kind}: {seen[kind]}")
assert seen["binary"] == sorted(names)
assert seen["text"] == ["my", "my", "plain.jpg"]
PYTHON
