"""Keep farms with many ended jobs fast.

For tasks, attempts and artifacts, an index on the state covers only rows whose state can still change. So this index
stays small. The total size of what ended jobs leave behind is stored, so that the farm needn't add it up.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011_age"
down_revision = "0010_stopped_attempts"

_UNFINISHED = "state IN ('waiting', 'ready', 'running')"
_LIVE = "state IN ('dispatched', 'running')"
_COLLECTABLE = "state IN ('discarded', 'expired')"

_MADE = """
    UPDATE jobs SET leftover_bytes = made.size FROM (
        SELECT tasks.job_id, sum(artifacts.size) AS size FROM tasks
        JOIN attempts ON attempts.task_id = tasks.id
        JOIN artifacts ON artifacts.attempt_id = attempts.id
        WHERE tasks.kind != 'mux' AND artifacts.state = 'committed'
        GROUP BY tasks.job_id
    ) AS made
    WHERE made.job_id = jobs.id AND jobs.state IN ('succeeded', 'failed', 'cancelled')
"""
_UNUSED = """
    UPDATE artifacts SET unneeded_since = created_at
    WHERE attempt_id IS NULL AND state = 'committed' AND NOT given
"""
_GIVEN = "UPDATE artifacts SET given = true WHERE id IN (SELECT artifact_id FROM media)"
_DONE_WITH = """
    UPDATE artifacts SET unneeded_since = given.until FROM (
        SELECT media.artifact_id, max(jobs.finished_at) AS until FROM media JOIN jobs ON media.job_id = jobs.id
        GROUP BY media.artifact_id
        HAVING count(CASE WHEN jobs.state != 'succeeded' THEN 1 END) = 0
    ) AS given
    WHERE given.artifact_id = artifacts.id AND attempt_id IS NULL AND state = 'committed'
"""
_TOTAL = """
    INSERT INTO leftovers (id, bytes) SELECT 1, total.bytes FROM (
        SELECT sum(each_one.size) AS bytes FROM (
            SELECT leftover_bytes AS size FROM jobs
            UNION ALL SELECT size FROM artifacts WHERE unneeded_since IS NOT NULL AND given
        ) AS each_one
    ) AS total
    WHERE total.bytes > 0
"""


def upgrade() -> None:
    """Replace six indexes, and store the size of what ended jobs leave behind.

    The old indexes grow with every job ever run. Most of the new indexes cover only a few rows, such as unfinished
    tasks. Ended jobs leave behind their intermediate results and their uploads. The new columns about these leftovers
    are filled in for existing jobs.
    """
    op.add_column("jobs", sa.Column("leftover_bytes", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("artifacts", sa.Column("given", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("artifacts", sa.Column("unneeded_since", sa.Float(), nullable=True))
    op.create_table(
        "leftovers",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_leftovers"),
    )
    for table, column in (
        ("jobs", "state"),
        ("jobs", "created_at"),
        ("tasks", "state"),
        ("attempts", "state"),
        ("artifacts", "state"),
        ("artifacts", "attempt_id"),
    ):
        op.drop_index(f"ix_{table}_{column}", table)
    op.create_index("ix_jobs_newest", "jobs", ["created_at", "id"])
    op.create_index("ix_jobs_state_newest", "jobs", ["state", "created_at", "id"])
    op.create_index("ix_artifacts_attempt_id_state", "artifacts", ["attempt_id", "state"])
    _partial("ix_tasks_unfinished", "tasks", ["state", "job_id"], _UNFINISHED)
    _partial("ix_attempts_live", "attempts", ["state", "node_id"], _LIVE)
    _partial("ix_artifacts_collectable", "artifacts", ["state", "created_at", "id"], _COLLECTABLE)
    for statement in (_MADE, _GIVEN, _DONE_WITH, _UNUSED, _TOTAL):
        op.execute(statement)
    _partial("ix_jobs_leftovers", "jobs", ["finished_at", "id"], "leftover_bytes > 0")
    _partial(
        "ix_artifacts_unneeded", "artifacts", ["given", "unneeded_since", "id"], "unneeded_since IS NOT NULL"
    )


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)
