"""Which statements a piece of work sends to the database, and whether any of them walks what is over.

Statements are taken from the engine as they are sent. Each is then explained, and run once more to count what it
touches: SQLite counts steps of its virtual machine, PostgreSQL the rows that its plan's leaves read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, event

from farm.store.store import Store

GROWING = {"jobs", "tasks", "edges", "attempts", "artifacts", "media", "events"}
"""Tables that get rows with every job."""

BOUNDED = {
    "ix_tasks_unfinished",
    "ix_attempts_live",
    "uq_attempts_live_task",
    "uq_attempts_live_device",
    "ix_artifacts_collectable",
}
"""Indexes of what is under way: to walk one whole is to walk no history."""

IN_ORDER = {
    "ix_jobs_newest",
    "ix_jobs_state_newest",
    "ix_jobs_leftovers",
    "ix_artifacts_unneeded",
    "pk_artifacts",
    "sqlite_autoindex_artifacts_1",
}
"""Indexes that a statement with a LIMIT walks from one end, as far as the limit."""

_STEP = 50
"""Steps of SQLite's virtual machine between two calls of its progress handler."""


@dataclass(frozen=True)
class Sent:
    """A statement with the parameters that it was sent with."""

    sql: str
    parameters: Any

    @property
    def known_as(self) -> str:
        """The statement for a person: white space pressed, long lists of parameters cut."""
        return re.sub(r"((\?|%\(\w+\)s)(::\w+)?(, )?){4,}", "…", re.sub(r"\s+", " ", self.sql)).strip()


@contextmanager
def statements(store: Store) -> Iterator[list[Sent]]:
    """Collect the statements that the store sends within the block, each once."""
    sent: dict[str, Sent] = {}

    def take(connection: Any, cursor: Any, sql: str, parameters: Any, context: Any, many: bool) -> None:
        if sql.lstrip().split()[0] in ("SELECT", "WITH", "UPDATE", "DELETE"):
            sent.setdefault(sql, Sent(sql, parameters[0] if many else parameters))

    engine = store._database._engine
    found: list[Sent] = []
    event.listen(engine, "before_cursor_execute", take)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", take)
        found += sent.values()


def walks(store: Store, sent: Sent) -> list[str]:
    """The parts of the statement's plan that walk a table that grows."""
    with _undone(store) as connection:
        if connection.dialect.name == "sqlite":
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sent.sql}", sent.parameters).all()
            return [row[-1] for row in rows if not _is_fine_on_sqlite(row[-1], sent.sql)]
        plan = _explained(connection, f"EXPLAIN (FORMAT JSON) {sent.sql}", sent.parameters)
        return [said for node in _nodes(plan) if (said := _walk_of_postgresql(node))]


def touched(store: Store, work: Callable[[], Any]) -> int:
    """How much SQLite does for `work`, in steps of its virtual machine."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += _STEP
        return 0

    def watch(connection: Any, *_: Any) -> None:
        connection.set_progress_handler(count, _STEP)

    engine = store._database._engine
    event.listen(engine, "checkout", watch)
    try:
        work()
    finally:
        event.remove(engine, "checkout", watch)
        engine.dispose()
    return steps


def rows_read(store: Store, sent: Sent) -> int:
    """Rows and index entries that PostgreSQL reads for the statement."""
    with _undone(store) as connection:
        plan = _explained(connection, f"EXPLAIN (ANALYZE, FORMAT JSON) {sent.sql}", sent.parameters)
    return sum(_read(node) for node in _nodes(plan) if "Scan" in node["Node Type"])


def _read(node: dict[str, Any]) -> int:
    removed = sum(node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
    return round((node["Actual Rows"] + removed) * node["Actual Loops"])


@contextmanager
def _undone(store: Store) -> Iterator[Connection]:
    """A transaction that is rolled back."""
    with store._database._engine.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


def _is_fine_on_sqlite(said: str, sql: str) -> bool:
    part = re.match(r"(SCAN|SEARCH) ([a-z]+)(_\d+)?( USING .*?INDEX( (\w+))?.*)?$", said)
    if part is None or part[2] not in GROWING:
        return True
    if "AUTOMATIC" in said:
        return False  # it is made for this statement, of the whole table
    return part[1] == "SEARCH" or part[6] in BOUNDED or (part[6] in IN_ORDER and "LIMIT" in sql)


def _walk_of_postgresql(node: dict[str, Any]) -> str:
    if node.get("Relation Name") not in GROWING:
        return ""
    if node["Node Type"] == "Seq Scan":
        return f"Seq Scan on {node['Relation Name']}"
    index = node.get("Index Name", "")
    whole = "Index" in node["Node Type"] and "Index Cond" not in node
    if whole and index not in BOUNDED | IN_ORDER:
        return f"whole {index} of {node['Relation Name']}"
    return ""


def _explained(connection: Connection, sql: str, parameters: Any) -> dict[str, Any]:
    answer: Any = connection.exec_driver_sql(sql, parameters).scalar()
    return (json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)
