"""Levels of games: read from a file made here, rendered with the depth that geometry says."""

from __future__ import annotations

import io
import struct
import zipfile

import cv2
import numpy as np
import pytest

from covis.errors import TrainingError
from covis.training.data.game_maps import Archives, Camera, Renderer, read_level
from covis.training.data.game_maps.archives import open_games
from covis.training.data.game_maps.materials import Materials, mip_levels
from covis.training.data.game_maps.places import Layout, find_pair, seen
from covis.training.data.scenes import Scenes

SIDE = 512
"""Of the room, a cube around the origin."""
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def box(inner, corners):
    """The 12 triangles of a cube, as vertices (8), and the indices of each wall."""
    walls = [(0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5)]
    return [(inner, [corners[i] for i in wall]) for wall in walls]


def level_file(flags=0, patch=False):
    """A room of 512 a side with a post at x = 128 .. 160, as the format has it."""
    room = [(x, y, z) for x in (-256, 256) for y in (-256, 256) for z in (-256, 256)]
    post = [(x, y, z) for x in (128, 160) for y in (-16, 16) for z in (-256, 256)]
    vertices, corners, faces = [], [], []
    for texture, wall in [*box(0, room), *box(1, post)]:
        first = len(vertices)
        for i, place in enumerate(wall):
            at = ((0, 0), (1, 0), (1, 1), (0, 1))[i]
            vertices.append(struct.pack("<3f2f2f3f4B", *place, *at, *at, 0, 0, 1, 99, 99, 99, 255))
        begin = len(corners)
        corners += [0, 1, 2, 0, 2, 3]
        faces.append([texture, -1, 1, first, 4, begin, 6, -1, *[0] * 16, 0, 0])
    if patch:
        # A flat patch of 3 x 3 control points across the room at z = -200.
        first = len(vertices)
        for y in (-256, 0, 256):
            for x in (-256, 0, 256):
                vertices.append(
                    struct.pack("<3f2f2f3f4B", x, y, -200, 0, 0, 0, 0, 0, 0, 1, 99, 99, 99, 255)
                )
        faces.append([0, -1, 2, first, 9, 0, 0, -1, *[0] * 16, 3, 3])
    names = ("textures/wall", "textures/post")
    textures = b"".join(struct.pack("<64sii", name.encode(), flags, 0) for name in names)
    spots = ("-200 -100 -200", "-200 100 -200", "-150 0 -200")
    entities = '{ "classname" "worldspawn" }' + "".join(
        f'{{ "classname" "info_player_deathmatch" "origin" "{spot}" }}' for spot in spots
    )
    lumps = [b""] * 17
    lumps[0], lumps[1], lumps[10] = entities.encode(), textures, b"".join(vertices)
    lumps[11] = struct.pack(f"<{len(corners)}i", *corners)
    lumps[13] = b"".join(struct.pack("<26i", *face) for face in faces)
    head, body, offset = b"", b"", 8 + 17 * 8
    for lump in lumps:
        head += struct.pack("<2i", offset + len(body), len(lump))
        body += lump
    return b"IBSP" + struct.pack("<i", 46) + head + body


def noise(colour, side=128):
    """A texture with something to see at several scales, in a colour."""
    rng = np.random.default_rng(sum(colour))
    layers = [cv2.resize(rng.random((n, n)), (side, side)) for n in (8, 24, 64)]
    return np.clip(np.mean(layers, 0)[..., None] * np.array(colour) * 2, 0, 255).astype(np.uint8)


def picture_file(colour, suffix):
    return cv2.imencode(suffix, noise(colour)[:, :, ::-1])[1].tobytes()


@pytest.fixture
def game(tmp_path):
    """A folder with one archive of one level."""

    def make(shader="", **options):
        path = tmp_path / "base" / "game.pk3"
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("maps/Room.bsp", level_file(**options))
            archive.writestr("textures/wall.jpg", picture_file((255, 255, 255), ".jpg"))
            archive.writestr("Textures/POST.png", picture_file(RED, ".png"))
            archive.writestr("scripts/all.shader", shader)
        return tmp_path

    return make


