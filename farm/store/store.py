"""The store: the farm's only truth, opened once by the daemon."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from farm.clock import boottime
from farm.failures import USUAL_TERMS, Terms
from farm.store.artifacts import Artifacts
from farm.store.attempts import Attempts
from farm.store.database import Database
from farm.store.events import Events
from farm.store.jobs import Jobs
from farm.store.nodes import Nodes
from farm.store.tasks import Tasks


class Store:
    """Every transaction of the farm, by noun. Methods block; any thread may call them.

    Each method is one transaction: it happens whole or not at all.
    """

    def __init__(self, database: Database, terms: Terms = USUAL_TERMS):
        self._database = database
        self.jobs = Jobs(database)
        self.tasks = Tasks(database)
        self.attempts = Attempts(database, terms)
        self.nodes = Nodes(database, terms)
        self.artifacts = Artifacts(database)
        self.events = Events(database)

    @classmethod
    def open(
        cls,
        url: str,
        wall: Callable[[], float] = time.time,
        terms: Terms = USUAL_TERMS,
        boot: Callable[[], float] = boottime,
    ) -> Self:
        """Open the database at an SQLAlchemy `url`, bringing its schema up to date.

        "sqlite:////var/lib/farm/farm.db" or "postgresql+psycopg://user@host/farm". `wall` gives Unix seconds
        for people, `boot` CLOCK_BOOTTIME; `terms` say how much failure is borne with. Raises SchemaTooNew.
        """
        database = Database(url, wall, boot)
        try:
            database.upgrade()
        except BaseException:
            database.close()
            raise
        return cls(database, terms)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
