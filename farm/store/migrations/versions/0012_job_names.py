"""Store each job's name in an indexed column, because people refer to jobs by name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012_job_names"
down_revision = "0011_age"


def upgrade() -> None:
    """Add the column of names. For jobs that exist already, fill it with the names in their specs."""
    op.add_column("jobs", sa.Column("name", sa.Text(), server_default="", nullable=False))
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    name = "json_extract(spec, '$.name')" if on_sqlite else "spec ->> 'name'"
    op.execute(f"UPDATE jobs SET name = coalesce({name}, '')")
    op.create_index("ix_jobs_name", "jobs", ["name", "id"])