def camera(at, size=(64, 48), focal=50.0):
    """One that looks along x, with z up."""
    pose = np.eye(4)
    pose[:3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]
    pose[:3, 3] = -pose[:3, :3] @ at
    middle = (np.array(size) - 1) / 2
    intrinsics = np.array([[focal, 0, middle[0]], [0, focal, middle[1]], [0, 0, 1]])
    return Camera(size, intrinsics, pose)


def opened(folder):
    archives = open_games(folder)[0]
    return archives, read_level(archives, "maps/room.bsp")


def rendered(folder):
    pytest.importorskip("embreex")
    archives, level = opened(folder)
    return level, Renderer(level, Materials(archives))


def test_level_is_read(game):
    _, level = opened(game())
    assert level.places.shape == (24, 3, 3)
    assert level.places.min() == -256
    assert level.places.max() == 256
    assert level.stands.tolist() == [[-200, -100, -200], [-200, 100, -200], [-150, 0, -200]]
    assert level.materials == ["textures/wall", "textures/post"]
    assert level.colours[0, 0] == pytest.approx(99 / 255)


def test_patch_is_cut_into_triangles(game):
    _, level = opened(game(patch=True))
    patch = level.places[24:]
    assert len(patch) == 50
    np.testing.assert_allclose(patch[..., 2], -200, atol=1e-3)
    area = np.linalg.norm(np.cross(patch[:, 1] - patch[:, 0], patch[:, 2] - patch[:, 0]), axis=1)
    assert area.sum() / 2 == pytest.approx(SIDE**2, rel=1e-4)


def test_surfaces_that_are_not_drawn_are_left_out(game):
    with pytest.raises(TrainingError, match=r"room\.bsp: not a level of version 46 \(it has no"):
        opened(game(flags=0x80))


def test_depth_is_that_of_the_geometry(game):
    _, renderer = rendered(game())
    view = renderer.view(camera((-200, 0, 0)))
    # The post stands 328 ahead, the wall 456, and the floor 256 below.
    assert view.depth[24, 32] == pytest.approx(328, abs=1e-2)
    assert view.depth[24, 5] == pytest.approx(456, abs=1e-2)
    below = (47 - 23.5) / 50
    assert below * 456 < 256, "the lowest row sees the wall as well"
    assert view.depth[47, 5] == pytest.approx(456, abs=1e-2)


def test_colours_are_those_of_the_materials(game):
    _, renderer = rendered(game())
    view = renderer.view(camera((-200, 0, 0)))
    post, wall = view.pixels[20:28, 31:33].reshape(-1, 3), view.pixels[20:28, 4:8].reshape(-1, 3)
    assert post[:, 0].mean() > 60
    assert post[:, 1:].max() <= 20
    np.testing.assert_allclose(wall[:, 0], wall[:, 2], atol=12)


def test_photographs_hang_on_the_walls(game):
    _, renderer = rendered(game())
    renderer.hang([noise(GREEN)], 1.0, np.random.default_rng(0))
    view = renderer.view(camera((-200, 0, 0)))
    wall = view.pixels[20:28, 4:8].reshape(-1, 3).astype(float)
    assert wall[:, 1].mean() > 3 * max(wall[:, 0].mean(), wall[:, 2].mean(), 1)


def test_sky_has_no_depth_and_glass_is_seen_through(game):
    sky = "textures/wall { surfaceparm sky }"
    glass = "textures/post\n{\n surfaceparm trans\n { map textures/post.tga\n blendFunc add\n } }"
    _, renderer = rendered(game(sky))
    depth = renderer.view(camera((-200, 0, 0))).depth
    assert depth[24, 32] == pytest.approx(328, abs=1e-2)
    assert depth[24, 5] == 0
    _, renderer = rendered(game(glass))
    assert renderer.view(camera((-200, 0, 0))).depth[24, 32] == pytest.approx(456, abs=1e-2)


