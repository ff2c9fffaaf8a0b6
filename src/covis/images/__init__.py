"""Pictures in: reading, EXIF, orientation."""

from covis.images.decode import MaskSource, Source, check_picture, load_image, to_grey

__all__ = ["MaskSource", "Source", "check_picture", "load_image", "to_grey"]
