"""Retries choose what failed or was cancelled, and everything without which it could never start."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farm.policy.retry import LEFT_UNDONE, Undone, to_retry
from farm.states import TaskState


@st.composite
def graphs(draw) -> dict[str, Undone]:
    """Tasks of one job, each needing earlier ones; those with unmet needs have not begun, some are kept no longer."""
    tasks: dict[str, Undone] = {}
    for number in range(draw(st.integers(1, 8))):
        needs = draw(st.sets(st.sampled_from(sorted(tasks)))) if tasks else set()
        done = all(tasks[need].state is TaskState.SUCCEEDED for need in needs)
        begun = [TaskState.SUCCEEDED, TaskState.FAILED, TaskState.READY, TaskState.CANCELLED]
        state = draw(st.sampled_from(begun if done else [TaskState.WAITING, TaskState.CANCELLED]))
        gone = state is TaskState.SUCCEEDED and draw(st.booleans())
        tasks[str(number)] = Undone(state, needs, draw(st.sampled_from(["", "", "a", "b"])), gone)
    return tasks


# Says nothing about how fast the machine is at the moment.


@given(graphs(), st.data())
def test_a_retry_leaves_nothing_that_could_never_start_and_does_no_more_than_that(tasks, data):
    wanted = data.draw(st.sets(st.sampled_from(sorted(tasks))))
    chosen = to_retry(wanted, tasks)
    assert {id for id in wanted if tasks[id].state in LEFT_UNDONE} <= chosen
    lacking = {id for id, task in tasks.items() if task.gone or task.state in LEFT_UNDONE}
    assert chosen <= lacking
    brought = set()
    for id in chosen:
        mates = {other for other, task in tasks.items() if task.group == tasks[id].group != ""}
        near = (mates | set(tasks[id].needs)) & lacking
        assert near <= chosen
        brought |= near - {id}
    assert all(id in brought for id in chosen if tasks[id].gone), "nobody needs it"


@given(graphs())
def test_a_retry_of_everything_chooses_all_that_is_undone(tasks):
    chosen = to_retry(tasks, tasks)
    assert {id for id in chosen if not tasks[id].gone} == {
        id for id, task in tasks.items() if task.state in LEFT_UNDONE
    }


def test_a_retry_makes_again_what_is_needed_and_gone_and_nothing_else():
    tasks = {
        "encode": Undone(TaskState.SUCCEEDED, gone=True),
        "window/0": Undone(TaskState.SUCCEEDED, ["encode"], gone=True),
        "window/1": Undone(TaskState.SUCCEEDED, ["encode"], gone=True),
        "decode/0": Undone(TaskState.SUCCEEDED, ["window/0"], gone=True),
        "decode/1": Undone(TaskState.FAILED, ["window/1"]),
        "mux": Undone(TaskState.CANCELLED, ["decode/0", "decode/1"]),
    }
    assert to_retry(["decode/1"], tasks) == {"decode/1", "window/1", "encode"}
    assert to_retry(["mux"], tasks) == set(tasks)
    assert to_retry(["window/0"], tasks) == frozenset(), "it has succeeded, and nobody needs it"


def test_a_retry_of_one_task_leaves_its_equals_alone():
    tasks = {
        "encode": Undone(TaskState.SUCCEEDED),
        "window/0": Undone(TaskState.FAILED, ["encode"]),
        "window/1": Undone(TaskState.CANCELLED, ["encode"]),
        "decode": Undone(TaskState.CANCELLED, ["window/1"]),
    }
    assert to_retry(["window/0"], tasks) == {"window/0"}
    assert to_retry(["decode"], tasks) == {"decode", "window/1"}
