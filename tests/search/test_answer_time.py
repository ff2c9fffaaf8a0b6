"""What the end of an answer is given, by how busy the machine is."""

from __future__ import annotations

import time

import pytest

from covis.search.answer_time import ANSWER, COMPARED, MEGAPIXEL, Clock, kept


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """By the wall and of this thread's work, what these say."""
    now = {"wall": 0.0, "worked": 0.0}
    monkeypatch.setattr(time, "perf_counter", lambda: now["wall"])
    monkeypatch.setattr(time, "thread_time", lambda: now["worked"])
    return now


def test_a_busy_machine_is_told_by_what_one_thread_works_through(clocks: dict[str, float]) -> None:
    clock = Clock()
    assert clock.slowdown == 1
    clocks |= {"wall": 0.01, "worked": 0.01}
    clock.lap("decode", alone=True)
    assert clock.slowdown == 1
    clocks |= {"wall": 5.01, "worked": 0.02}
    clock.lap("open")  # Other threads worked.
    assert clock.slowdown == 1
    clocks |= {"wall": 5.08, "worked": 0.03}
    clock.lap("decode", alone=True)
    assert clock.slowdown == pytest.approx(4)
    with clock.watching():
        clocks |= {"wall": 5.14, "worked": 0.05}
    assert clock.slowdown == pytest.approx(3.5)
    assert clock.seconds == pytest.approx({"decode": 0.08, "open": 5.0})


def test_the_end_of_an_answer_is_given_what_it_takes_as_things_are(
    clocks: dict[str, float],
) -> None:
    clock = Clock()
    assert kept(clock, 10.0, 0, 0.0, 2) == pytest.approx(ANSWER)
    photos = 3 * COMPARED + 24 * MEGAPIXEL
    assert kept(clock, 10.0, 3, 24.0, 1) == pytest.approx(ANSWER + photos)
    # Two threads compare photos at once, but one has one.
    assert kept(clock, 10.0, 3, 24.0, 2) == pytest.approx(ANSWER + photos / 2)
    one = COMPARED + 8 * MEGAPIXEL
    assert kept(clock, 10.0, 1, 8.0, 2) == pytest.approx(ANSWER + one)
    clocks |= {"wall": 0.5, "worked": 0.1}
    clock.lap("extract", alone=True)
    assert kept(clock, 10.0, 1, 8.0, 2) == pytest.approx(5 * (ANSWER + one))
    # Half of the time is for finding what to compare; the order is made in any case.
    assert kept(clock, 0.5, 10, 120.0, 2) == pytest.approx(0.25)
    assert kept(clock, 0.01, 0, 0.0, 2) == pytest.approx(ANSWER)
