"""Nodes that are drained, locked and forgotten, as the record keeps them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.policy.failures import Cause
from farm.records import DeviceRecord, DrainRecord, LockRecord
from farm.states import AttemptState, DrainState, NodeState, TaskState
from farm.store import Store
from farm.store.errors import NodeInUse, NotFound
from tests.farm.store.store_world import GIB, dispatch, finish, join, submit, task

TWO: dict[str, list[str]] = {"encode/0": [], "encode/1": []}


def drain_of(store: Store) -> DrainRecord:
    """Of the node n1, which must be drained."""
    drain = store.nodes.get("n1").drain
    assert drain is not None
    return drain


def attempt_of(store, job, key, **where):
    """Of a ready task, or None where the device is not to be given it."""
    wanted = task(store, job, key)
    return store.attempts.dispatch(
        wanted.id, wanted.epoch, where.get("node_id", "n1"), where.get("device", "d0"), 10.0
    )


def test_a_drained_node_takes_nothing_and_what_it_runs_is_finished(store):
    join(store)
    job = submit(store, TWO)
    running = dispatch(store, job, "encode/0")
    drain = store.nodes.drain("n1", reason="new card", asked_by="ana@ws3")
    assert drain == store.nodes.get("n1").drain
    assert (drain.state, drain.deadline, drain.is_due(1e12)) == (DrainState.DRAINING, None, False)
    assert attempt_of(store, job, "encode/1", device="d1") is None
    assert store.attempts.renew("n1", [running.ref], 20.0) == [running.ref]
    assert finish(store, running).committed
    assert store.nodes.left("n1") == []
    assert drain_of(store).state == DrainState.DRAINED
    told = [e.message for e in store.events.after(0) if e.kind in ("draining", "drained")]
    assert told == [
        "host-n1 is being drained by ana@ws3 (new card); what it runs is finished",
        "host-n1 is drained",
    ]


def test_what_was_thought_lost_is_still_finished_by_a_node_that_is_being_drained_or_locked(store):
    join(store)
    job = submit(store, TWO)
    running = dispatch(store, job, "encode/0", until=10.0)
    store.nodes.drain("n1")
    store.nodes.lock("n1")
    assert [lost.id for lost in store.attempts.expire(11.0)] == [running.id]
    assert store.attempts.renew("n1", [running.ref], 20.0) == [running.ref]


def test_a_resume_ends_a_drain_in_either_state_and_leaves_locks_alone(store):
    join(store)
    job = submit(store, TWO)
    store.nodes.lock("n1", "d1")
    for leave in (lambda: None, lambda: store.nodes.left("n1")):
        store.nodes.drain("n1")
        leave()
        assert store.nodes.resume("n1") == (True, [])
        assert store.nodes.get("n1").drain is None
    assert store.nodes.resume("n1") == (False, [])
    assert attempt_of(store, job, "encode/0", device="d1") is None
    assert attempt_of(store, job, "encode/0", device="d0")


def test_quarantine_of_one_device_is_ended_without_the_nodes_drain(store):
    join(store)
    store.nodes.drain("n1")
    assert store.nodes.resume("n1", "d1") == (False, [])
    assert store.nodes.get("n1").drain


def test_a_drain_asked_for_again_follows_the_last_wish_until_it_is_done(open_store):
    store = open_store(boot=lambda: 1000.0)
    join(store)
    store.nodes.drain("n1", 600.0, "moves house")
    drain = store.nodes.drain("n1", 0.0)
    assert (drain.grace, drain.deadline, drain.reason, drain.is_due(1000.0)) == (0.0, 1000.0, "", True)
    store.nodes.left("n1")
    assert store.nodes.drain("n1", 600.0, "again") == store.nodes.get("n1").drain
    assert drain_of(store).deadline == 1000.0


def test_what_runs_on_a_node_that_has_left_is_given_back_without_a_retry(store):
    join(store)
    job = submit(store, TWO)
    first, second = dispatch(store, job, "encode/0"), dispatch(store, job, "encode/1", device="d1")
    store.nodes.drain("n1", 0.0)
    (back,) = store.nodes.left("n1", [second.ref])
    assert (back.id, back.state, back.cause) == (first.id, AttemptState.LOST, Cause.GIVEN_BACK)
    assert drain_of(store).state == DrainState.DRAINING, "the end of the other is to come"
    assert finish(store, second).committed
    store.nodes.left("n1")
    assert drain_of(store).state == DrainState.DRAINED
    again = task(store, job, "encode/0")
    assert (again.state, again.failures, again.retry_at, again.failed_devices) == (
        TaskState.READY, 0, 0.0, frozenset(),
    )  # fmt: skip
    assert not store.attempts.succeed(first.id, 1, [], 1.0).committed


def test_a_node_that_left_unasked_is_not_called_drained(store):
    join(store)
    store.nodes.leaves("n1", "its agent is ending")
    job = submit(store, TWO)
    assert attempt_of(store, job, "encode/0") is None
    store.nodes.left("n1")
    assert store.nodes.get("n1").drain is None
    join(store)
    assert store.nodes.get("n1").reason == "" and attempt_of(store, job, "encode/0")


def test_a_drain_outlives_the_daemon_and_a_reboot_of_its_machine_makes_it_no_longer(url):
    with Store.lead(url, "test", boot=lambda: 90_000.0) as store:
        join(store)
        store.nodes.drain("n1", 600.0)
    with Store.lead(url, "test", boot=lambda: 90_100.0) as again:
        again.nodes.clock_began_anew()
        assert drain_of(again).deadline == 90_600.0
    with Store.lead(url, "test", boot=lambda: 50.0) as rebooted:
        rebooted.nodes.clock_began_anew()
        assert drain_of(rebooted).deadline == 650.0


@given(st.none() | st.floats(0, 1e6), st.floats(0, 1e9), st.floats(0, 1e9))
def test_without_a_deadline_no_drain_is_ever_due_and_with_one_it_stays_due(deadline, now, later):
    drain = DrainRecord(DrainState.DRAINING, "", "", 0.0, grace=deadline, deadline=deadline)
    assert drain.is_due(now) == (deadline is not None and now >= deadline)
    assert drain.is_due(now + later) or not drain.is_due(now)


def test_a_locked_device_takes_nothing_and_the_others_do(store):
    join(store)
    job = submit(store, TWO)
    running = dispatch(store, job, "encode/0")
    store.nodes.lock("n1", "d0", "renders a film of its own", "ana@ws3")
    node = store.nodes.get("n1")
    (kept, free) = node.devices
    assert kept.lock == LockRecord("renders a film of its own", "ana@ws3", kept.lock.since_at)
    assert kept.lock.since_at > 1_700_000_000 and free.lock is None and node.lock is None
    assert finish(store, running).committed
    assert attempt_of(store, job, "encode/1", device="d0") is None
    store.nodes.unlock("n1", "d0")
    assert attempt_of(store, job, "encode/1", device="d0")


def test_a_node_locked_as_a_whole_takes_nothing_until_all_of_it_is_unlocked(store):
    join(store)
    job = submit(store, TWO)
    store.nodes.lock("n1", "d0")
    store.nodes.lock("n1", reason="first")
    store.nodes.lock("n1", reason="second")
    assert store.nodes.get("n1").lock.reason == "second"
    assert attempt_of(store, job, "encode/0", device="d1") is None
    with pytest.raises(NodeInUse, match="farmctl node unlock host-n1"):
        store.nodes.unlock("n1", "d0")
    assert store.nodes.unlock("n1") == ["", "d0"]
    assert store.nodes.unlock("n1") == []
    assert attempt_of(store, job, "encode/0", device="d0")


def test_a_device_that_is_not_there_can_be_neither_locked_nor_unlocked_nor_resumed(store):
    join(store)
    for ask in (store.nodes.lock, store.nodes.unlock, store.nodes.resume):
        with pytest.raises(NotFound, match="no device of the node host-n1 'cuda9'"):
            ask("n1", "cuda9")
        with pytest.raises(NotFound, match=r"no device of the node host-n1 'd00'; did you mean 'd0'\?"):
            ask("n1", "d00")


def test_a_lock_outlives_the_nodes_hellos(store):
    join(store)
    store.nodes.lock("n1", "d1")
    join(store, boot_id="b2")
    assert store.nodes.get("n1").devices[1].lock


def test_only_a_node_that_is_away_and_runs_nothing_can_be_forgotten(store):
    join(store)
    job = submit(store, TWO)
    running = dispatch(store, job, "encode/0")
    with pytest.raises(NodeInUse, match="host-n1 is online; first run `farmctl node drain host-n1`"):
        store.nodes.forget("n1")
    store.nodes.offline("n1", "silent")
    with pytest.raises(NodeInUse, match="could still be rendering encode/0"):
        store.nodes.forget("n1")
    store.attempts.lose(running.id, 1, "silent")
    store.nodes.forget("n1")
    assert store.nodes.list() == []
    with pytest.raises(NotFound):
        store.nodes.get("n1")


def test_what_a_forgotten_node_did_is_shown_with_its_name(store):
    join(store)
    job = submit(store, TWO)
    finish(store, dispatch(store, job, "encode/0"))
    store.nodes.offline("n1", "silent")
    store.nodes.forget("n1")
    ((_, (attempt,)), _) = store.jobs.tasks(job.id)
    assert (attempt.node, attempt.device) == ("host-n1", "d0")
    assert [e.kind for e in store.events.after(0)][-1] == "forgotten"
    assert store.nodes.weights_of("ltx-tiny") == {}


def test_a_forgotten_node_comes_back_by_its_hello_as_if_it_were_new(store):
    join(store)
    submit(store, TWO)
    store.nodes.lock("n1")
    store.nodes.drain("n1")
    store.nodes.left("n1")
    assert store.nodes.get("n1").state == NodeState.ONLINE
    store.nodes.forget("n1")
    store.nodes.seen("n1", "r2")
    assert store.nodes.list() == [], "a late heartbeat is no hello"
    join(store, devices=[DeviceRecord("d0", "cpu", vram_bytes=8 * GIB)])
    (node,) = store.nodes.list()
    assert (node.state, node.drain, node.lock) == (NodeState.ONLINE, None, None)
    kinds = [e.kind for e in store.events.after(0) if e.node_id == "n1" and not e.job_id]
    assert kinds == ["joined", "locked", "draining", "drained", "forgotten", "joined"]


def test_a_reboot_leaves_the_ends_that_the_node_kept_to_be_told(store):
    join(store)
    job = submit(store, TWO)
    kept, lost = dispatch(store, job, "encode/0"), dispatch(store, job, "encode/1", device="d1")
    devices = [DeviceRecord(f"d{i}", "cpu") for i in range(2)]
    found = store.nodes.hello("n1", "ws7", "127.0.0.1", "0.1.0", "b2", devices, held=[kept.ref])
    assert [one.id for one in found] == [lost.id]
    assert finish(store, kept).committed, "nothing is rendered again that was finished"
