"""The runtime needs no PyTorch."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import importlib.machinery, sys
class Refuse:
    # Some packages look whether PyTorch could be imported; that is not importing it.
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnx", "safetensors"):
            return importlib.machinery.ModuleSpec(name, self)
    def create_module(self, spec):
        raise ImportError(spec.name)
    def exec_module(self, module):
        raise ImportError(module.__name__)
sys.meta_path.insert(0, Refuse())
import numpy as np
import covis
for name in covis.__all__:
    getattr(covis, name)
picture = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
found = covis.match(picture, picture, features="sift", geometry="none")
assert len(found) > 0
"""


def test_matching_without_pytorch():
    subprocess.run([sys.executable, "-c", CODE], check=True)
