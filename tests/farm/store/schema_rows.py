"""A row for every table of a record, as it was at any of its migrations."""

from __future__ import annotations

from typing import Any

from alembic.script import ScriptDirectory
from sqlalchemy import JSON, Boolean, Connection, Float, Integer, MetaData, String, Table

from farm.store.migrations import config
from tests.farm.store.store_world import spec

REVISIONS = [one.revision for one in ScriptDirectory.from_config(config()).walk_revisions()][::-1]

WORDS = {
    ("jobs", "state"): "running",
    ("tasks", "state"): "running",
    ("tasks", "kind"): "window",
    ("attempts", "state"): "running",
    ("attempts", "cause"): "",
    ("nodes", "state"): "online",
    ("nodes", "forgotten_at"): None,
    ("drains", "state"): "draining",
    ("artifacts", "state"): "staged",
    ("jobs", "spec"): spec(frames=97).model_dump(mode="json"),
    ("jobs", "notes"): ["a note"],
    ("nodes", "models"): [["ltx-tiny", "w1"]],
    ("tasks", "payload"): {"key": "window/0"},
}
"""What a row must say to make sense; the rest is anything of its type."""


def filled_row(table: Table, revision: str, made: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A row of a table as it was at `revision`, every column filled; `made`: rows it may belong to, by table."""
    row: dict[str, Any] = {}
    for column in table.columns:
        if (table.name, column.name) == ("events", "number"):
            continue  # the database counts them itself
        if column.foreign_keys:
            (key,) = column.foreign_keys
            row[column.name] = made[key.column.table.name][key.column.name]
        elif (table.name, column.name) in WORDS:
            row[column.name] = WORDS[table.name, column.name]
        elif isinstance(column.type, JSON):
            row[column.name] = {}
        elif isinstance(column.type, Boolean):
            row[column.name] = False
        elif isinstance(column.type, (Integer, Float)):
            row[column.name] = int(revision[:4])
        else:
            assert isinstance(column.type, String)
            row[column.name] = f"{column.name} of {revision}"[: column.type.length]
    return row


def fill(connection: Connection, revision: str) -> list[tuple[str, dict[str, Any]]]:
    """Put a row in every table there is; returns them with their tables."""
    schema = MetaData()
    schema.reflect(connection)
    made: dict[str, dict[str, Any]] = {}
    for table in schema.sorted_tables:
        if table.name not in ("alembic_version", "leader"):
            made[table.name] = filled_row(table, revision, made)
            connection.execute(table.insert(), made[table.name])
    return list(made.items())
