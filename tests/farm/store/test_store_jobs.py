"""What the store promises of jobs: submitted once, shown as they are, ended whole."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from farm.plan import TaskKind
from farm.records import ArtifactState
from farm.spec import Condition, Media
from farm.states import AttemptState, JobState, TaskState
from farm.store.errors import JobFinished, KeyReused, NotFound
from tests.farm.store.store_world import (
    SMALL,
    dispatch,
    ended,
    finish,
    join,
    plan,
    run,
    spec,
    stage,
    submit,
    task,
)


def test_a_submitted_job_is_there_with_its_whole_graph(store):
    job, existing = store.jobs.submit(spec(priority=70), plan({"encode": [], "mux": ["encode"]}), ["padded"])
    assert not existing
    assert job == store.jobs.get(job.id)
    assert (job.state, job.priority, job.notes) == (JobState.QUEUED, 70, ("padded",))
    assert job.spec == spec(priority=70)
    assert job.shared == {"sigmas": [1.0, 0.5, 0.0]}
    assert (job.tasks_total, job.tasks_succeeded, job.output_artifact_id) == (2, 0, "")
    (encode, _), (mux, _) = store.jobs.tasks(job.id)
    assert (encode.key, encode.state) == ("encode", TaskState.READY)
    assert (mux.key, mux.state) == ("mux", TaskState.WAITING)
    assert [event.kind for event in store.events.after(0, job.id)] == ["submitted"]
    assert job.last_event == store.events.after(0, job.id)[-1].number


def test_an_unknown_job_is_refused_by_name(store):
    for ask in (store.jobs.get, store.jobs.tasks, store.jobs.stages, store.jobs.cancel):
        with pytest.raises(NotFound, match="there is no job 'j-nobody'"):
            ask("j-nobody")


def test_the_same_key_again_is_the_same_job(store):
    first, _ = store.jobs.submit(spec(), plan({"encode": []}), idempotency_key="k")
    again, existing = store.jobs.submit(spec(), plan({"encode": []}), idempotency_key="k")
    assert existing
    assert again == first
    assert len(store.jobs.list()) == 1


def test_no_key_is_a_new_job_each_time(store):
    assert submit(store).id != submit(store).id


def test_a_key_that_comes_with_another_spec_is_refused_and_stores_nothing(store):
    first, _ = store.jobs.submit(spec(), plan({"encode": []}), idempotency_key="k")
    with pytest.raises(KeyReused, match=first.id):
        store.jobs.submit(spec(frames=98), plan({"encode": []}), idempotency_key="k")
    assert [job.id for job in store.jobs.list()] == [first.id]


def test_of_many_submits_with_one_key_at_once_one_makes_the_job(open_store):
    stores = [open_store(), open_store()]
    together = threading.Barrier(8)

    def one(number: int):
        together.wait()
        return stores[number % 2].jobs.submit(spec(), plan({"encode": []}), idempotency_key="k")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(8)))
    assert len({job.id for job, _ in answers}) == 1
    assert [existing for _, existing in answers].count(False) == 1
    assert len(stores[0].jobs.list()) == 1


def test_a_plan_that_could_never_end_is_refused_and_stores_nothing(store):
    for graph in ({}, {"mux": ["window/0"]}, {"mux": ["encode"], "encode": []}):
        with pytest.raises(ValueError, match="task"):
            store.jobs.submit(spec(), plan(graph))
    assert store.jobs.list() == []
    assert store.events.after(0) == []


def test_jobs_are_listed_newest_first_by_state_and_limit(store):
    old, middle, new = submit(store), submit(store), submit(store)
    store.jobs.cancel(middle.id)
    assert [job.id for job in store.jobs.list()] == [new.id, middle.id, old.id]
    assert [job.id for job in store.jobs.list([JobState.CANCELLED])] == [middle.id]
    assert [job.id for job in store.jobs.list(limit=1)] == [new.id]


@pytest.mark.parametrize("states", [(), (JobState.QUEUED,), (JobState.CANCELLED, JobState.QUEUED)])
def test_jobs_are_listed_page_by_page_and_each_once(store, states):
    jobs = [submit(store) for _ in range(7)]
    for job in jobs[::3]:
        store.jobs.cancel(job.id)
    whole = [job.id for job in store.jobs.list(states)]
    assert len(whole) == (4 if states == (JobState.QUEUED,) else 7)
    listed, before = [], ""
    while page := store.jobs.list(states, limit=2, before=before):
        listed += [job.id for job in page]
        before = page[-1].id
    assert listed == whole
    with pytest.raises(NotFound):
        store.jobs.list(before="j-unknown")


def test_jobs_of_the_same_instant_are_on_one_page_only(store):
    clock = store._database.wall
    jobs = []
    for _ in range(5):
        clock.now -= 1
        jobs.append(submit(store).id)
    pages = [store.jobs.list(limit=2), *(store.jobs.list(limit=2, before=id) for id in sorted(jobs)[-2:0:-2])]
    assert [job.id for page in pages for job in page] == sorted(jobs, reverse=True)


def test_a_job_runs_to_its_output(store):
    join(store)
    job = submit(store)
    run(store, job, "encode")
    assert store.jobs.get(job.id).state == JobState.RUNNING
    run(store, job, "window/1", "window/0", "decode/0")
    whole = ended(run(store, job, "mux"))
    assert whole == store.jobs.get(job.id)
    assert whole.state == JobState.SUCCEEDED
    assert whole.tasks_succeeded == whole.tasks_total == 5
    video = store.artifacts.get(whole.output_artifact_id)
    assert (video.name, video.state, whole.output_bytes) == ("video", ArtifactState.COMMITTED, video.size)
    assert store.events.after(0, job.id)[-1].kind == "finished"
    assert store.tasks.ready() == []


def test_a_task_is_ready_once_all_it_needs_is_done(store):
    join(store)
    job = submit(store)
    ready = run(store, job, "encode").ready
    assert ready == (task(store, job, "window/0").id, task(store, job, "window/1").id)
    assert run(store, job, "window/0").ready == ()
    assert run(store, job, "window/1").ready == (task(store, job, "decode/0").id,)


def test_stages_count_running_tasks_by_their_steps(store):
    join(store)
    job = submit(store)
    run(store, job, "encode", "window/0")
    attempt = dispatch(store, job, "window/1")
    store.attempts.progress(attempt.id, attempt.epoch, 3, 4)
    stages = {stage.kind: stage for stage in store.jobs.stages(job.id)}
    assert list(stages) == [TaskKind.ENCODE, TaskKind.WINDOW, TaskKind.DECODE, TaskKind.MUX]
    windows = stages[TaskKind.WINDOW]
    assert (windows.total, windows.succeeded, windows.running, windows.done) == (2, 1, 1, 1.75)


def test_cancel_ends_the_job_its_tasks_and_its_attempts(store):
    join(store)
    job = submit(store)
    run(store, job, "encode")
    attempt = dispatch(store, job, "window/0")
    made = stage(store, attempt)
    (stopped,) = store.jobs.cancel(job.id)
    assert (stopped.id, stopped.state, stopped.node_id) == (attempt.id, AttemptState.CANCELLED, "n1")
    assert store.jobs.get(job.id).state == JobState.CANCELLED
    states = {one.key: one.state for one, _ in store.jobs.tasks(job.id)}
    assert states.pop("encode") == TaskState.SUCCEEDED
    assert set(states.values()) == {TaskState.CANCELLED}
    assert [one.id for one in store.artifacts.collectable()] == [made]
    assert store.attempts.renew("n1", [attempt.ref], 20.0) == []
    assert not store.attempts.succeed(attempt.id, attempt.epoch, [made], 1.0).committed


@pytest.mark.parametrize("end", ["cancelled", "succeeded"])
def test_a_finished_job_cannot_be_cancelled(store, end):
    join(store)
    job = submit(store, {"encode": []})
    if end == "cancelled":
        store.jobs.cancel(job.id)
    else:
        run(store, job, "encode")
    with pytest.raises(JobFinished, match=end):
        store.jobs.cancel(job.id)
    assert store.jobs.get(job.id).state == end


def test_media_comes_to_tasks_in_the_order_of_the_conditions(store):
    def upload(name: str) -> str:
        return store.artifacts.stage(
            name="media", filename=name, size=1, sha256="0" * 64, location=f"file:///{name}"
        ).id

    second, first = upload("b.mp4"), upload("a.mp4")
    conditions = tuple(Condition(media=Media(artifact_id=id), frame=8) for id in (first, second))
    job, _ = store.jobs.submit(spec(conditions=conditions), plan({"encode": []}))
    inputs = store.artifacts.inputs(task(store, job, "encode").id)
    assert [one.id for one in inputs.media] == [first, second]
    assert inputs.needs == {}


def test_a_job_with_unknown_media_is_refused_and_stores_nothing(store):
    with pytest.raises(NotFound, match="a-nothing"):
        store.jobs.submit(spec(), plan({"encode": []}), media=["a-nothing"])
    assert store.jobs.list() == []


def test_a_loser_s_artifact_is_no_media(store):
    join(store)
    job = submit(store)
    attempt = dispatch(store, job, "encode")
    made = stage(store, attempt)
    with pytest.raises(NotFound, match=made):
        store.jobs.submit(spec(), plan({"encode": []}), media=[made])


def test_a_task_is_given_what_the_tasks_it_needs_committed(store):
    join(store)
    job = submit(store)
    lost = dispatch(store, job, "encode")
    stage(store, lost)
    store.attempts.lose(lost.id, lost.epoch, "renderer died")
    attempt = dispatch(store, job, "encode")
    kept, spare = stage(store, attempt, "embeddings"), stage(store, attempt)
    store.attempts.succeed(attempt.id, attempt.epoch, [kept], 1.0)
    inputs = store.artifacts.inputs(task(store, job, "window/0").id)
    assert {key: [one.id for one in found] for key, found in inputs.needs.items()} == {"encode": [kept]}
    assert spare in {one.id for one in store.artifacts.collectable()}
    with pytest.raises(NotFound, match="t-nothing"):
        store.artifacts.inputs("t-nothing")


def test_watchers_of_one_job_see_its_events_only_in_order(store):
    join(store)
    first, second = submit(store), submit(store)
    finish(store, dispatch(store, first, "encode"))
    kinds = [event.kind for event in store.events.after(0, first.id)]
    assert kinds == ["submitted", "dispatched", "succeeded"]
    everything = store.events.after(0)
    numbers = [event.number for event in everything]
    assert numbers == sorted(set(numbers))
    assert [event.kind for event in everything if event.job_id == second.id] == ["submitted"]
    assert store.events.after(numbers[2], limit=1)[0].number == numbers[3]


def test_an_event_of_its_own_is_about_something_that_exists(store):
    job = submit(store)
    event = store.events.add("note", "looked at", job_id=job.id, task="encode")
    assert store.events.after(event.number - 1, job.id) == [event]
    with pytest.raises(NotFound, match="n-nobody"):
        store.events.add("note", "looked at", node_id="n-nobody")


def test_watchers_never_miss_an_event_while_many_write(open_store):
    writers, watcher = [open_store(), open_store()], open_store()
    seen: list[int] = []

    def write(store):
        for _ in range(15):
            store.events.add("note", "again")

    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(write, writers[number % 2]) for number in range(4)]
        while len(seen) < 60:
            finished = all(one.done() for one in writing)
            new = watcher.events.after(seen[-1] if seen else 0)
            seen += [event.number for event in new]
            if finished and not new:
                break
    assert len(seen) == 60


def test_a_task_keeps_the_model_that_its_plan_gives_it(store):
    small = plan(SMALL)
    drawn = [replace(t, model="2b", weights="w2") if t.key == "window/0" else t for t in small.tasks]
    job, _ = store.jobs.submit(spec(), replace(small, tasks=tuple(drawn)))
    models = {one.key: (one.model, one.weights) for one, _ in store.jobs.tasks(job.id)}
    assert models.pop("window/0") == ("2b", "w2") and set(models.values()) == {("ltx-tiny", "w1")}
