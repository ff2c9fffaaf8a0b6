#!/usr/bin/env bash
# safetensors 0.8.0: the same tensors with the same metadata give other bytes at each save, as soon
# as the metadata has two entries.
#
# Expected: equal contents, equal file; weights are published and checked by their SHA-256, and the
#   tensors themselves are written in one order.
# Seen: metadata is written in the order of a hash table that is seeded anew at every call. 200
#   saves in one process: 1 file without metadata or with one entry, 2 files with two entries, 6
#   with three. Sorted or not, the order of the dictionary that is given is not kept.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet safetensors==0.8.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import hashlib

import numpy as np
from safetensors.numpy import load, save

tensors = {"weight": np.arange(12, dtype=np.float32).reshape(3, 4), "bias": np.ones(3, np.float32)}
for entries, expected in ((0, 1), (1, 1), (2, 2), (3, 6)):
    metadata = {f"key{i}": f"value {i}" for i in range(entries)}
    files = {save(tensors, metadata or None) for _ in range(200)}
    digests = sorted(hashlib.sha256(file).hexdigest()[:8] for file in files)
    print(f"{entries} entries of metadata: {len(files)} files, {' '.join(digests)}")
    assert len(files) == expected
    for file in files:
        assert all(np.array_equal(load(file)[key], tensors[key]) for key in tensors)
PYTHON
