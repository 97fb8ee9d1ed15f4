"""Stop counting the earlier failures of a task that a person retries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007_retries"
down_revision = "0006_failures"


def upgrade() -> None:
    """Add the column `tasks.retried_epoch`: the task's epoch when a person last retried the task.

    A task's epoch is a number that rises with each attempt. Only failures after `retried_epoch` count.
    """
    op.add_column("tasks", sa.Column("retried_epoch", sa.Integer(), server_default="0", nullable=False))
