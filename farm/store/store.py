"""The store, which keeps the state of the whole farm in a database. The daemon opens it once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from farm.clock import boottime
from farm.policy.failures import USUAL_TERMS, Terms
from farm.store.artifacts import Artifacts
from farm.store.attempts import Attempts
from farm.store.database import Database
from farm.store.events import Events
from farm.store.jobs import Jobs
from farm.store.lookup import Lookup
from farm.store.nodes import Nodes
from farm.store.tasks import Tasks


class Store:
    """All transactions of the farm, grouped by subject. Methods block; any thread may call them.

    Each method is one transaction: it happens whole or not at all. If a method raises DatabaseAway, it is unknown
    whether the transaction happened. The caller may safely repeat the call. Only one process, the leader, can change
    anything.
    """

    def __init__(self, database: Database):
        self._database = database
        self.jobs = Jobs(database)
        self.tasks = Tasks(database)
        self.attempts = Attempts(database)
        self.nodes = Nodes(database)
        self.artifacts = Artifacts(database)
        self.events = Events(database)
        self.lookup = Lookup(database)

    @classmethod
    def lead(
        cls,
        url: str,
        who: str,
        wall: Callable[[], float] = time.time,
        terms: Terms = USUAL_TERMS,
        boot: Callable[[], float] = boottime,
        lived: Callable[[], str] = str,
    ) -> Self:
        """Open the database as the farm's leader, the only process that may write, and upgrade its schema.

        If another process begins to lead later, every change raises Deposed.

        Args:
            url: The SQLAlchemy URL: "sqlite:////var/lib/farm/farm.db" or "postgresql+psycopg://user@host/farm".
            who: A name of this process, shown to other processes that want to lead.
            wall: Returns Unix seconds, for the times that people read.
            terms: How many failures the farm tolerates.
            boot: Returns seconds of CLOCK_BOOTTIME, for deadlines and durations.
            lived: A function that is called if the database is empty. It returns where an earlier farm stored
                artifacts, or "" if it finds no such artifacts. If it finds some, the earlier farm's database is lost,
                and RecordLost is raised.

        Raises:
            LedByAnother: Another process leads.
            SchemaTooNew: The database was written by newer software.
            DatabaseAway: The database can't be used at this moment.
            DatabaseDamaged: The file can't be read as a database.
            NoFarmInDatabase: The database holds something else, or an incomplete farm.
            RecordLost: The database is empty, but a farm has run here before. The jobs of that farm would be lost.
        """
        database = Database(url, wall, boot, terms)
        try:
            database.lead(who, lived=lived)
        except BaseException:
            database.close()
            raise
        return cls(database)

    @classmethod
    def open(cls, url: str, wall: Callable[[], float] = time.time) -> Self:
        """Open the database read-only, even while another process leads. Every change raises RuntimeError.

        Args:
            url: The SQLAlchemy URL of the database.
            wall: Returns Unix seconds, for the times that people read.

        Raises:
            SchemaTooOld: The database was written by older software.
            SchemaTooNew: The database was written by newer software.
            DatabaseAway: The database can't be used at this moment.
        """
        database = Database(url, wall)
        try:
            database.require_schema()
        except BaseException:
            database.close()
            raise
        return cls(database)

    def keep_leading(self) -> None:
        """Make sure that this process is still the leader. Call this about once a second.

        Raises:
            Deposed: Another process leads now.
            DatabaseAway: The database can't be used at this moment.
        """
        self._database.keep_leading()

    def close(self) -> None:
        """Close all connections and stop leading."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
