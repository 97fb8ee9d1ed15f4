"""Store the model of each task, because a smaller model may draw the storyboard (a draft of the video)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004_models_of_tasks"
down_revision = "0003_measured_speeds"


def upgrade() -> None:
    """Add the columns `tasks.model` and `tasks.weights`. For existing tasks, fill them with the values of the job."""
    for name in ("model", "weights"):
        op.add_column("tasks", sa.Column(name, sa.Text(), nullable=False, server_default=""))
        op.execute(f"UPDATE tasks SET {name} = (SELECT {name} FROM jobs WHERE jobs.id = tasks.job_id)")
