"""Transactions about events, which record what happens in the farm. Events are numbered in order."""

from __future__ import annotations

from sqlalchemy import select

from farm.records import EventRecord
from farm.store import rows
from farm.store.changes import write_event
from farm.store.database import Database
from farm.store.errors import NotFound
from farm.store.tables import events, jobs, nodes


class Events:
    """Reads events, and writes an event that is not part of a larger change.

    Most events are written elsewhere, in the same transaction as the change that they report.
    """

    def __init__(self, database: Database):
        self._database = database

    def after(self, number: int, job_id: str | None = None, limit: int = 1000) -> list[EventRecord]:
        """Return the next events after event `number`, in order.

        Args:
            number: The number of the last event that the caller has seen.
            job_id: Return only events of this job; None: of all jobs. An unknown job has no events.
            limit: The most events to return.
        """
        query = select(events).where(events.c.number > number).order_by(events.c.number).limit(limit)
        if job_id is not None:
            query = query.where(events.c.job_id == job_id)
        with self._database.read() as connection:
            return [rows.event_record(row) for row in connection.execute(query)]

    def add(
        self, kind: str, message: str, *, job_id: str = "", task: str = "", node_id: str = ""
    ) -> EventRecord:
        """Write one event. Raises NotFound for an unknown job or node."""
        with self._database.write() as transaction:
            connection = transaction.connection
            for noun, table, id in (("job", jobs, job_id), ("node", nodes, node_id)):
                if id and connection.scalar(select(table.c.id).where(table.c.id == id)) is None:
                    raise NotFound(noun, id)
            number = write_event(
                transaction,
                kind,
                message,
                job_id=job_id or None,
                task=task,
                node_id=node_id or None,
            )
            written = connection.execute(select(events).where(events.c.number == number)).one()
            return rows.event_record(written)
