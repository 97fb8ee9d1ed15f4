"""Transactions about events: the farm's diary, which watchers follow by number."""

from __future__ import annotations

from farm.store.database import Database
from farm.store.records import EventRecord


class Events:
    """Reads the diary, and adds what no other transaction does."""

    def __init__(self, database: Database):
        self._database = database

    def after(self, number: int, job_id: str | None = None, limit: int = 1000) -> list[EventRecord]:
        """Events past `number`, of one job or of all, in order. A job that does not exist has none."""
        raise NotImplementedError

    def add(
        self, kind: str, message: str, *, job_id: str = "", task: str = "", node_id: str = ""
    ) -> EventRecord:
        """Write an event of its own. Raises NotFound for an unknown job or node."""
        raise NotImplementedError
