"""The calls that a farm makes to its record all day. benchmarks/age.py times them, and its tests explain them.

Every path goes through the farm's own code: its services, its dispatch loop, its collectors. Only the renderers and
the network are missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from age_history import NODES, node_name

from farm.artifacts import ArtifactStore
from farm.clock import boottime
from farm.config import Leases
from farm.plugins import catalogue, planning_plugins
from farm.policy.retention import Keeping
from farm.records import JobRecord
from farm.states import JobState
from farm.store.store import Store
from farm.v1 import jobs_pb2, nodes_pb2, tasks_pb2
from farmd.api.jobs import JobService
from farmd.api.nodes import NodeService, NodeTerms
from farmd.api.tasks import TaskService
from farmd.collecting import collect
from farmd.fits import Fits
from scheduler.dispatch.backend import Backend, BackendEvent, RendererRef
from scheduler.dispatch.job_watchers import JobWatchers
from scheduler.dispatch.loop import Dispatcher
from scheduler.dispatch.sessions import Session, Sessions

KEEPING = Keeping(seconds=1e9, max_bytes=2**60)
"""Ended jobs keep everything: collectors look and find nothing to do."""

ABSENT: Any = None
"""Stands for the caller and the farm's keys, which the timed calls don't read."""

FULL_PAGE = "list a full page"
"""A path on which an old farm shows more jobs than a new one has."""


class NoRenderers:
    """A backend that takes everything and does nothing."""

    address = outdated = ""

    async def renew(self) -> None:
        """Does nothing: this backend starts no Ray."""

    async def start_renderer(self, renderer: RendererRef) -> None:
        """Makes none."""

    async def dispatch(self, renderer: RendererRef, attempt_id: str, epoch: int, payload: bytes) -> None:
        """Drops it."""

    async def events(self) -> AsyncIterator[BackendEvent]:
        """Notices nothing."""
        return
        yield


class Farm:
    """A farm's services and dispatch loop on a store, with a connected session for each of its nodes."""

    def __init__(self, store: Store, folder: Path, backend: Backend | None = None):
        self.store, self.files = store, ArtifactStore(str(folder))
        self.sessions, changes = Sessions(), JobWatchers()
        terms = NodeTerms(
            lambda: "127.0.0.1:1", lambda: "t", heartbeat=2.0, lease=3600.0, servers=lambda: ((), ())
        )
        knows_plugins: Any = SimpleNamespace(catalogue=catalogue(planning_plugins()))
        fits = Fits(store, lambda node_id, device: True, lambda node_id, device: "")
        self.jobs = JobService(store, knows_plugins, changes, _nothing, self.sessions.stop, fits)
        self.tasks = TaskService(store, self.files, self.sessions, changes, _nothing)
        self.nodes = NodeService(store, self.files, ABSENT, self.sessions, changes, terms, _nothing)
        for number in range(NODES):
            session = Session(
                node_name(number), boottime(), ray_node_id=f"ray-{number:02}", renderers={"cuda:0"}
            )
            self.sessions.open(session)
        self.dispatcher = Dispatcher(
            store, self.files, backend or NoRenderers(), self.sessions, changes, Leases(), {}
        )

    async def heartbeat(self, number: int) -> None:
        """Take the heartbeat of a node that holds all it was given."""
        session = self.sessions.get(node_name(number))
        assert session is not None  # opened with the farm
        session.heard_at = boottime()
        held = await asyncio.to_thread(self.store.attempts.live, session.node_id)
        said = [nodes_pb2.AttemptRef(attempt_id=one.id, epoch=one.epoch) for one in held]
        await self.nodes._renew(nodes_pb2.Heartbeat(attempts=said, ray_node_id=session.ray_node_id), session)


def timed(farm: Farm, live: list[JobRecord]) -> dict[str, Callable[[], Any]]:
    """The paths that people and nodes wait for, by the names that the benchmark prints."""
    job_id = live[0].id
    return {
        "ready": farm.store.tasks.ready,
        "list_jobs": lambda: asyncio.run(farm.jobs.ListJobs(jobs_pb2.ListJobsRequest(limit=100), ABSENT)),
        "get_job": lambda: asyncio.run(farm.jobs.GetJob(jobs_pb2.GetJobRequest(job_id=job_id), ABSENT)),
        "heartbeat": lambda: asyncio.run(farm.heartbeat(0)),
        "why": lambda: asyncio.run(farm.jobs.ExplainJob(jobs_pb2.ExplainJobRequest(job_id=job_id), ABSENT)),
    }


