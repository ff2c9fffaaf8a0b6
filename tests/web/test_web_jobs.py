"""Long work: bounded, cancelled, asked for again, and forgotten."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip("starlette")

from covis.errors import ArgumentError
from covis.web import jobs as jobs_module
from covis.web.jobs import BusyError, Jobs


def over(job):
    for _ in range(2000):
        if job.over:
            return job
        threading.Event().wait(0.005)
    raise AssertionError(job.state)


@pytest.fixture
def jobs():
    made = Jobs()
    yield made
    made.close()


def test_an_answer_and_how_far_it_is_are_told(jobs):
    half, go = threading.Event(), threading.Event()

    def work(job):
        job.report("photos", 5, 10)
        job.tell({"failed": ["one"]})
        half.set()
        go.wait(10)
        return {"all": 10}

    job = jobs.start(work)
    assert half.wait(10)
    told = jobs.get(job.id).to_dict()
    assert told["state"] == "running"
    assert told["answer"] == {"failed": ["one"]}
    assert (told["progress"]["done"], told["progress"]["total"]) == (5, 10)
    go.set()
    done = over(job).to_dict()
    assert (done["state"], done["answer"]) == ("done", {"all": 10})
    assert done["version"] > told["version"]


def test_who_waits_for_news_is_called_and_no_longer_when_he_left(jobs):
    begun, go, last = threading.Event(), threading.Event(), threading.Event()
    heard = []

    def work(job):
        begun.set()
        go.wait(10)
        job.tell("some")
        return "all"

    def hearer():
        heard.append((job.state, job.answer))
        if job.over:
            last.set()

    job = jobs.start(work)
    assert begun.wait(10)
    with job.heard(hearer):
        go.set()
        assert last.wait(10)
    assert heard == [("running", "some"), ("done", "all")]
    other = jobs.start(lambda _: None, "long")
    with other.heard(hearer):
        pass
    other.cancel()
    assert len(heard) == 2


def test_mistakes_are_told_in_the_words_of_the_command_line_and_others_are_not(jobs, capsys):
    def mistaken(_):
        raise ArgumentError("photos: no such folder; check the path.")

    def broken(_):
        raise RuntimeError("secret")

    assert (
        over(jobs.start(mistaken)).to_dict()["error"] == "photos: no such folder; check the path."
    )
    told = over(jobs.start(broken)).to_dict()
    assert told["state"] == "failed"
    assert "secret" not in told["error"]
    assert "secret" in capsys.readouterr().err


def test_a_cancelled_job_ends_at_its_next_report(jobs):
    begun, cancelled, ended = threading.Event(), threading.Event(), threading.Event()

    def work(job):
        try:
            begun.set()
            cancelled.wait(10)
            job.report("photos", 1)
            return "never"
        finally:
            ended.set()

    job = jobs.start(work)
    assert begun.wait(10)
    job.cancel()
    cancelled.set()
    assert ended.wait(10)
    assert (job.state, job.answer) == ("cancelled", None)


def test_long_work_does_not_hold_up_the_quick(jobs):
    go = threading.Event()
    long = [jobs.start(lambda _: go.wait(10), "long") for _ in range(3)]
    match = jobs.start(lambda _: go.wait(10), "match")
    assert over(jobs.start(lambda _: "quick")).answer == "quick"
    assert not match.over
    assert sorted(job.state for job in long) == ["running", "waiting", "waiting"]
    long[2].cancel()
    go.set()
    assert [over(job).state for job in long] == ["done", "done", "cancelled"]


def test_too_much_is_refused_and_old_answers_are_forgotten(jobs, monkeypatch):
    monkeypatch.setattr(jobs_module, "WAITING", 2)
    monkeypatch.setattr(jobs_module, "KEPT", 3)
    go = threading.Event()
    running = jobs.start(lambda _: go.wait(10), "long")
    while running.state == "waiting":
        threading.Event().wait(0.005)
    for _ in range(2):
        jobs.start(lambda _: None, "long")
    with pytest.raises(BusyError, match="too much to do"):
        jobs.start(lambda _: None, "long")
    # Searches go on, and what they found does not drive out what other work did.
    some = [over(jobs.start(lambda _: bytes(10))) for _ in range(6)]
    assert jobs.get(some[0].id) is None
    assert [jobs.get(job.id) for job in some[-3:]] == some[-3:]
    go.set()
    over(running)
    for _ in range(3):
        assert jobs.get(running.id) is running
        over(jobs.start(lambda _: None))
    last = [over(jobs.start(lambda _: None, "long")) for _ in range(3)]
    assert jobs.get(running.id) is None
    assert [jobs.get(job.id) for job in last] == last
