"""The dispatch loop on a real record and real files: who is given nothing, for how long, and what is said of it."""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from farm.artifacts import ArtifactStore, Unwritable
from farm.config import Leases
from farm.policy.failures import Cause
from farm.records import DeviceRecord
from farm.states import AttemptState, JobState, NodeState
from farm.store import Store
from farm.store.errors import DatabaseAway
from farmd.fits import Fits
from scheduler.dispatch.backend import BackendEvent, BackendSays, RendererRef
from scheduler.dispatch.commands import Leave, RenewRaylet, Return, StopAttempt
from scheduler.dispatch.job_watchers import JobWatchers
from scheduler.dispatch.loop import GRACE_SECONDS, Dispatcher
from scheduler.dispatch.sessions import Session, Sessions
from tests.farm.store.store_world import GIB, join, stage, submit, task

ONE: dict[str, list[str]] = {"encode": []}


class Renderers:
    """A backend that takes everything and does nothing."""

    def __init__(self) -> None:
        self.address, self.outdated, self.renewed = "", "", 0
        self.given: list[tuple[str, str, int]] = []
        self.payloads: list[dict] = []
        self.started: list[str] = []

    async def start_renderer(self, renderer: RendererRef) -> None:
        self.started.append(renderer.device)

    async def dispatch(self, renderer: RendererRef, attempt_id: str, epoch: int, payload: bytes) -> None:
        self.given.append((renderer.device, attempt_id, epoch))
        self.payloads.append(json.loads(payload))

    async def events(self) -> AsyncIterator[BackendEvent]:
        return
        yield

    async def renew(self) -> None:
        self.outdated, self.renewed = "", self.renewed + 1
        self.address = f"10.0.0.7:{self.renewed}"


