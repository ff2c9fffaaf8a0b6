"""What every extractor keeps to. A new one is tested by being listed.

`HANDCRAFTED` is listed by itself; a network goes into `NETWORKS`, with the fixture of a bundle.
"""

from __future__ import annotations

import numpy as np
import pytest
from helpers.contracts import assert_same_features, assert_sound

from covis import Extractor, Features, Matcher, match
from covis.errors import ArgumentError
from covis.features.registry import HANDCRAFTED, Handcrafted
from covis.images.decode import load_image
from covis.runtime.architectures import ARCHITECTURES, load, names

NETWORKS = {
    "xfeat": "random_bundle",
    "edgepoint": "edgepoint_bundle",
    "aliked": "aliked_bundle",
    "superpoint": "superpoint_bundle",
    "disk": "disk_bundle",
    "delg": "delg_bundle",
}
"""Architecture -> fixture of a bundle with weights that find something everywhere."""
SEMI_DENSE = ("xfeat",)
TINY = [(1, 1), (1, 300), (7, 5), (33, 31)]

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@pytest.fixture(
    params=[
        *HANDCRAFTED,
        "patches",
        *(pytest.param(n, marks=pytest.mark.slow if n == "delg" else ()) for n in NETWORKS),
    ]
)
def source(request, monkeypatch):
    """What `features` takes: each method's name, each network's folder."""
    monkeypatch.setitem(HANDCRAFTED, "patches", TOY)
    if request.param in HANDCRAFTED:
        return request.param
    return str(request.getfixturevalue(NETWORKS[request.param]).folder)


TOY = Handcrafted(finds="helpers.contracts:Patches", licence="MIT")


@pytest.fixture(params=SEMI_DENSE)
def semi_dense(request):
    """An extractor of semi-dense features."""
    folder = str(request.getfixturevalue(NETWORKS[request.param]).folder)
    return Extractor(folder, semi_dense=True, max_keypoints=150)


@pytest.fixture
def picture(texture):
    return texture[:110, :160]


def test_every_network_is_listed():
    assert set(NETWORKS) == set(names("features"))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_a_row_names_is_there(name):
    row = ARCHITECTURES[name]
    assert load(row.runs).__module__.startswith("covis.")
    assert bool(row.loads) == bool(row.exports)
    if row.loads:
        pytest.importorskip("torch")
        pytest.importorskip("onnxscript")
        assert callable(load(row.loads))
        assert callable(load(row.exports))


