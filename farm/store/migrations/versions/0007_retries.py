"""When a person retries a task, no longer count its earlier failures."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007_retries"
down_revision = "0006_failures"


def upgrade() -> None:
    """Add the column with the epoch from which failures count."""
    op.add_column("tasks", sa.Column("retried_epoch", sa.Integer(), server_default="0", nullable=False))
