"""Store the facts that tasks report."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column `facts` to the table of tasks. For older tasks it is empty."""
    op.add_column("tasks", sa.Column("facts", sa.JSON(), nullable=False, server_default=sa.text("'{}'")))
