"""Store why attempts ended without a result, when tasks are tried again, and which devices are in quarantine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006_failures"
down_revision = "0005_several_attempts_a_device"


def upgrade() -> None:
    """Add columns to `tasks` and `attempts`, and make the tables `strikes` and `quarantines`."""
    op.add_column("tasks", sa.Column("retry_at", sa.Float(), server_default="0", nullable=False))
    op.add_column("attempts", sa.Column("cause", sa.String(20), server_default="", nullable=False))
    for name in ("begun", "progressed", "longest_step"):
        op.add_column("attempts", sa.Column(name, sa.Float(), server_default="0", nullable=False))
    # What had failed until now had done so by its own fault.
    op.execute("UPDATE attempts SET cause = 'work' WHERE state = 'failed'")
    op.create_table(
        "strikes",
        sa.Column("node_id", sa.String(length=100), nullable=False),
        sa.Column("device", sa.String(length=100), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_strikes_node_id"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_strikes_job_id"),
        sa.PrimaryKeyConstraint("node_id", "device", "job_id", name="pk_strikes"),
    )
    op.create_table(
        "quarantines",
        sa.Column("node_id", sa.String(length=100), nullable=False),
        sa.Column("device", sa.String(length=100), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_quarantines_node_id"),
        sa.PrimaryKeyConstraint("node_id", "device", name="pk_quarantines"),
    )
