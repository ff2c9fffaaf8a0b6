"""Pictures in: listing files, reading, EXIF, orientation."""

from covis.images.decode import load_image, read_labels, read_samples, to_grey
from covis.images.exif import PhotoInfo, read_photo_info, read_size
from covis.images.opened import check_picture
from covis.images.orientation import Orientation

__all__ = [
    "Orientation",
    "PhotoInfo",
    "check_picture",
    "load_image",
    "read_labels",
    "read_photo_info",
    "read_samples",
    "read_size",
    "to_grey",
]