def daily(farm: Farm, live: list[JobRecord]) -> dict[str, Callable[[], Any]]:
    """All paths that a farm goes daily, `timed` ones too."""
    job_id, store = live[0].id, farm.store
    task_id = store.jobs.tasks(job_id)[0][0].id
    listed = {
        "all": jobs_pb2.ListJobsRequest(limit=100),
        "of one state": jobs_pb2.ListJobsRequest(states=[jobs_pb2.JOB_STATE_RUNNING], limit=20),
        "of a rare state": jobs_pb2.ListJobsRequest(states=[jobs_pb2.JOB_STATE_PAUSED], limit=20),
        "of several states": jobs_pb2.ListJobsRequest(
            states=[jobs_pb2.JOB_STATE_RUNNING, jobs_pb2.JOB_STATE_QUEUED, jobs_pb2.JOB_STATE_PAUSED],
            limit=20,
        ),
        "a later page": jobs_pb2.ListJobsRequest(limit=20, before=live[50].id),
        "a later page of a state": jobs_pb2.ListJobsRequest(
            states=[jobs_pb2.JOB_STATE_QUEUED], limit=20, before=live[50].id
        ),
    }
    tasks = {
        "tasks": tasks_pb2.ListTasksRequest(job_id=job_id),
        "ready tasks": tasks_pb2.ListTasksRequest(job_id=job_id, states=[jobs_pb2.TASK_STATE_READY]),
    }
    return (
        timed(farm, live)
        | {
            f"list: {what}": lambda r=r: asyncio.run(farm.jobs.ListJobs(r, ABSENT))
            for what, r in listed.items()
        }
        | {what: lambda r=r: asyncio.run(farm.tasks.ListTasks(r, ABSENT)) for what, r in tasks.items()}
        | {
            "get_task": lambda: asyncio.run(
                farm.tasks.GetTask(tasks_pb2.GetTaskRequest(task=f"{job_id}/window/0"), ABSENT)
            ),
            "outputs": lambda: asyncio.run(
                farm.jobs.ListOutputs(jobs_pb2.ListOutputsRequest(job_id=job_id), ABSENT)
            ),
            "by the beginning of an id": lambda: store.lookup.job(job_id[:-1]),
            "by name": lambda: store.lookup.job(live[1].spec.name),
            "a task by its job's name": lambda: store.lookup.task(f"{live[1].spec.name}/window/0"),
            "a task by the beginning of its id": lambda: store.lookup.task(task_id[:-1]),
            "watch": lambda: store.events.after(0, job_id),
            "diary": lambda: store.events.after(1 << 40),
            "nodes": store.nodes.list,
            "lead": store.keep_leading,
            "start": lambda: _start(store),
            "tick": lambda: asyncio.run(farm.dispatcher.tick(quiet=True)),
            "silence": lambda: store.attempts.expire(0.0),
            "collect": lambda: collect(store, farm.files, KEEPING),
        }
    )


def steering(farm: Farm, live: list[JobRecord]) -> dict[str, Callable[[], Any]]:
    """The verbs that people use on a job. Each verb restores the job, or uses a job of its own."""
    store, job_id = farm.store, live[-1].id
    return {
        "pause": lambda: (store.jobs.pause(job_id), store.jobs.resume(job_id)),
        "priority": lambda: store.jobs.prioritise(job_id, 60),
        "cancel": lambda: store.jobs.cancel(live[-2].id),
        "retry": lambda: store.jobs.retry(live[-2].id),
        FULL_PAGE: lambda: store.jobs.list(limit=1000),
        "list ended jobs": lambda: store.jobs.list([JobState.SUCCEEDED, JobState.FAILED], 50),
    }


def _start(store: Store) -> None:
    """What a daemon asks of its record when it starts."""
    store.attempts.extend_all(boottime() + 3600)
    store.nodes.clock_began_anew()
    store.artifacts.any_count()


def _nothing() -> None:
    pass