def test_a_shader_names_another_picture(game):
    folder = game("textures/post { { map textures/wall.tga\n } }")
    archives = open_games(folder)[0]
    # Its own picture comes first; a name without one takes the shader's.
    assert Materials(archives)["textures/post"][0][..., 1].max() <= 20
    script = "textures/other // a comment {\n{ { map textures/wall.tga\n } }"
    with zipfile.ZipFile(folder / "base" / "more.pk3", "w") as archive:
        archive.writestr("scripts/more.shader", script)
    looks = Materials(open_games(folder)[0])
    assert np.array_equal(looks["textures/other"][0], looks["textures/wall"][0])
    assert looks["textures/none"][0].tolist() == np.full((4, 4, 3), 128).tolist()


def test_later_archives_replace_earlier_ones(tmp_path):
    for name, text in (("pak0.pk3", b"first"), ("pak1.pk3", b"second")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("A.txt", text)
    files = Archives([tmp_path / "pak0.pk3", tmp_path / "pak1.pk3"])
    assert files.read("a.TXT") == b"second"
    assert files.read("b.txt") is None


def test_mip_levels_halve():
    levels = mip_levels(noise(BLUE, 64))
    assert [level.shape[0] for level in levels] == [64, 32, 16, 8, 4]


def test_what_one_view_sees_lies_where_the_other_has_it(game):
    level, renderer = rendered(game())
    layout = Layout(size=(160, 120), overlap=(0.1, 1.0))
    pair = find_pair(level, renderer, layout, np.random.default_rng(3), tries=200)
    assert pair is not None
    view, other = pair.views
    points, visible = seen(pair.cameras, (view.depth, other.depth))
    assert visible.mean() >= pair.overlap
    moved = cv2.remap(other.pixels, points[..., 0], points[..., 1], cv2.INTER_LINEAR)
    likeness = np.corrcoef(view.pixels.mean(2)[visible], moved.mean(2)[visible])[0, 1]
    assert likeness > 0.9


def test_scenes_are_written_in_megadepths_layout(game, tmp_path):
    pytest.importorskip("embreex")
    from covis.training.recipes import scenes

    small = Layout(size=(96, 72), overlap=(0.1, 1.0))
    out = tmp_path / "out"
    scenes.PART, before = 2, scenes.PART
    try:
        said = []
        made = scenes.render_scenes(
            game(), None, out, pairs=3, seed=5, layout=small, report=said.append
        )
        assert made == 4
        assert said == ["2 of 4 pairs", "4 of 4 pairs"]
        read = Scenes(out)
        assert len(read.cameras) == 8
        check_views(read.pair(64, 0.0, 20.0, np.random.default_rng(0)))
        first = sorted(out.glob("views/*/*"))
        times = [path.stat().st_mtime_ns for path in first]
        scenes.render_scenes(game(), None, out, pairs=3, seed=5, layout=small, report=said.append)
        assert len(said) == 2, "what is there is not made again"
        assert [path.stat().st_mtime_ns for path in first] == times
    finally:
        scenes.PART = before


def check_views(pair):
    """Where a cell of view 1 is visible, view 0 shows the same at the point that is told."""
    assert pair.views.shape == (2, 64, 64)
    assert pair.visible.sum() > 10
    x, y = pair.points0[..., 0], pair.points0[..., 1]
    here = cv2.remap(pair.views[0], x, y, cv2.INTER_LINEAR)[pair.visible].astype(float)
    there = pair.views[1][::8, ::8][pair.visible].astype(float)
    assert np.corrcoef(here, there)[0, 1] > 0.8


def test_exception_without_levels(tmp_path):
    with pytest.raises(TrainingError, match="no game's archives"):
        open_games(tmp_path)
    (tmp_path / "bad.pk3").write_bytes(b"no zip")
    with pytest.raises(TrainingError, match=r"bad\.pk3: not an archive of a game"):
        open_games(tmp_path)
    empty = io.BytesIO()
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("maps/a.bsp", b"IBSP\x01\0\0\0")
    (tmp_path / "bad.pk3").write_bytes(empty.getvalue())
    with pytest.raises(TrainingError, match=r"maps/a\.bsp: not a level of version 46"):
        read_level(open_games(tmp_path)[0], "maps/a.bsp")
