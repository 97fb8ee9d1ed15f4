"""The classes of the values that the store (the farm's database) returns: jobs, tasks, attempts, nodes and so on.

The values can't be changed. Times named `..._at` are in Unix seconds, except `retry_at`. Like `lease_until`, `retry_at`
is in seconds of the daemon's CLOCK_BOOTTIME. Sizes are in bytes. This module contains no SQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from farm.plan import JobJson, Payload, TaskKind, lockstep_group
from farm.spec import JobSpec
from farm.states import AttemptState, DrainState, JobState, NodeState, TaskState


class ArtifactState(StrEnum):
    """The state of an artifact: who may use the artifact, and whether its file can be removed."""

    STAGED = "staged"  #: completely stored, but its attempt has not been committed
    SAVED = "saved"  #: the saved state of a stopped attempt, for the next attempt at the task
    COMMITTED = "committed"  #: part of the record: media, or the result of a task
    DISCARDED = "discarded"  #: of an attempt that wasn't committed; its file can be removed
    EXPIRED = "expired"  #: once committed, but no longer kept; its file can be removed
    COLLECTED = "collected"  #: once committed, and its file has been removed
    KEPT = "kept"  #: the log of an attempt, however it ended; read by people, never by a task


COLLECTABLE = (ArtifactState.DISCARDED, ArtifactState.EXPIRED)
"""The states of artifacts whose files are to be removed."""

KEPT_NO_LONGER = (ArtifactState.EXPIRED, ArtifactState.COLLECTED)
"""The states of artifacts that were committed once, but whose files the farm no longer keeps."""


class AttemptRef(NamedTuple):
    """The permanent name of one attempt."""

    attempt_id: str
    epoch: int


class ModelOffer(NamedTuple):
    """A model that a node can render with, and the hash of the weights that the node has."""

    model: str
    weights: str


@dataclass(frozen=True)
class JobRecord:
    """A job: the fixed values of its plan, and its progress."""

    id: str
    state: JobState
    spec: JobSpec
    priority: int
    strategy: str
    model: str
    weights: str
    precision: str
    render_width: int
    render_height: int
    render_frames: int
    latents: int
    shared: JobJson  #: the part of the plan that all tasks of the job share
    estimated_bytes: int
    notes: tuple[
        str, ...
    ]  #: for people: what the farm corrected at submit, and what the job's tasks reported since
    created_at: float
    started_at: float | None
    finished_at: float | None
    error: str
    tasks_total: int
    tasks_succeeded: int
    last_event: int  #: number of the job's newest event
    output_artifact_id: str  #: empty until the job has succeeded
    output_bytes: int


@dataclass(frozen=True)
class TaskRecord:
    """A task.

    `start` is the index of the first latent that the task makes or decodes, counted from the start of the video. `stop`
    is the index after the last one. In the mux task, they span all latents. In the encode task, both are 0. `position`
    is the task's index in the job's list of tasks.
    """

    id: str
    job_id: str
    key: str
    kind: TaskKind
    state: TaskState
    epoch: int  #: raised by one at every dispatch, and whenever the task is put back
    position: int
    start: int
    stop: int
    payload: Payload
    model: str
    weights: str
    vram_bytes: int
    fp8: bool
    flops: float
    failures: int  #: attempts since the last retry that failed by the work's own fault
    failed_devices: frozenset[
        tuple[str, str]
    ]  #: (node id, device) that get the task only if no other device fits
    reason: str  #: for a ready task why it waits, for a failed task the last error
    facts: Mapping[str, Any] = field(default_factory=dict)  #: JSON that the committed attempt reported
    retry_at: float = 0.0  #: the earliest next try, in seconds of the daemon's CLOCK_BOOTTIME
    retried_epoch: int = 0  #: the task's epoch when somebody last asked for a retry

    @property
    def group(self) -> str:
        """The name of the task's lockstep group, unique among all jobs; empty if the task is in no such group."""
        return group_of(self.job_id, self.payload)


def group_of(job_id: str, payload: Payload) -> str:
    """Return the name of the lockstep group of a job's task; empty if the task is in no such group."""
    group = lockstep_group(payload)
    return f"{job_id}/{group}" if group else ""


@dataclass(frozen=True)
class GroupMember:
    """One unfinished task of a lockstep group.

    `node_id` and `device` say where the task runs. Both are empty if the task doesn't run.
    """

    task_id: str
    key: str
    state: TaskState
    vram_bytes: int
    held_bytes: int  #: the part of `vram_bytes` that it needs while another member makes its step
    flops: float
    node_id: str = ""
    device: str = ""


@dataclass(frozen=True)
class Handover:
    """A ready task and the device that will get it.

    A task's epoch is a number that rises whenever the task is dispatched or put back. `epoch` is the task's epoch when
    the device was chosen. If the task has another epoch by now, the task isn't dispatched.
    """

    task_id: str
    epoch: int
    node_id: str
    device: str


@dataclass(frozen=True)
class ReadyRecord:
    """A task that is ready to start, with the facts about its job that placement needs."""

    task: TaskRecord
    priority: int
    job_created_at: float
    shared: JobJson
    input_bytes: Mapping[str, int]  #: bytes of the task's inputs that each node made, by node id


@dataclass(frozen=True)
class StageRecord:
    """The progress of one kind of task.

    `done` goes from 0 to `total`. A finished task adds 1 to `done`. A running task adds the fraction of its steps that
    are finished.
    """

    kind: TaskKind
    total: int
    succeeded: int
    running: int
    done: float


