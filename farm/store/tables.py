"""The tables, as SQLAlchemy Core sees them. The migrations make the same tables, as a test proves.

Most counts are not stored, because a query can count the rows. A count is stored only if its query would get slower
with every job that the farm has done. The tables say where an artifact's file is; they never hold its bytes.

A farm does jobs for years, and the rows of ended jobs stay. So no statement of the farm's daily work may read
all rows of ended jobs. Two rules ensure this:
- An index on a state is partial: it covers only rows whose state will change again. SQLite would use an index on all
  states even in a query for committed artifacts, although most artifacts are committed. Until ANALYZE has
  run, SQLite can't know how many rows have which state.
- Statements name states as literals (see `_word`). Only then do databases see that they can use a partial index.

A test runs EXPLAIN on every statement of the daily work, on SQLite and on PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    BinaryExpression,
    BindParameter,
    Boolean,
    Column,
    ColumnElement,
    Enum,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TextClause,
    UniqueConstraint,
    false,
    text,
)

from farm.plan import TaskKind
from farm.records import COLLECTABLE, ArtifactState
from farm.states import (
    LIVE_ATTEMPTS,
    UNFINISHED_TASKS,
    AttemptState,
    DrainState,
    JobState,
    NodeState,
    TaskState,
)

REVISION = "0012_job_names"
"""Newest migration, repeated here so that opening a database that is up to date needs no Alembic."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_id = String(40)


class _Word(Enum):
    """A word of a closed list. Statements compare it with a literal instead of a parameter."""

    cache_ok = True

    class Comparator(Enum.Comparator):
        """Makes the right side of each comparison a literal."""

        def operate(self, op: Any, *other: Any, **options: Any) -> ColumnElement[Any]:
            compared = super().operate(op, *other, **options)
            if isinstance(compared, BinaryExpression) and isinstance(compared.right, BindParameter):
                compared.right = compared.right.render_literal_execute()
            return compared

    comparator_factory = Comparator


def _word(kind: type[StrEnum]) -> Enum:
    # Plain text to the database: a state more must not need a change of type.
    return _Word(kind, native_enum=False, length=20, values_callable=lambda words: [w.value for w in words])


def _state_in(states: Iterable[StrEnum]) -> TextClause:
    return text("state IN ({})".format(", ".join(f"'{state}'" for state in states)))


def _partial(name: str | None, *columns: str, where: TextClause, unique: bool = False) -> Index:
    """Return an index of the rows that meet `where`."""
    return Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


_live = _state_in(LIVE_ATTEMPTS)
_live_alone = text(f"{_live.text} AND NOT lockstep")


