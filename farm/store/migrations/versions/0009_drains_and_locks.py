"""Store which nodes are drained, locked or forgotten."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009_drains_and_locks"
down_revision = "0008_leader"


def upgrade() -> None:
    """Make the tables `drains` and `locks`, and add the column `nodes.forgotten_at`."""
    op.add_column("nodes", sa.Column("forgotten_at", sa.Float(), nullable=True))
    op.create_table(
        "drains",
        sa.Column("node_id", sa.String(length=100), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("since_at", sa.Float(), nullable=False),
        sa.Column("grace", sa.Float(), nullable=True),
        sa.Column("deadline", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_drains_node_id"),
        sa.PrimaryKeyConstraint("node_id", name="pk_drains"),
    )
    op.create_table(
        "locks",
        sa.Column("node_id", sa.String(length=100), nullable=False),
        sa.Column("device", sa.String(length=100), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("since_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_locks_node_id"),
        sa.PrimaryKeyConstraint("node_id", "device", name="pk_locks"),
    )
