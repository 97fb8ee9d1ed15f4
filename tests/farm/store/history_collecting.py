"""Collecting within random histories: when it is done, and what must never be missing because of it."""

from __future__ import annotations

from abc import abstractmethod

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule
from sqlalchemy import select

from farm.plan import TaskKind
from farm.policy.retention import Keeping
from farm.records import KEPT_NO_LONGER
from farm.states import JobState, TaskState, is_final
from farm.store.tables import artifacts, attempts, tasks
from tests.farm.store.history_checks import Checked


class Collected(Checked):
    """A machine whose losers and leftovers are collected; `self.gone`: tasks done whose results are kept no longer."""

    gone: set[str]

    @abstractmethod
    def give_away(self) -> None:
        """Gives every ready task to a free device."""

    @abstractmethod
    def succeed(self, which: int, upload: bool, late: bool, wrong: int) -> None:
        """Says of an attempt that it succeeded, with an epoch that is off by `wrong`."""

    @abstractmethod
    def cancel(self, which: int) -> None:
        """Cancels a job, by its place in the list of all."""

    @abstractmethod
    def retry(self, which: int, what: str) -> None:
        """Has a job that ended tried again: "all" of it, what "failed" or "one" task."""

    @rule()
    def files_are_collected(self) -> None:
        found = [one.id for one in self.store.artifacts.collectable()]
        assert self.store.artifacts.collected(found) == len(found)
        assert self.store.artifacts.collectable() == []

    @rule(old=st.booleans(), most=st.sampled_from([1, 6, 12]))
    def ended_jobs_are_given_up(self, old: bool, most: int) -> None:
        """All that have ended where they are old, else the oldest of them as long as they leave too much."""
        left = []
        for job in sorted(self.store.jobs.list(), key=lambda job: (job.finished_at or 0, job.id)):
            mine = [one.id for one in self.all_tasks() if one.job_id == job.id and one.kind != TaskKind.MUX]
            made = {id: self.done[id] for id in mine if self.done.get(id)}
            if is_final(job.state) and made:
                left.append(made)
        given_up = 0
        while left and (old or sum(3 * len(ids) for made in left for ids in made.values()) > most):
            made = left.pop(0)
            given_up += sum(map(len, made.values()))
            self.gone |= made.keys()
            self.done |= dict.fromkeys(made, frozenset())
        assert self.store.artifacts.expire(Keeping(0.0 if old else 1e9, most)) == given_up

    @rule(which=st.integers(0, 10**6), what=st.sampled_from(["all", "failed", "one"]))
    def work_is_done_then_given_up_and_then_asked_for_again(self, which: int, what: str) -> None:
        """In one go: by chance alone it hardly ever comes to that."""
        self.give_away()
        self.note_how_it_stands()
        if self.given:
            self.succeed(which, upload=True, late=False, wrong=0)
        self.note_how_it_stands()
        known = self.half_done()
        if not known:
            return
        job_id = known[which % len(known)]
        self.cancel([job.id for job in self.store.jobs.list()].index(job_id))
        self.note_how_it_stands()
        self.ended_jobs_are_given_up(old=True, most=1)
        self.retry([job.id for job in self.store.jobs.list() if is_final(job.state)].index(job_id), what)

    def note_how_it_stands(self) -> None:
        """What the invariants learn between two rules."""
        self.note_what_was_put_back()
        self.nothing_done_is_undone_and_no_epoch_falls()
        self.states_are_kept_until_their_task_is_done_or_given_up()

    def half_done(self) -> list[str]:
        """Jobs that have not succeeded, of which something is done and kept that is no video."""
        done = {one.job_id for one in self.all_tasks() if self.done.get(one.id) and one.kind != TaskKind.MUX}
        return [
            job.id for job in self.store.jobs.list() if job.state != JobState.SUCCEEDED and job.id in done
        ]

    @invariant()
    def nothing_is_kept_no_longer_that_an_unfinished_task_needs(self) -> None:
        found = self.rows(
            select(tasks.c.id, tasks.c.kind)
            .join(attempts, (attempts.c.task_id == tasks.c.id) & (attempts.c.epoch == tasks.c.epoch))
            .join(artifacts)
            .where(artifacts.c.state.in_(KEPT_NO_LONGER), tasks.c.state == TaskState.SUCCEEDED)
        )
        assert {row.id for row in found} == self.gone
        assert TaskKind.MUX not in {row.kind for row in found}, "videos stay"
        for task in self.all_tasks():
            if not is_final(task.state):
                assert not self.gone & set(self.needs(task.id))

    def made_again(self, again: set[str]) -> None:
        """These were put back by a retry, some of them because what they had made is gone."""
        for id in again & self.gone:
            assert any(id in self.needs(other) for other in again), "nobody needs it"
            del self.done[id]
            self.undone[id] += 1
        self.gone -= again