jobs = Table(
    "jobs",
    metadata,
    Column("id", _id, primary_key=True),
    Column("state", _word(JobState), nullable=False),
    Column("idempotency_key", String(64), unique=True),
    Column("spec", JSON, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("weights", Text, nullable=False),
    Column("precision", String(20), nullable=False),
    Column("render_width", Integer, nullable=False),
    Column("render_height", Integer, nullable=False),
    Column("render_frames", Integer, nullable=False),
    Column("latents", Integer, nullable=False),
    Column("shared", JSON, nullable=False),
    Column("estimated_bytes", BigInteger, nullable=False),
    Column("notes", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("error", Text, nullable=False),
    # Bytes that an ended job still keeps of what it made on the way to its video; see farm.store.retention.
    Column("leftover_bytes", BigInteger, nullable=False, server_default="0"),
    # As the spec has it; people name jobs by it, see farm.store.lookup.
    Column("name", Text, nullable=False, server_default=""),
    Index("ix_jobs_name", "name", "id"),
    Index("ix_jobs_newest", "created_at", "id"),
    Index("ix_jobs_state_newest", "state", "created_at", "id"),
    _partial("ix_jobs_leftovers", "finished_at", "id", where=text("leftover_bytes > 0")),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", _id, primary_key=True),
    Column("job_id", _id, ForeignKey("jobs.id"), nullable=False),
    Column("key", String(200), nullable=False),
    Column("kind", _word(TaskKind), nullable=False),
    Column("position", Integer, nullable=False),
    Column("state", _word(TaskState), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("stop", BigInteger, nullable=False),
    Column("payload", JSON, nullable=False),
    Column("model", Text, nullable=False),
    Column("weights", Text, nullable=False),
    Column("vram_bytes", BigInteger, nullable=False),
    Column("fp8", Boolean, nullable=False),
    Column("flops", Float, nullable=False),
    Column("failures", Integer, nullable=False),
    # Epoch at its last retry: how attempts up to it ended is held against it no more.
    Column("retried_epoch", Integer, nullable=False, server_default="0"),
    Column("reason", Text, nullable=False),
    Column("facts", JSON, nullable=False),
    # When a task that failed is tried again, in seconds of the daemon's CLOCK_BOOTTIME.
    Column("retry_at", Float, nullable=False, server_default="0"),
    UniqueConstraint("job_id", "key"),
    _partial("ix_tasks_unfinished", "state", "job_id", where=_state_in(UNFINISHED_TASKS)),
)

edges = Table(
    "edges",
    metadata,
    Column("task_id", _id, ForeignKey("tasks.id"), primary_key=True),
    Column("needs_id", _id, ForeignKey("tasks.id"), primary_key=True, index=True),
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", String(100), primary_key=True),
    Column("name", Text, nullable=False),
    Column("state", _word(NodeState), nullable=False),
    Column("address", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("ray_node_id", Text, nullable=False),
    Column("models", JSON, nullable=False),
    Column("reason", Text, nullable=False),
    # Why it takes no work, as its own agent says: for its owner's sake.
    Column("owner_reason", Text, nullable=False, server_default=""),
    Column("offline_reason", Text, nullable=False),
    Column("last_seen_at", Float, nullable=False),
    # Unix seconds. The row stays: attempts and events of the node are shown with its name.
    Column("forgotten_at", Float),
)

devices = Table(
    "devices",
    metadata,
    Column("node_id", String(100), ForeignKey("nodes.id"), primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("backend", String(20), nullable=False),
    Column("model", Text, nullable=False),
    Column("vram_bytes", BigInteger, nullable=False),
    Column("compute_capability", Text, nullable=False),
    Column("fp8", Boolean, nullable=False),
    Column("driver", Text, nullable=False),
    Column("declared", Boolean, nullable=False),
    Column("flops_per_second", Float, nullable=False),
    Column("threads", Integer, nullable=False),
)

speeds = Table(
    "speeds",
    metadata,
    Column("node_id", String(100), ForeignKey("nodes.id"), primary_key=True),
    # No foreign key: a device comes and goes with its node's hellos.
    Column("device", String(100), primary_key=True),
    Column("model", String(100), primary_key=True),
    Column("flops_per_second", Float, nullable=False),
    Column("windows", Integer, nullable=False),
)

strikes = Table(
    "strikes",
    metadata,
    Column("node_id", String(100), ForeignKey("nodes.id"), primary_key=True),
    # No foreign key, as in speeds.
    Column("device", String(100), primary_key=True),
    # One a job: a job that can't be done is no sign of a device that can do nothing.
    Column("job_id", _id, ForeignKey("jobs.id"), primary_key=True),
)

quarantines = Table(
    "quarantines",
    metadata,
    Column("node_id", String(100), ForeignKey("nodes.id"), primary_key=True),
    Column("device", String(100), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("since_at", Float, nullable=False),
)

drains = Table(
    "drains",
    metadata,
    Column("node_id", String(100), ForeignKey("nodes.id"), primary_key=True),
    Column("state", _word(DrainState), nullable=False),
    Column("reason", Text, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("since_at", Float, nullable=False),
    # How long what runs has got, and until when: the one in seconds, the other in those of the daemon's CLOCK_BOOTTIME.
    # Empty: until it is done.
    Column("grace", Float),
    Column("deadline", Float),
)

locks = Table(
    "locks",
    metadata,
    Column("node_id", String(100), ForeignKey("nodes.id"), primary_key=True),
    # Empty: the node as a whole.
    Column("device", String(100), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("since_at", Float, nullable=False),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", _id, primary_key=True),
    Column("task_id", _id, ForeignKey("tasks.id"), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("state", _word(AttemptState), nullable=False),
    Column("node_id", String(100), ForeignKey("nodes.id"), nullable=False),
    # No foreign key: a device may be taken out of its machine, what it did stays done.
    Column("device", String(100), nullable=False),
    Column("lease_until", Float, nullable=False),
    Column("dispatched_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("step", Integer, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("error", Text, nullable=False),
    # Of a lockstep group, so that its device may have others of that group.
    Column("lockstep", Boolean, nullable=False, server_default=false()),
    # A farm.policy.failures.Cause; empty while it is live, after success and after a cancel.
    Column("cause", String(20), nullable=False, server_default=""),
    # Both in seconds of the daemon's CLOCK_BOOTTIME: when it was given away, and when its last step was heard of.
    Column("begun", Float, nullable=False, server_default="0"),
    Column("progressed", Float, nullable=False, server_default="0"),
    # Seconds that its slowest step took so far.
    Column("longest_step", Float, nullable=False, server_default="0"),
    # Step at which it began: more than 0 where it went on from the state of an earlier attempt.
    Column("from_step", Integer, nullable=False, server_default="0"),
    UniqueConstraint("task_id", "epoch"),
    _partial("uq_attempts_live_task", "task_id", where=_live, unique=True),
    _partial("uq_attempts_live_device", "node_id", "device", where=_live_alone, unique=True),
    _partial("ix_attempts_live", "state", "node_id", where=_live),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", _id, primary_key=True),
    Column("name", String(100), nullable=False),
    Column("filename", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("location", Text, nullable=False),
    Column("state", _word(ArtifactState), nullable=False),
    Column("attempt_id", _id, ForeignKey("attempts.id")),
    # The job whose finished video this is. On this side, because jobs -> artifacts would close a circle.
    Column("output_of", _id, ForeignKey("jobs.id"), unique=True),
    Column("created_at", Float, nullable=False),
    # Whether any job was ever given it.
    Column("given", Boolean, nullable=False, server_default=false()),
    # Of an upload that no job needs: since when, in Unix seconds; see farm.store.retention.
    Column("unneeded_since", Float),
    Index(None, "attempt_id", "state"),
    _partial("ix_artifacts_collectable", "state", "created_at", "id", where=_state_in(COLLECTABLE)),
    _partial(
        "ix_artifacts_unneeded", "given", "unneeded_since", "id", where=text("unneeded_since IS NOT NULL")
    ),
)

leftovers = Table(
    "leftovers",
    metadata,
    # One row: the bytes of all jobs' leftovers and of all uploads that only ended jobs were given.
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("bytes", BigInteger, nullable=False),
)

media = Table(
    "media",
    metadata,
    Column("job_id", _id, ForeignKey("jobs.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("artifact_id", _id, ForeignKey("artifacts.id"), nullable=False, index=True),
)

events = Table(
    "events",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("job_id", _id, ForeignKey("jobs.id")),
    Column("task", String(200), nullable=False),
    Column("node_id", String(100), ForeignKey("nodes.id")),
    Column("kind", String(40), nullable=False),
    Column("message", Text, nullable=False),
    Index(None, "job_id", "number"),
    sqlite_autoincrement=True,
)

leader = Table(
    "leader",
    metadata,
    # One row: who began to lead last, see farm.store.leader.
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("since", Float, nullable=False),
)