@dataclass(frozen=True)
class AttemptRecord:
    """One attempt at a task on one device."""

    id: str
    task_id: str
    job_id: str
    task_key: str
    model: str  #: the model that does the task
    flops: float  #: FLOPs of the task
    epoch: int
    state: AttemptState
    node_id: str
    node: str  #: the node's name, for people
    device: str
    lease_until: float
    dispatched_at: float
    started_at: float | None
    finished_at: float | None
    step: int
    steps: int
    seconds: float  #: wall time of the work in seconds, 0 until known
    error: str
    lockstep: bool = (
        False  #: whether its task is in a lockstep group; other members may be on the same device
    )
    cause: str = ""  #: why it brought no result, a farm.policy.failures.Cause; empty otherwise
    begun: float = 0.0  #: when it was dispatched, in seconds of the daemon's CLOCK_BOOTTIME
    progressed: float = 0.0  #: when its last step was reported, on the same clock
    longest_step: float = 0.0  #: seconds that its slowest step took so far
    from_step: int = 0  #: the step at which it began; above 0 if it continued from a saved state

    @property
    def ref(self) -> AttemptRef:
        """The name by which agents and renderers refer to this attempt."""
        return AttemptRef(self.id, self.epoch)

    @property
    def named(self) -> dict[str, str | int]:
        """The attempt's job, task, node and device, under the field names that all logs use."""
        return {"job": self.job_id, "task": self.task_key, "attempt": self.id, "epoch": self.epoch,
                "node": self.node, "device": self.device}  # fmt: skip


@dataclass(frozen=True)
class Settlement:
    """What the store changed when the end of an attempt was reported.

    `committed` says whether the store accepted the report. A report that comes too late is not accepted and changes
    nothing. If the same end was reported and accepted before, `committed` is True and the other fields are empty.
    """

    committed: bool
    job: JobRecord | None = None  #: the job, if this end finished it
    ready: tuple[str, ...] = ()  #: ids of tasks that have become ready
    stop: tuple[AttemptRecord, ...] = ()  #: attempts that were cancelled, whose nodes must be told


class Speed(NamedTuple):
    """The speed of a device with one model, measured while denoising.

    The speed is an average over several windows. `windows` is their number.
    """

    model: str
    flops_per_second: float
    windows: int


@dataclass(frozen=True)
class LockRecord:
    """A lock on a node or on a single device: what is locked gets no new work. Running tasks go on."""

    reason: str
    asked_by: str
    since_at: float


@dataclass(frozen=True)
class DrainRecord:
    """A drain of a node: the node gets no new work, finishes or hands back its tasks, and leaves the farm.

    `grace` is how many seconds running tasks may still take after the request. `deadline` is the time at which the
    grace ends, in seconds of the daemon's CLOCK_BOOTTIME. If `grace` and `deadline` are None, the tasks may take as
    long as they need.
    """

    state: DrainState
    reason: str
    asked_by: str
    since_at: float
    grace: float | None = None
    deadline: float | None = None

    def is_due(self, now: float) -> bool:
        """Return whether the deadline has passed at `now`, in seconds of the daemon's CLOCK_BOOTTIME."""
        return self.deadline is not None and now >= self.deadline


@dataclass(frozen=True)
class DeviceRecord:
    """A device of a node: what the node's agent reports about the device, and what the farm knows.

    - `task`: the current task as "job/task"; empty if the device is idle. If the device does several tasks at once,
      all are listed, as "job/task, task". They belong to one lockstep group.
    - `speeds`: the speeds that the farm has measured, one for each model.
    - `quarantine`: why the device is in quarantine; empty if the device isn't.
    """

    name: str
    backend: str
    model: str = ""
    vram_bytes: int = 0
    compute_capability: str = ""
    fp8: bool = False
    driver: str = ""
    declared: bool = False
    flops_per_second: float = 0.0
    threads: int = 0
    task: str = ""
    speeds: tuple[Speed, ...] = ()
    quarantine: str = ""
    lock: LockRecord | None = None


@dataclass(frozen=True)
class NodeRecord:
    """A workstation.

    `reason` says why the workstation gets no work. If the cause is a drain or a lock, see `drain` and `lock` instead.
    """

    id: str
    name: str
    state: NodeState
    address: str
    version: str
    boot_id: str
    ray_node_id: str
    reason: str
    last_seen_at: float
    devices: tuple[DeviceRecord, ...]
    models: tuple[ModelOffer, ...]
    drain: DrainRecord | None = None
    lock: LockRecord | None = None  #: the lock of the node as a whole


@dataclass(frozen=True)
class ArtifactRecord:
    """A file that a task made or a person uploaded. `attempt_id` is empty if a person uploaded the file."""

    id: str
    name: str  #: its role: "latents", "embeddings", "segment", "video", "media", "state"
    filename: str
    size: int
    sha256: str
    location: str
    state: ArtifactState
    attempt_id: str
    created_at: float


@dataclass(frozen=True)
class TaskInputs:
    """The inputs of a task.

    Attributes:
        needs: The committed artifacts that the task needs from other tasks, by the key of the task that made them.
        media: The clips and images given with the job, in the order of the job's conditions.
        state: The newest state that a stopped attempt at this task saved; None if nothing was saved.
        notes: The sentences that the farm has shown to people about the job so far.
    """

    needs: Mapping[str, tuple[ArtifactRecord, ...]] = field(default_factory=dict)
    media: tuple[ArtifactRecord, ...] = ()
    state: ArtifactRecord | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EventRecord:
    """An event of a job or a node. Watchers see events in the order of their numbers."""

    number: int
    at: float
    job_id: str  #: empty if the event is about no job
    task: str  #: key of the task; empty if the event is about a whole job or a node
    node_id: str  #: empty if the event is about no node
    kind: str
    message: str
