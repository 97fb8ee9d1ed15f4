"""What the store answers with: frozen values, one a noun. No SQL, no behaviour.

Times named `..._at` are Unix seconds and for people only; `lease_until` is in seconds of the daemon's
CLOCK_BOOTTIME; sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from farm.plan import JobJson, Payload, lockstep_group
from farm.planning import TaskKind
from farm.spec import JobSpec
from farm.states import AttemptState, DrainState, JobState, NodeState, TaskState


class ArtifactState(StrEnum):
    """Whether an artifact counts."""

    STAGED = "staged"  #: whole and stored; its attempt has not been committed
    SAVED = "saved"  #: the state of an attempt that was stopped, for whoever goes on with its task
    COMMITTED = "committed"  #: part of the record: media, or the result of a task
    DISCARDED = "discarded"  #: a loser's; its file can be collected
    EXPIRED = "expired"  #: counted, and is kept no longer; its file can be collected
    COLLECTED = "collected"  #: likewise, and its file is gone
    KEPT = "kept"  #: the log of an attempt, however that ended: read by people, by no task


COLLECTABLE = (ArtifactState.DISCARDED, ArtifactState.EXPIRED)
"""States of artifacts whose files are to be removed, now or soon."""

KEPT_NO_LONGER = (ArtifactState.EXPIRED, ArtifactState.COLLECTED)
"""States of what once was part of the record, until some time after its job had ended."""


class AttemptRef(NamedTuple):
    """Names one attempt for good."""

    attempt_id: str
    epoch: int


class ModelOffer(NamedTuple):
    """A model that a node can render with, and the hash of the weights found there."""

    model: str
    weights: str


@dataclass(frozen=True)
class JobRecord:
    """A job, what its plan fixed, and how far it is."""

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
    shared: JobJson  #: what every task of the job is told
    estimated_bytes: int
    notes: tuple[str, ...]  #: what was made right at submit, and what its tasks found out since
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
    """A task. `start`, `stop` are global latents; `position` is its place in the job's graph."""

    id: str
    job_id: str
    key: str
    kind: TaskKind
    state: TaskState
    epoch: int  #: raised by one at every dispatch, and when it is put back to be done again
    position: int
    start: int
    stop: int
    payload: Payload
    model: str
    weights: str
    vram_bytes: int
    fp8: bool
    flops: float
    failures: int  #: attempts that failed by the work's own fault, since its last retry
    failed_devices: frozenset[tuple[str, str]]  #: (node id, device) to which it goes only where no other fits
    reason: str  #: of a ready task what it waits for, of a failed one the last error
    facts: Mapping[str, Any] = field(default_factory=dict)  #: JSON that its committed attempt told
    retry_at: float = (
        0.0  #: of the daemon's CLOCK_BOOTTIME, before which a task that failed isn't tried again
    )
    retried_epoch: int = 0  #: the epoch it got when somebody last asked for it to be tried again

    @property
    def group(self) -> str:
        """Name of the lockstep group it belongs to, one among all jobs; empty: it is done by itself."""
        return group_of(self.job_id, self.payload)


def group_of(job_id: str, payload: Payload) -> str:
    """Name of the lockstep group of a job's task; empty: it is done by itself."""
    group = lockstep_group(payload)
    return f"{job_id}/{group}" if group else ""


@dataclass(frozen=True)
class GroupMember:
    """One unfinished task of a lockstep group. `node_id`, `device`: where its live attempt is, else empty."""

    task_id: str
    key: str
    state: TaskState
    vram_bytes: int
    held_bytes: int  #: of `vram_bytes` what it needs while another member makes its step
    flops: float
    node_id: str = ""
    device: str = ""


@dataclass(frozen=True)
class Handover:
    """A ready task, as last seen at `epoch`, and the device it is to be given to."""

    task_id: str
    epoch: int
    node_id: str
    device: str


@dataclass(frozen=True)
class ReadyRecord:
    """A task that could start, with what placement must know of its job."""

    task: TaskRecord
    priority: int
    job_created_at: float
    shared: JobJson
    input_bytes: Mapping[str, int]  #: id of a node to the bytes of needed artifacts that it made


@dataclass(frozen=True)
class StageRecord:
    """How far one kind of task is; `done` runs from 0 to `total`, running tasks counted by step/steps."""

    kind: TaskKind
    total: int
    succeeded: int
    running: int
    done: float


