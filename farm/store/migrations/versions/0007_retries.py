"""Tasks can be retried with a clean slate: failures before the last retry count no more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007_retries"
down_revision = "0006_failures"


def upgrade() -> None:
    """Say since which epoch failures count."""
    op.add_column("tasks", sa.Column("retried_epoch", sa.Integer(), server_default="0", nullable=False))
