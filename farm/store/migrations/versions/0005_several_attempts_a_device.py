"""Let a device have several live attempts if all of them belong to one lockstep group."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005_several_attempts_a_device"
down_revision = "0004_models_of_tasks"

_live_alone = sa.text("state IN ('dispatched', 'running') AND NOT lockstep")


def upgrade() -> None:
    """Add a column that marks attempts of lockstep groups, and leave these attempts out of a unique index.

    The index allows only one live attempt for each device.
    """
    op.add_column("attempts", sa.Column("lockstep", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.drop_index("uq_attempts_live_device", table_name="attempts")
    op.create_index(
        "uq_attempts_live_device",
        "attempts",
        ["node_id", "device"],
        unique=True,
        sqlite_where=_live_alone,
        postgresql_where=_live_alone,
    )
