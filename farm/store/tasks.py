"""Transactions about tasks as placement sees them."""

from __future__ import annotations

from collections.abc import Mapping

from farm.store.database import Database
from farm.store.records import ReadyTask


class Tasks:
    """Shows what could start, and keeps why it has not."""

    def __init__(self, database: Database):
        self._database = database

    def ready(self) -> list[ReadyTask]:
        """Ready tasks of live jobs: higher priority first, then older jobs, then the order of the graph."""
        raise NotImplementedError

    def set_reasons(self, reasons: Mapping[str, str]) -> int:
        """Keep what each ready task (by id) is waiting for; returns how many changed."""
        raise NotImplementedError
