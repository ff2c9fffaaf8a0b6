"""What a wider LightGlue for ALIKED shows of itself at other features' keypoints."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")

from covis.errors import TrainingError  # noqa: E402
from covis.nets.aliked import ALIKED  # noqa: E402
from covis.nets.lightglue import LightGlue  # noqa: E402
from covis.training.keypoint_teacher import (  # noqa: E402
    KeypointTeacher,
    begin_like,
    find_axes,
)
from covis.training.losses.lightglue import trace  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def aliked():
    torch.manual_seed(0)
    return ALIKED((4, 4, 8, 8), 16, positions=4).eval()


def test_describes_points_of_pictures_of_any_size(aliked):
    """As the network does where the size needs no padding; so little is lost by half precision."""
    teacher = KeypointTeacher(aliked, LightGlue(16, dim=32, layers=2, heads=2), CPU)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (64, 96, 3), np.uint8)
    points = rng.uniform(1, 60, (700, 2)).astype(np.float32)
    points[:2] = (0, 0), (96, 64)
    found = teacher.describe(picture, points)
    with torch.no_grad():
        maps = aliked.maps(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)
        expected = aliked.describe(
            [each[0].permute(1, 2, 0) for each in maps],
            torch.from_numpy(points[2:]) - 0.5,
            torch.tensor([0, 0, 96, 64]),
        )
    assert (found[2:] * expected).sum(dim=1).min() > 0.99
    assert torch.isfinite(found).all()
    grey = picture[:50, :70, 0]
    torch.testing.assert_close(
        teacher.describe(grey, points[2:4]),
        teacher.describe(np.repeat(grey[..., None], 3, axis=2), points[2:4]),
    )


def test_axes_show_all_there_is_of_flat_states():
    torch.manual_seed(0)
    plane, offset = torch.randn(3, 10), torch.randn(10)
    shown = [[torch.randn(2, 40, 3) @ plane + offset for _ in range(5)] for _ in range(4)]
    found = find_axes(shown, 3)
    torch.testing.assert_close(found.axes @ found.axes.T, torch.eye(3), atol=1e-5, rtol=0)
    state = shown[2][1]
    torch.testing.assert_close(
        state @ found.axes.T @ found.axes + found.rest(1), state, atol=0.5, rtol=0
    )
    # The rest of the mean is that of 320 points: of each alone the axes show what differs.
    apart = state[0, :1] - state
    torch.testing.assert_close(apart @ found.axes.T @ found.axes, apart, atol=1e-4, rtol=0)


def test_student_as_wide_as_its_teacher_begins_with_what_it_compares():
    torch.manual_seed(0)
    teacher = LightGlue(16, dim=16, layers=3, heads=2)
    student = LightGlue(16, dim=16, layers=2, heads=2)
    inputs = torch.randn(4, 30, 16), torch.rand(4, 30, 2)
    with torch.no_grad():
        states = trace(teacher, *inputs).states
        axes = find_axes([states], 16)
        begin_like(student, teacher, axes)
        own = [x @ axes.axes.T for x in states]
        assert torch.equal(student.posenc.Wr.weight, teacher.posenc.Wr.weight)
        for index in range(2):
            torch.testing.assert_close(
                student.assignment(index)(own[2 * index + 2][:2], own[2 * index + 2][2:]),
                teacher.assignment(index)(states[2 * index + 2][:2], states[2 * index + 2][2:]),
                atol=1e-3,
                rtol=1e-3,
            )
            for mine, theirs, x, y in (
                (*(n.attentions(index)[0].Wqkv for n in (student, teacher)), own[2 * index],
                 states[2 * index]),
                (*(n.attentions(index)[1].to_qk for n in (student, teacher)), own[2 * index + 1],
                 states[2 * index + 1]),
            ):  # fmt: skip
                torch.testing.assert_close(
                    compared(mine(x)), compared(theirs(y)), atol=1e-3, rtol=1e-3
                )


def compared(x):
    """What each head compares: q with k of self-attention, else qk of both images."""
    if x.shape[-1] == 48:
        q, k, _ = x.unflatten(-1, (2, 8, 3)).unbind(-1)
    else:
        q, k = (half.unflatten(-1, (2, 8)) for half in (x[:2], x[2:]))
    return torch.einsum("bnhc,bmhc->bhnm", q, k)


def test_exception_a_matcher_for_other_descriptors(aliked):
    with pytest.raises(TrainingError, match=r"of 8 numbers, and .* gives 16"):
        KeypointTeacher(aliked, LightGlue(8, dim=32, layers=2, heads=2), CPU)
