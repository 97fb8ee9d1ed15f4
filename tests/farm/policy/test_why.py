"""Why a job's tasks don't run: sentences that name what is lacking and what would help."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farm.policy.explain import Fit, UnfinishedTask, reason_of, summary, waits_for
from farm.states import JobState, TaskState, is_final

W, R, S, C = TaskState.WAITING, TaskState.READY, TaskState.RUNNING, TaskState.CANCELLED


def test_a_waiting_task_names_what_it_needs_and_not_all_of_a_hundred():
    needs = [f"window/{number}" for number in range(100)]
    assert reason_of("j1", JobState.RUNNING, UnfinishedTask("mux", W, "", needs[:1])) == "needs window/0"
    assert reason_of("j1", JobState.RUNNING, UnfinishedTask("mux", W, "", needs)) == (
        "needs window/0, window/1, window/2 and 97 more"
    )


def test_a_ready_task_says_what_placement_said_unless_its_job_is_paused():
    ready = UnfinishedTask("window/0", R, "waiting for a free device: a/d0")
    assert reason_of("j1", JobState.RUNNING, ready) == ready.reason
    assert "farmctl job resume j1" in reason_of("j1", JobState.PAUSED, ready)
    assert reason_of("j1", JobState.QUEUED, UnfinishedTask("window/0", R))


def test_a_running_job_is_summed_up_in_one_sentence():
    tasks = [
        UnfinishedTask("window/0", S),
        UnfinishedTask("window/1", R, "waiting for a free device: a/d0"),
        UnfinishedTask("window/2", R, "waiting for a free device: a/d0"),
        UnfinishedTask("window/3", R, "no device online fits: a/d0 doesn't support fp8"),
        UnfinishedTask("mux", W, "", ["window/0"]),
        UnfinishedTask("decode/0", C),
    ]
    told = summary("j1", JobState.RUNNING, "", tasks, 9, Fit((), {"mux": "a/d0 has no model m"}))
    assert told == (
        "running: 1 task runs; 3 tasks are ready: waiting for a free device: a/d0 (1 for other reasons); "
        "1 task waits for them; 1 task is left out until a retry; "
        "no device of this farm could ever take mux: a/d0 has no model m"
    )


def test_an_ended_job_says_how_and_what_would_go_on_with_it():
    told = summary("j1", JobState.FAILED, "Traceback\nValueError: bad", [UnfinishedTask("mux", C)], 5)
    assert told == (
        "failed: ValueError: bad; `farmctl job retry j1` continues from the 4 of 5 tasks that are done"
    )


def test_a_job_whose_media_is_lost_is_not_to_be_retried():
    error = "needs clip.mp4, which was uploaded and is damaged here; submit the job again with it"
    told = summary("j1", JobState.FAILED, error, [UnfinishedTask("encode", C)], 5)
    assert "submit the job again" in told and "retry" not in told


def test_a_job_waits_for_what_is_known_while_nothing_of_it_runs():
    ready = UnfinishedTask("window/0", R, "no device is usable: a/d0 is drained")
    held_up, fresh = [ready, UnfinishedTask("mux", W, "", ["window/0"])], [UnfinishedTask("window/0", R)]
    told = "1 task is ready: no device is usable: a/d0 is drained; 1 task waits for it"
    assert (
        waits_for("j1", JobState.RUNNING, held_up, 3) == waits_for("j1", JobState.QUEUED, held_up, 3) == told
    )
    assert waits_for("j1", JobState.RUNNING, [*held_up, UnfinishedTask("window/1", S)], 3) == ""
    assert waits_for("j1", JobState.RUNNING, fresh, 3) == "", "placement gives it away at once"
    assert "could ever take mux" in waits_for("j1", JobState.RUNNING, fresh, 3, Fit((), {"mux": "too small"}))
    assert waits_for("j1", JobState.PAUSED, fresh, 3).startswith("no more of its tasks start until")
    assert waits_for("j1", JobState.FAILED, held_up, 3) == ""


@given(st.sampled_from(JobState), st.sampled_from(TaskState), st.lists(st.just("encode"), max_size=2))
def test_whatever_waits_has_a_reason(job, state, unmet):
    if state in (W, R) or (state == C and not is_final(job)):
        assert reason_of("j1", job, UnfinishedTask("window/0", state, "", unmet))