@dataclass(frozen=True)
class AttemptRecord:
    """One try of a task at one device."""

    id: str
    task_id: str
    job_id: str
    task_key: str
    model: str  #: it renders with
    flops: float  #: of the task
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
    seconds: float  #: wall time of the work, 0 until known
    error: str
    lockstep: bool = False  #: of a lockstep group; others of it may be on the same device
    cause: str = ""  #: why it brought no result, a farm.policy.failures.Cause; empty otherwise
    begun: float = 0.0  #: reading of the daemon's CLOCK_BOOTTIME when it was given away
    progressed: float = 0.0  #: likewise, when its last step was heard of
    longest_step: float = 0.0  #: seconds that its slowest step took so far
    from_step: int = 0  #: at which it began; more than 0 where it went on from an earlier one's state

    @property
    def ref(self) -> AttemptRef:
        """The name under which agents and renderers speak of it."""
        return AttemptRef(self.id, self.epoch)

    @property
    def named(self) -> dict[str, str | int]:
        """What it is about, under the names that all logs have."""
        return {"job": self.job_id, "task": self.task_key, "attempt": self.id, "epoch": self.epoch,
                "node": self.node, "device": self.device}  # fmt: skip


@dataclass(frozen=True)
class Settlement:
    """What the end of an attempt did to the record.

    `committed` is False when its epoch was over: nothing changed. A repeated delivery answers True again, with
    nothing else in it.
    """

    committed: bool
    job: JobRecord | None = None  #: the job, when this finished it
    ready: tuple[str, ...] = ()  #: ids of tasks that can start since
    stop: tuple[AttemptRecord, ...] = ()  #: attempts cancelled by it, whose nodes must be told


class Speed(NamedTuple):
    """FLOPs a second that a device was seen to denoise at with a model, averaged over its last `windows`."""

    model: str
    flops_per_second: float
    windows: int


@dataclass(frozen=True)
class LockRecord:
    """A node, or one device of it, takes no new work because somebody wishes so; what runs goes on."""

    reason: str
    asked_by: str
    since_at: float


@dataclass(frozen=True)
class DrainRecord:
    """A node takes no work and leaves the farm because somebody wishes so.

    What it runs has `grace` seconds, until `deadline` of the daemon's CLOCK_BOOTTIME; None: as long as it takes.
    """

    state: DrainState
    reason: str
    asked_by: str
    since_at: float
    grace: float | None = None
    deadline: float | None = None

    def is_due(self, now: float) -> bool:
        """Whether nothing may run any more at `now` of the daemon's CLOCK_BOOTTIME."""
        return self.deadline is not None and now >= self.deadline


@dataclass(frozen=True)
class DeviceRecord:
    """One device as its agent advertises it; `task` is what it does now, as "job/task", or empty.

    Of a lockstep group it may do several, "job/task, task". `speeds`: what the farm has measured. `quarantine`: why
    it was set aside, empty where it wasn't.
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
    """A workstation. `reason` says why it gets no work, where that is not because it is drained or locked."""

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
    lock: LockRecord | None = None  #: of the node as a whole


@dataclass(frozen=True)
class ArtifactRecord:
    """Bytes that a task made or a person uploaded. `attempt_id` is empty for media."""

    id: str
    name: str  #: what it is to its task: "latents", "embeddings", "segment", "video", "media", "state"
    filename: str
    size: int
    sha256: str
    location: str
    state: ArtifactState
    attempt_id: str
    created_at: float


@dataclass(frozen=True)
class TaskInputs:
    """What a task is given: committed artifacts of the tasks it needs, by key, and its job's media in order.

    `state`: what the last of its attempts that was stopped left, to go on from. `notes`: what people are told of the job
    so far.
    """

    needs: Mapping[str, tuple[ArtifactRecord, ...]] = field(default_factory=dict)
    media: tuple[ArtifactRecord, ...] = ()
    state: ArtifactRecord | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EventRecord:
    """Something that happened. Numbers grow in the order in which watchers see events."""

    number: int
    at: float
    job_id: str  #: empty: about no job
    task: str  #: key of the task; empty: the job, or a node
    node_id: str  #: empty: about no node
    kind: str
    message: str
