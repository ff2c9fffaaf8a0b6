"""Dense features of pictures that are being looked at; a bounded number is kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from covis.options import DEFAULT_DEVICE, Device
from covis.web.access import Picture, named

if TYPE_CHECKING:
    from covis.dense import DenseExtractor, DenseFeatures

KEPT = 4
"""Pictures: two people's pairs. One takes 11 MB with the models of the package."""


class Described:
    """Makes and remembers them. One is made at a time, for memory."""

    def __init__(self, device: Device = DEFAULT_DEVICE) -> None:
        self._device: Device = device
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], DenseFeatures] = OrderedDict()
        self._extractor: DenseExtractor | None = None

    def features(self, picture: Picture, model: str) -> DenseFeatures:
        """Of a picture by the model of that name. Raises as `DenseExtractor` does."""
        key = picture.id, model
        with self._lock:
            if key not in self._kept:
                while len(self._kept) >= KEPT:
                    self._kept.popitem(last=False)
                with named(picture):
                    self._kept[key] = self.extractor(model)(picture.path)
            self._kept.move_to_end(key)
            return self._kept[key]

    def extractor(self, model: str) -> DenseExtractor:
        """The last one that was asked for stays."""
        from covis.dense import DenseExtractor

        if self._extractor is None or self._extractor.model != model:
            self._extractor = DenseExtractor(model, device=self._device)
        return self._extractor
