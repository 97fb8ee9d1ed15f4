"""PostgreSQL is stopped, crashed and killed under load: what was acknowledged is there, nothing is half done."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import create_engine, select, text

from farm.records import ArtifactState
from farm.states import JobState
from farm.store import Store
from farm.store.errors import DatabaseAway
from farm.store.tables import artifacts, attempts, events, tasks
from tests.farm.store.store_world import SMALL, join, plan, spec, stage

WORKERS = 4
SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)


class Work:
    """Makes jobs and does their tasks, as clients and agents do: what is refused for now is asked again."""

    def __init__(self, store: Store):
        self.store = store
        self.refused: Counter[str] = Counter()
        self.done: list[str] = []
        self.enough = threading.Event()

    def ask(self, verb, *arguments, **fields):
        while True:
            try:
                return verb(*arguments, **fields)
            except DatabaseAway:
                self.refused[verb.__name__] += 1
                time.sleep(0.05)

    def until_enough(self, worker: int) -> None:
        number = 0
        while not self.enough.is_set():
            key = f"{worker}-{number}"
            job, _ = self.ask(self.store.jobs.submit, spec(), plan(SMALL), idempotency_key=key)
            for task_key in SMALL:
                self.run(job.id, task_key, f"n{worker}")
            self.done.append(job.id)
            number += 1

    def run(self, job_id: str, key: str, node: str) -> None:
        task = next(t for t, _ in self.ask(self.store.jobs.tasks, job_id) if t.key == key)
        attempt = self.ask(self.store.attempts.dispatch, task.id, task.epoch, node, "d0", 1e9)
        if attempt is None:
            # Its commit was taken and the answer lost: the loop finds what it gave away.
            (attempt,) = self.ask(self.store.attempts.live, node)
        assert attempt.task_key == key
        made = self.ask(stage, self.store, attempt, "video" if key == "mux" else "latents")
        assert self.ask(self.store.attempts.succeed, attempt.id, attempt.epoch, [made], seconds=1.0).committed


def test_a_database_that_restarts_under_load_loses_nothing_and_does_nothing_twice(own_postgres):
    engine = create_engine(own_postgres.url.format(name="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE restarted"))
    engine.dispose()
    with Store.lead(own_postgres.url.format(name="restarted"), "the test") as store:
        for worker in range(WORKERS):
            join(store, f"n{worker}")
        work = Work(store)
        with ThreadPoolExecutor(WORKERS) as pool:
            workers = [pool.submit(work.until_enough, number) for number in range(WORKERS)]
            for number in SIGNALS:
                before = sum(work.refused.values())
                own_postgres.stop(number)
                deadline = time.monotonic() + 30
                while sum(work.refused.values()) == before and time.monotonic() < deadline:
                    time.sleep(0.01)
                own_postgres.start()
                time.sleep(0.5)
            work.enough.set()
            for one in workers:
                one.result(60)
        assert sum(work.refused.values()) >= len(SIGNALS), "it was under load"
        work.ask(store.keep_leading)
        jobs = store.jobs.list(limit=1000)
        assert {job.id for job in jobs} == set(work.done) and len(work.done) >= WORKERS
        assert {job.state for job in jobs} == {JobState.SUCCEEDED}
        with store._database.read() as connection:
            assert len(connection.execute(select(tasks.c.id)).all()) == len(SMALL) * len(jobs)
            assert len(connection.execute(select(attempts.c.id)).all()) == len(SMALL) * len(jobs), "each once"
            counted = select(artifacts.c.attempt_id).where(artifacts.c.state == ArtifactState.COMMITTED)
            assert Counter(connection.scalars(counted)) == Counter(connection.scalars(select(attempts.c.id)))
            told = select(events.c.job_id).where(events.c.kind == "finished")
            assert Counter(connection.scalars(told)) == Counter(work.done)
