"""Features and matches to and from the forms that other libraries have them in.

    covis.convert.opencv.keypoints(features)         # cv2.KeyPoint, cv2.DMatch
    covis.convert.hloc.write_features(path, {...})   # hloc's HDF5 files and pair lists
    covis.convert.colmap.write(database, {...})      # COLMAP's database
    covis.convert.kornia.lafs(features)              # kornia's local affine frames
    covis.convert.torch.tensors(features)            # the dictionaries of LightGlue

covis and COLMAP put the centre of the top-left pixel at (0.5, 0.5), the others at (0, 0): half a
pixel is added or taken on the way. None of these libraries is loaded before it is needed.
"""

from covis.convert import colmap, hloc, kornia, opencv, torch

__all__ = ["colmap", "hloc", "kornia", "opencv", "torch"]