class Farm:
    """One node with devices d0, d1 and so on, whose clock stands still unless it is moved."""

    def __init__(self, folder, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr("scheduler.dispatch.loop.boottime", lambda: self.now)
        self.store = Store.lead(f"sqlite:///{folder}/farm.db", "test", boot=lambda: self.now)
        self.files = ArtifactStore(str(folder / "artifacts"))
        self.renderers, self.sessions = Renderers(), (sessions := Sessions())
        self.offer(2)
        self.session = Session("n1", self.now, ray_node_id="r1", renderers={"d0", "d1", "d2", "d3"})
        sessions.open(self.session)
        self._dispatcher = Dispatcher(
            self.store, self.files, self.renderers, sessions, JobWatchers(), Leases(), {}
        )

    def offer(self, count: int) -> None:
        """The node has so many devices."""
        devices = [DeviceRecord(f"d{number}", "cpu", vram_bytes=8 * GIB) for number in range(count)]
        join(self.store, name="ws7", ray_node_id="r1", devices=devices)

    def look(self, after: float = 0.0, *, quiet: bool = True) -> list[tuple[str, str, int]]:
        """What is given away in one look, as (device, attempt, epoch)."""
        self.now += after
        before = len(self.renderers.given)
        asyncio.run(self._dispatcher.tick(quiet=quiet))
        return self.renderers.given[before:]


@pytest.fixture
def farm(tmp_path, monkeypatch):
    farm = Farm(tmp_path, monkeypatch)
    farm.look()
    farm.now += 10.0  # its renderers are ready
    yield farm
    farm.store.close()


def test_a_task_that_failed_waits_its_time_and_goes_to_another_device(farm):
    job = submit(farm.store, ONE)
    ((first, attempt, epoch),) = farm.look()
    farm.store.attempts.fail(attempt, epoch, "ValueError: bad")
    assert farm.look() == farm.look(0.9) == []
    assert task(farm.store, job, "encode").reason == "is tried again after 1 s, because of: ValueError: bad"
    ((second, _, _),) = farm.look(0.2)
    assert {first, second} == {"d0", "d1"}


def test_a_lost_task_is_given_away_at_once(farm):
    submit(farm.store, ONE)
    ((_, attempt, epoch),) = farm.look()
    farm.store.attempts.lose(attempt, epoch, "its renderer died", Cause.RENDERER_DIED)
    assert len(farm.look()) == 1


def doubt(farm, attempt: str, epoch: int) -> None:
    """The backend can't tell whether the attempt arrived."""
    renderer = RendererRef("n1", "r1", "d0")
    event = BackendEvent(BackendSays.UNKNOWN, renderer, attempt, epoch, "connection timed out")
    asyncio.run(farm._dispatcher._take(event))


def test_a_task_that_may_not_have_arrived_is_requeued_once_its_node_does_not_name_it(farm):
    submit(farm.store, ONE)
    ((_, attempt, epoch),) = farm.look()
    doubt(farm, attempt, epoch)
    assert farm.look(30) == [], "nothing is known while the node is cut off"
    farm.session.heard_at = farm.now
    assert len(farm.look()) == 1
    assert farm.store.attempts.get(attempt).error == "it did not arrive: connection timed out"


def test_a_task_that_arrived_all_the_same_is_left_where_it_is(farm):
    submit(farm.store, ONE)
    ((_, attempt, epoch),) = farm.look()
    doubt(farm, attempt, epoch)
    farm.session.heard_at = farm.now + 3.9
    assert farm.look(3.9) == []
    farm.store.attempts.renew("n1", [(attempt, epoch)], farm.now + 10_000)
    farm.session.heard_at = farm.now + 60
    assert farm.look(60) == []
    assert [one.id for one in farm.store.attempts.live()] == [attempt]


def test_nothing_is_started_while_artifacts_cannot_be_stored(farm, tmp_path):
    job = submit(farm.store)
    shutil.move(farm.files.root, tmp_path / "away")
    with pytest.raises(Unwritable):
        farm.files.begin(farm.files.location_for("a1"))
    assert farm.look() == farm.look(3600) == []
    reason = task(farm.store, job, "encode").reason
    assert reason.startswith("nothing is started, because artifacts can't be stored in ")
    assert reason.endswith("the artifacts' folder no longer exists, or its disk is not mounted")
    shutil.move(tmp_path / "away", farm.files.root)
    assert len(farm.look()) == 1


def test_a_task_that_makes_no_step_is_cancelled_with_a_deadline_for_its_renderer(farm):
    submit(farm.store, ONE)
    ((_, attempt, epoch),) = farm.look()
    farm.store.attempts.renew("n1", [(attempt, epoch)], farm.now + 10_000)
    assert farm.look(1799) == [] and farm.session.outbox.empty()
    farm.look(2)
    stop = farm.session.outbox.get_nowait()
    assert stop == StopAttempt(attempt, epoch, stop.reason, GRACE_SECONDS)
    assert "timeouts.no_progress" in stop.reason
    assert farm.store.attempts.get(attempt).cause == Cause.TIMEOUT


def test_a_job_that_times_out_for_the_last_time_has_its_other_work_stopped(farm):
    farm.offer(4)
    job = submit(farm.store, {"encode/0": [], "encode/1": []})
    for _ in range(2):
        for _, attempt, epoch in farm.look(120):
            if farm.store.attempts.get(attempt).task_key == "encode/0":
                farm.store.attempts.fail(attempt, epoch, "bad")
            else:
                farm.store.attempts.renew("n1", [(attempt, epoch)], 1e9)
                other = attempt
    for _, attempt, epoch in farm.look(120):
        farm.store.attempts.renew("n1", [(attempt, epoch)], 1e9)
    farm.store.attempts.progress(other, 1, 0, 9)
    farm.now += 1500
    farm.store.attempts.progress(other, 1, 1, 9)
    farm.look(400)
    assert farm.store.jobs.get(job.id).state == JobState.FAILED
    said = {stop.attempt_id: stop.reason for stop in emptied(farm.session.outbox)}
    assert said[other] == "the job has failed" and "no_progress" in said[attempt]


def test_a_device_in_quarantine_is_given_nothing_and_the_way_back_is_named(farm):
    farm.offer(1)
    for _ in range(3):
        job = submit(farm.store, ONE)
        ((_, attempt, epoch),) = farm.look()
        farm.store.attempts.fail(attempt, epoch, "CUDA error: an illegal memory access")
        farm.store.jobs.cancel(job.id)
    job = submit(farm.store, ONE)
    assert farm.look() == []
    reason = task(farm.store, job, "encode").reason
    assert (
        "ws7/d0 is in quarantine (`farmctl node resume ws7`): tasks of 3 jobs failed on this device" in reason
    )
    farm.store.nodes.resume("n1", "d0")
    assert len(farm.look()) == 1


def running(farm) -> tuple[str, int]:
    """An attempt that its node has begun."""
    submit(farm.store, ONE)
    ((_, attempt, epoch),) = farm.look()
    farm.store.attempts.renew("n1", [(attempt, epoch)], farm.now + 10_000)
    return attempt, epoch


def wishes(farm) -> list[str]:
    """What the node was told since, in words."""
    said = []
    while not farm.session.outbox.empty():
        match farm.session.outbox.get_nowait():
            case StopAttempt(reason=reason, keep_state=keeping):
                said.append(reason + ", keeping its state" if keeping else reason)
            case Leave():
                said.append("leave")
            case Return():
                said.append("return")
            case other:
                said.append(repr(other))
    return said


def test_a_node_that_is_drained_finishes_what_it_runs_then_leaves_and_comes_back_when_resumed(farm):
    attempt, epoch = running(farm)
    farm.store.nodes.drain("n1")
    other = submit(farm.store, ONE)
    assert farm.look(600) == [] and wishes(farm) == []
    reason = task(farm.store, other, "encode").reason
    assert "ws7/d0 is being drained (`farmctl node resume ws7`)" in reason
    farm.store.attempts.succeed(attempt, epoch, [], 1.0)
    farm.look()
    farm.look()
    assert wishes(farm) == ["leave"], "told once"
    farm.session.renderers.clear()
    farm.store.nodes.left("n1")
    farm.look(10)
    assert farm.renderers.started == []
    farm.store.nodes.resume("n1")
    farm.look()
    assert wishes(farm) == ["return"]
    assert farm.renderers.started == ["d0", "d1"]


def test_at_the_deadline_what_runs_is_stopped_and_what_never_began_is_at_once_for_others(farm):
    attempt, _ = running(farm)
    submit(farm.store, ONE)
    ((_, waiting, _),) = farm.look()
    farm.store.nodes.drain("n1", 60.0)
    farm.look(59)
    assert wishes(farm) == []
    farm.look(1)
    farm.look(1)
    assert wishes(farm) == ["cancelled for drain, keeping its state", "cancelled for drain"]
    assert farm.store.attempts.get(waiting).cause == Cause.GIVEN_BACK
    assert [one.id for one in farm.store.attempts.live()] == [attempt], "until its node says that it stopped"
    farm.look(15)
    ended = farm.store.attempts.get(attempt)
    assert (ended.cause, ended.error) == (Cause.GIVEN_BACK, "cancelled for drain")


def test_an_agent_that_said_it_would_end_is_known_to_be_away_with_its_stream(farm):
    farm.session.leaving = True
    farm.sessions.close(farm.session)
    asyncio.run(farm._dispatcher.tick())
    node = farm.store.nodes.get("n1")
    assert (node.state, node.reason) == (NodeState.OFFLINE, "is offline, because its agent was stopped")


def test_a_node_that_falls_silent_while_the_record_cannot_be_written_is_named_once(farm):
    def said() -> int:
        return [entry["event"] for entry in lines].count("node offline")

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with capture_logs() as lines:
        farm.now += 60.0
        try:
            # No file grows any more, as on a full disk.
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
            for _ in range(3):
                with pytest.raises(DatabaseAway):
                    farm.look(3.0, quiet=False)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert said() == 0
        for _ in range(3):
            farm.look(3.0, quiet=False)
    assert said() == 1 and farm.store.nodes.get("n1").state == NodeState.OFFLINE


def test_a_locked_device_is_passed_over_and_says_why(farm):
    farm.store.nodes.lock("n1", "d0", "a film of its own")
    job = submit(farm.store, {"encode/0": [], "encode/1": []})
    assert [device for device, _, _ in farm.look()] == ["d1"]
    farm.store.nodes.lock("n1", "d1")
    farm.look()
    for one in farm.store.attempts.live():
        farm.store.attempts.lose(one.id, one.epoch, "")
    farm.look()
    reason = task(farm.store, job, "encode/0").reason
    assert "ws7/d0 is locked (`farmctl node unlock ws7`): a film of its own" in reason


def test_whoever_gets_a_stopped_task_is_told_where_to_go_on(farm):
    submit(farm.store, ONE)
    ((_, attempt, epoch),) = farm.look()
    assert farm.renderers.payloads[-1]["state"] is None
    kept = stage(farm.store, farm.store.attempts.get(attempt), "state")
    farm.store.attempts.stop(attempt, epoch, [kept], "its owner is back")
    assert len(farm.look()) == 1, "at once"
    assert farm.renderers.payloads[-1]["state"] == {"id": kept, "sha256": "0" * 64, "size": 3}


def test_a_node_that_its_owner_wants_is_given_nothing_and_no_renderer_is_started_there(farm):
    job = submit(farm.store, ONE)
    farm.session.renderers.clear()
    farm.store.nodes.seen("n1", "r1", owner_reason="has quiet hours now (22:00-06:00)")
    assert farm.look() == farm.look(100) == [] and farm.renderers.started == []
    assert "ws7/d0 has quiet hours now (22:00-06:00)" in task(farm.store, job, "encode").reason
    farm.store.nodes.seen("n1", "r1")
    farm.look()
    assert farm.renderers.started == ["d0", "d1"]


def test_nothing_is_given_and_no_renderer_started_where_the_raylet_ended(farm):
    job = submit(farm.store, ONE)
    farm.store.nodes.seen("n1", ray_node_id="")
    assert farm.look() == [] and farm.renderers.started == []
    assert "ws7/d0 is starting Ray" in task(farm.store, job, "encode").reason


@pytest.mark.parametrize(("seconds", "device"), [(1.0, "d1"), (10.0, "d0")])
def test_a_renderer_that_has_just_come_up_has_time_to_import_what_it_needs(farm, seconds, device):
    farm.session.renderers.discard("d0")
    farm.look()
    farm.session.renderers.add("d0")
    farm.look()
    submit(farm.store, ONE)
    ((chosen, _, _),) = farm.look(seconds)
    assert chosen == device


def test_a_backend_begun_with_other_settings_is_made_anew_where_nothing_runs(farm):
    farm.renderers.outdated = "--node-ip=127.0.0.1 is now --node-ip=10.0.0.7"
    submit(farm.store, ONE)
    assert farm.look() == [] and farm.renderers.renewed == 1
    assert farm.session.outbox.get_nowait() is None, "its nodes come back and are told where it is"
    assert farm.look() == [], "until then they name raylets of the one that is gone"
    farm.store.nodes.seen("n1", ray_node_id="r2")
    assert len(farm.look()) == 1


def test_what_runs_is_given_back_before_that(farm):
    job = submit(farm.store, ONE)
    ((_, attempt, epoch),) = farm.look()
    farm.store.attempts.renew("n1", [(attempt, epoch)], farm.now + 10.0)
    farm.renderers.outdated = "--node-ip=127.0.0.1 is now --node-ip=10.0.0.7"
    submit(farm.store, ONE)
    assert farm.look() == farm.look(1.0) == [] and farm.renderers.renewed == 0
    told = [one for one in emptied(farm.session.outbox) if isinstance(one, StopAttempt)]
    assert [(one.attempt_id, one.keep_state) for one in told] == [(attempt, True)], (
        "once, and it keeps its state"
    )
    farm.store.attempts.stop(attempt, epoch, [], told[0].reason)
    assert farm.look(1.0) == [] and farm.renderers.renewed == 1
    farm.store.nodes.seen("n1", ray_node_id="r2")
    assert len(farm.look(1.0)) == 2
    assert task(farm.store, job, "encode").state.value == "running"


def emptied(outbox: asyncio.Queue) -> list:
    return [outbox.get_nowait() for _ in range(outbox.qsize())]


def test_an_attempt_that_no_renderer_works_on_is_ended_after_two_leases(farm):
    submit(farm.store, ONE)
    ((_, attempt, epoch),) = farm.look()
    # What should never be: a lease that goes on and on, of an attempt that its node doesn't name.
    farm.store.attempts.renew("n1", [(attempt, epoch)], farm.now + 1e6)
    farm.session.held = frozenset({(attempt, epoch)})
    for _ in range(5):
        farm.look(10.0, quiet=False)
    assert farm.store.attempts.get(attempt).state is AttemptState.RUNNING, "its node has it"
    farm.session.held = frozenset({(attempt, epoch - 1)})
    ends = farm.now + 30.0
    while farm.store.attempts.get(attempt).state is AttemptState.RUNNING:
        assert farm.now <= ends
        farm.session.heard_at = farm.now
        farm.look(5.0, quiet=False)
    assert farm.store.attempts.get(attempt).error == "no renderer was working on it"


def test_a_device_that_gets_no_renderer_says_why_and_its_raylet_is_made_anew(farm):
    farm.session.renderers.discard("d1")
    submit(farm.store, ONE)
    farm.look()
    assert farm.sessions.trouble_of("n1", "d1") == ""
    for raylet, words in (("r0", "its node has died"), ("r1", "its worker can't be started")):
        farm._dispatcher._hear(BackendEvent(BackendSays.DIED, RendererRef("n1", raylet, "d1"), "", 0, words))
        assert raylet == "r1" or farm._dispatcher._starting.trouble(("n1", "d1"), farm.now) == "", (
            "an earlier raylet's"
        )
    farm.look(40.0)
    said = "Ray said: its worker can't be started"
    assert farm.sessions.trouble_of("n1", "d1") == said and farm.sessions.trouble_of("n1", "d0") == ""
    fits = Fits(farm.store, farm.sessions.has_renderer, farm.sessions.trouble_of)
    reasons = {fit.device: fit.reason for fit in fits.fit([]).devices}
    assert reasons["ws7/d1"] == f"has no renderer up: {said}"

    def wishes() -> list[RenewRaylet]:
        return [one for one in emptied(farm.session.outbox) if isinstance(one, RenewRaylet)]

    def wait() -> None:
        for _ in range(5):
            farm.session.heard_at = farm.now
            farm.look(20.0)

    wait()
    assert wishes() == [], "its raylet has started the other's"
    farm.session.renderers.discard("d0")
    wait()
    assert [(one.ray_node_id, "its worker" in one.reason) for one in wishes()] == [("r1", True)]
    farm.session.renderers.add("d1")
    farm.look(1.0)
    assert farm.sessions.trouble_of("n1", "d1") == ""
