"""Store which process leads the farm in this database, and the epoch that every write is checked against."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008_leader"
down_revision = "0007_retries"


def upgrade() -> None:
    """Make the table `leader`, without a row. A process that begins to lead the farm adds the row."""
    op.create_table(
        "leader",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_leader"),
    )
