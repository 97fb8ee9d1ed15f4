"""Adds the services of the API to a gRPC server. The daemon and tests use this."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpc import aio

from farm.artifacts import ArtifactStore
from farm.store.store import Store
from farm.v1 import (
    artifacts_pb2,
    artifacts_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    nodes_pb2,
    nodes_pb2_grpc,
    plugins_pb2,
    plugins_pb2_grpc,
    tasks_pb2,
    tasks_pb2_grpc,
)
from farm.wire.security import Authority
from farmd.api.artifacts import ArtifactService
from farmd.api.jobs import JobService
from farmd.api.nodes import NodeService, NodeTerms
from farmd.api.plugins import PluginService
from farmd.api.tasks import TaskService
from scheduler.dispatch.job_watchers import JobWatchers
from scheduler.dispatch.sessions import Sessions

if TYPE_CHECKING:
    from farmd.fits import Fits
    from farmd.intake import Intake

NAMES = tuple(
    service.full_name
    for file in (jobs_pb2, tasks_pb2, nodes_pb2, artifacts_pb2, plugins_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
)
"""Full names of the services, for health and reflection."""


@dataclass(frozen=True)
class Parts:
    """The parts of the daemon that the services use.

    Calling `wake` makes the dispatch loop look for work at once. `max_upload_bytes` is the largest size of one upload.
    """

    store: Store
    files: ArtifactStore
    authority: Authority
    sessions: Sessions
    watchers: JobWatchers
    wake: Callable[[], None]
    fits: Fits
    terms: NodeTerms
    max_upload_bytes: int
    intake: Intake


def add_services(server: aio.Server, parts: Parts) -> None:
    """Add all services of the API to the server."""
    store, files, sessions, watchers = parts.store, parts.files, parts.sessions, parts.watchers
    jobs = JobService(store, parts.intake, watchers, parts.wake, sessions.stop, parts.fits, sessions.loading)
    jobs_pb2_grpc.add_JobServiceServicer_to_server(jobs, server)
    tasks = TaskService(store, files, sessions, watchers, parts.wake)
    tasks_pb2_grpc.add_TaskServiceServicer_to_server(tasks, server)
    nodes = NodeService(store, files, parts.authority, sessions, watchers, parts.terms, parts.wake)
    nodes_pb2_grpc.add_NodeServiceServicer_to_server(nodes, server)
    plugins_pb2_grpc.add_PluginServiceServicer_to_server(PluginService(parts.intake), server)
    artifacts = ArtifactService(store, files, parts.max_upload_bytes)
    artifacts_pb2_grpc.add_ArtifactServiceServicer_to_server(artifacts, server)
