"""Notes of jobs: what tasks find out that people should know, beside what was made right at submit."""

from __future__ import annotations

import pytest

from tests.farm.store.store_world import dispatch, join, plan, spec, stage, task

SHARED = {"encode": [], "decode/0": ["encode"], "decode/1": ["encode"], "mux": ["decode/0", "decode/1"]}


@pytest.fixture
def job(store):
    join(store)
    made, _ = store.jobs.submit(spec(), plan(SHARED), ["size: cropped"])
    end(store, made, "encode")
    return made


def end(store, job, key: str, facts=None) -> None:
    attempt = dispatch(store, job, key)
    made = [stage(store, attempt, "video" if key == "mux" else "latents")]
    assert store.attempts.succeed(attempt.id, attempt.epoch, made, 1.0, facts=facts).committed


def test_what_tasks_find_out_is_told_with_the_job_and_to_the_tasks_behind_them(store, job):
    end(store, job, "decode/0", {"summary": "found", "notes": ["the image at frame 8 differs"]})
    end(store, job, "decode/1", {"notes": ["the image at frame 8 differs", "the image at frame 90 differs"]})
    told = ("size: cropped", "the image at frame 8 differs", "the image at frame 90 differs")
    assert store.jobs.get(job.id).notes == told, "each is said once"
    assert store.artifacts.inputs(task(store, job, "mux").id).notes == told
    assert task(store, job, "decode/0").facts["notes"] == ["the image at frame 8 differs"]


def test_a_task_that_is_done_again_tells_anew_and_what_it_told_before_is_gone(store, job):
    end(store, job, "decode/0", {"notes": ["the image at frame 8 differs by 21 dB"]})
    made = [one.id for one in store.artifacts.results(job.id, ["decode/0"])["decode/0"]]
    end(store, job, "decode/1")
    mux = dispatch(store, job, "mux")
    store.attempts.lacks_input(mux.id, mux.epoch, made, "its checksum is wrong")
    end(store, job, "decode/0", {"notes": ["the image at frame 8 differs by 20 dB"]})
    assert store.jobs.get(job.id).notes == ("size: cropped", "the image at frame 8 differs by 20 dB")


def test_a_late_result_that_loses_tells_nothing(store, job):
    lost = dispatch(store, job, "decode/0")
    store.attempts.lose(lost.id, lost.epoch, "renderer died")
    end(store, job, "decode/0")
    late = store.attempts.succeed(lost.id, lost.epoch, [], 1.0, facts={"notes": ["late"]})
    assert not late.committed and store.jobs.get(job.id).notes == ("size: cropped",)


@pytest.mark.parametrize("notes", [None, "words", 3, {"a": 1}, [1, None, ["x"]]])
def test_facts_that_are_no_sentences_are_no_notes(store, job, notes):
    end(store, job, "decode/0", {"notes": notes})
    assert store.jobs.get(job.id).notes == ("size: cropped",)