def test_features(source, picture):
    extract = Extractor(source, max_keypoints=120)
    found = extract(picture)
    assert_sound(found, load_image(picture), 120)
    assert len(found) > 20
    assert (found.model, found.pixel_sizes) == (extract.model, None)
    assert extract.licence
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "dimension", "settings"),
    [
        ("superpoint", 256, {"max_size": 160}),
        ("disk", 128, {"max_size": 160}),
        ("edgepoint", 32, {"max_size": 160, "threshold": 0.0}),
        pytest.param("aliked", 16, {"max_size": 240, "threshold": 0.0}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("home")
def test_an_imported_network_by_its_name(request, texture, name, dimension, settings):
    request.getfixturevalue(NETWORKS[name])
    extract = Extractor(name, max_keypoints=100, **settings)
    found = extract(texture)
    assert_sound(found, load_image(texture), 100)
    assert len(found) == 100
    assert (found.descriptors.shape[1], found.model) == (dimension, name)
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-5)
    assert found.keypoints.max() > 400
    grey = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    batch = extract.batch([grey, texture, np.dstack([grey] * 3), np.zeros((1, 1), np.uint8)])
    assert_same_features(batch[1], found)
    np.testing.assert_array_equal(batch[0].keypoints, batch[2].keypoints)
    assert batch[3].descriptors.shape == (0, dimension)
    assert len(extract(texture, mask=np.ones(texture.shape[:2], bool))) == 0


def test_fewer_are_the_first_of_more(source, picture):
    many, few = (Extractor(source, max_keypoints=n)(picture) for n in (120, 40))
    assert len(few) == min(40, len(many))
    np.testing.assert_allclose(few.scores, many.scores[: len(few)])


def test_a_higher_threshold_gives_no_more(source, picture):
    found = Extractor(source, max_keypoints=9)(picture)
    high = Extractor(source, max_keypoints=9, threshold=1e30)(picture)
    assert (len(found) > 0, len(high)) == (True, 0)
    assert high.descriptors.shape[1] == found.descriptors.shape[1]


def test_same_picture_same_features(source, picture):
    extract = Extractor(source, max_keypoints=50)
    found = extract(picture)
    assert_same_features(extract(picture), found)
    assert_same_features(Extractor.from_options(extract.options)(picture.copy()), found)


def test_batches_equal_singles(source, picture):
    extract = Extractor(source, max_keypoints=50)
    pictures = [picture, picture[:80, :100], picture[::-1], np.zeros((1, 1), np.uint8), picture]
    for one, alone in zip(extract.batch(pictures), map(extract, pictures), strict=True):
        assert_same_features(one, alone)
    assert extract.batch([]) == []


def test_nothing_is_found_under_the_mask(source, picture):
    extract = Extractor(source, max_keypoints=200)
    left = np.zeros(picture.shape[:2], bool)
    left[:, :80] = True
    found = extract(picture, mask=left)
    assert_sound(found, load_image(picture), extract.max_keypoints)
    assert len(found) > 0
    assert found.keypoints[:, 0].min() >= 79
    nothing = extract(picture, mask=np.ones_like(left))
    assert len(nothing) == 0
    assert nothing.descriptors.shape == (0, found.descriptors.shape[1])


@pytest.mark.parametrize("size", TINY)
def test_tiny_and_flat_images(source, size):
    extract = Extractor(source, max_keypoints=30)
    noise = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    for pixels in (np.full(size, 90, np.uint8), noise):
        found = extract(pixels)
        assert_sound(found, load_image(pixels), 30)
        assert found.descriptors.ndim == 2


@pytest.mark.parametrize("value", [0, 90, 255])
@pytest.mark.parametrize("name", ["sift", "xfeat"])
def test_images_of_one_colour_show_nothing(name, value):
    """With weights that were trained, or none."""
    assert len(Extractor(name)(np.full((80, 100), value, np.uint8))) == 0


def test_shrunk_images_give_full_size_coordinates(source, texture):
    found = Extractor(source, max_keypoints=100, max_size=200)(texture)
    assert_sound(found, load_image(texture), 100)
    assert found.keypoints[:, 0].max() > 400


def test_grey_is_rgb_with_equal_channels(source, picture):
    extract = Extractor(source, max_keypoints=50)
    grey = picture[..., 0]
    assert_same_features(extract(grey), extract(np.dstack([grey] * 3)))


def test_features_come_back_from_a_file(source, picture, tmp_path):
    found = Extractor(source, max_keypoints=50)(picture)
    found.save(tmp_path / "f.npz")
    assert_same_features(Features.load(tmp_path / "f.npz"), found)


def test_semi_dense_features(semi_dense, picture):
    found = semi_dense(picture)
    assert_sound(found, load_image(picture), 150)
    assert len(found) == 150
    assert found.pixel_sizes.shape == (150, 2)
    assert (found.pixel_sizes > 0).all()
    assert_same_features(semi_dense(picture), found)
    assert_same_features(semi_dense.batch([picture[:60], picture])[1], found)
    right = np.zeros(picture.shape[:2], bool)
    right[:, 80:] = True
    assert semi_dense(picture, mask=right).keypoints[:, 0].max() <= 81
    assert len(semi_dense(picture, mask=np.ones_like(right))) == 0


@pytest.mark.parametrize("size", TINY)
def test_semi_dense_features_of_tiny_and_flat_images(semi_dense, size):
    assert_sound(semi_dense(pixels := np.full(size, 90, np.uint8)), load_image(pixels), 150)


def test_exception_no_semi_dense_features(source):
    if isinstance(Extractor(source)._finds, load("covis.features.registry:SemiDenseFeatures")):
        pytest.skip("it has them")
    with pytest.raises(ArgumentError, match="has no semi-dense features; use features='xfeat'"):
        Extractor(source, semi_dense=True)


def test_a_new_extractor_is_a_row(known_pair, monkeypatch):
    """It serves all of covis at once."""
    monkeypatch.setitem(HANDCRAFTED, "patches", TOY)
    first, second, _ = known_pair
    found = match(first, first, features="patches", matcher="nearest", geometry="homography")
    assert (found.model, found.licence) == ("patches", "MIT")
    assert found.verdict.label == "same"
    np.testing.assert_array_equal(found.points0, found.points1)
    extract = Extractor("patches", max_keypoints=300)
    with pytest.raises(ArgumentError, match="features of 'patches' and 'sift' cannot be matched"):
        Matcher()(extract(first), Extractor("sift")(second))
