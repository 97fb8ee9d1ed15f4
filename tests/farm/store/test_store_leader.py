"""One process leads the farm in a database: real processes, killed, stopped and cut off."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest
from sqlalchemy import create_engine, make_url, text

from farm.clock import boottime
from farm.store import Store
from farm.store.errors import DatabaseAway, Deposed, LedByAnother
from tests.farm.store.leader_process import leading
from tests.farm.store.store_world import dispatch, join, stage, submit
from tests.pipes import out_of


def events(store: Store) -> int:
    """How many were ever taken."""
    return len(store.events.after(0))


def cut_off(url: str) -> None:
    """Ends every other connection to the database."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    engine.dispose()


def test_while_a_leader_lives_another_is_refused_and_told_who_it_is(url):
    with leading(url) as first:
        with pytest.raises(
            LedByAnother, match=rf"led by the test's leader, pid {first.pid} on .*end that one"
        ):
            Store.lead(url, "another")
        before = int(out_of(first).readline())
        assert int(out_of(first).readline()) == before + 1, "the first writes on"


def test_when_a_leader_was_killed_the_next_leads_at_once(url):
    with leading(url) as first:
        told = out_of(first).readline()
        first.kill()
        first.wait()
        taken = int((told + out_of(first).read()).split()[-1])
    began = time.monotonic()
    with Store.lead(url, "the next") as store:
        assert time.monotonic() - began < 2.0
        assert events(store) in (taken, taken + 1), "what was told is there, and nothing is there twice"
        submit(store)


def test_a_stopped_leader_keeps_its_place(url):
    with leading(url) as first:
        first.send_signal(signal.SIGSTOP)
        with pytest.raises(LedByAnother):
            Store.lead(url, "another")
        first.send_signal(signal.SIGCONT)
        assert out_of(first).readline()


def test_a_stopped_leader_that_lost_its_lock_commits_nothing_more_and_ends(url):
    with leading(url) as first:
        first.send_signal(signal.SIGSTOP)
        if url.startswith("sqlite"):
            # The only way to take a file's lock from a living process.
            os.unlink(f"{make_url(url).database}.lock")
        else:
            cut_off(url)
        with Store.lead(url, "the second") as second:
            before = events(second)
            first.send_signal(signal.SIGCONT)
            _, said = first.communicate(timeout=30)
            assert (
                first.returncode == 1
                and "the second leads the farm in this database now (epoch 3, ours was 2)" in said
            )
            assert events(second) == before
            submit(second)


def test_every_write_of_a_deposed_leader_is_refused_and_it_is_told_when_it_asks(open_store):
    store = open_store()
    store.keep_leading()
    submit(store)
    with store._database.write() as transaction:
        transaction.connection.execute(text("UPDATE leader SET epoch = epoch + 1, who = 'the other'"))
    with pytest.raises(Deposed, match="the other leads"):
        submit(store)
    with pytest.raises(Deposed):
        store.keep_leading()
    assert len(store.jobs.list()) == 1


def test_no_verb_of_a_deposed_leader_is_done(open_store):
    store = open_store()
    join(store)
    join(store, "n2")
    store.nodes.offline("n2", "silent")
    ended, job = submit(store), submit(store)
    store.jobs.cancel(ended.id)
    one = dispatch(store, job, "encode")
    log = {"filename": "log.txt", "size": 1, "sha256": "0" * 64, "location": "a/log", "artifact_id": "a-log"}
    verbs = [
        lambda: store.jobs.cancel(job.id),
        lambda: store.jobs.pause(job.id),
        lambda: store.jobs.prioritise(job.id, 90),
        lambda: store.jobs.retry(ended.id),
        lambda: store.tasks.set_reasons({one.task_id: "why"}),
        lambda: store.attempts.renew("n1", [one.ref], 99.0),
        lambda: store.attempts.progress(*one.ref, 1, 8),
        lambda: store.attempts.succeed(*one.ref, [], 1.0),
        lambda: store.attempts.fail(*one.ref, "bad"),
        lambda: store.attempts.lose(*one.ref, "silent"),
        lambda: store.attempts.lacks_input(*one.ref, ["a-1"], "gone"),
        lambda: store.attempts.stop(*one.ref, [], "its owner is back"),
        lambda: store.attempts.time_out(boottime() + 1e6),
        lambda: store.attempts.expire(1e9),
        lambda: store.attempts.extend_all(99.0),
        lambda: store.nodes.seen("n1"),
        lambda: store.nodes.offline("n1", "silent"),
        lambda: store.nodes.drain("n1", 60.0),
        lambda: store.nodes.resume("n1"),
        lambda: store.nodes.lock("n1"),
        lambda: store.nodes.unlock("n1"),
        lambda: store.nodes.leaves("n1", "its agent ends"),
        lambda: store.nodes.left("n1"),
        lambda: store.nodes.forget("n2"),
        lambda: store.nodes.clock_began_anew(),
        lambda: store.artifacts.keep_log(attempt_id=one.id, epoch=1, **log),
        lambda: stage(store, one),
    ]
    before = store.jobs.tasks(job.id), store.jobs.get(ended.id), store.nodes.list()
    with store._database.write() as transaction:
        transaction.connection.execute(text("UPDATE leader SET epoch = epoch + 1, who = 'the other'"))
    for verb in verbs:
        with pytest.raises(Deposed):
            verb()
    assert (store.jobs.tasks(job.id), store.jobs.get(ended.id), store.nodes.list()) == before


def test_a_leader_whose_connections_were_cut_takes_its_lock_again(postgres_database):
    url = postgres_database
    with Store.lead(url, "the first") as store:
        submit(store)
        cut_off(url)
        for _ in range(3):
            with contextlib.suppress(DatabaseAway):
                store.keep_leading()
        with pytest.raises(LedByAnother, match="led by the first"):
            Store.lead(url, "another")
        submit(store)


def test_a_store_that_does_not_lead_only_looks(url):
    with leading(url), Store.open(url) as store:
        assert events(store)
        with pytest.raises(RuntimeError, match="only the process that leads the farm may write"):
            submit(store)
