"""Store the measured speed at which each device denoises with each model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003_measured_speeds"
down_revision = "0002"


def upgrade() -> None:
    """Make the table of measured speeds."""
    op.create_table(
        "speeds",
        sa.Column("node_id", sa.String(length=100), nullable=False),
        sa.Column("device", sa.String(length=100), nullable=False),
        sa.Column("model", sa.String(length=100), nullable=False),
        sa.Column("flops_per_second", sa.Float(), nullable=False),
        sa.Column("windows", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_speeds_node_id"),
        sa.PrimaryKeyConstraint("node_id", "device", "model", name="pk_speeds"),
    )
