"""Add columns for the step at which each attempt began, and for workstations that their owners use."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010_stopped_attempts"
down_revision = "0009_drains_and_locks"


def upgrade() -> None:
    """Add the columns attempts.from_step and nodes.owner_reason."""
    op.add_column("attempts", sa.Column("from_step", sa.Integer(), server_default="0", nullable=False))
    op.add_column("nodes", sa.Column("owner_reason", sa.Text(), server_default="", nullable=False))
