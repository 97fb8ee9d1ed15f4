"""Store the facts that tasks report."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column. Older tasks have no facts."""
    op.add_column("tasks", sa.Column("facts", sa.JSON(), nullable=False, server_default=sa.text("'{}'")))
