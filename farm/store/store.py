"""The store: the farm's only truth, opened once by the daemon."""

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
    """All transactions of the farm, grouped by what they are about. Methods block; any thread may call them.

    Each method is one transaction: it happens whole or not at all. DatabaseAway leaves open whether it happened; the
    call may then be repeated. Only the process that leads can change anything.
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
        """Open the database at an SQLAlchemy `url` as its only writer, and bring its schema up to date.

        The URL is "sqlite:////var/lib/farm/farm.db" or "postgresql+psycopg://user@host/farm". `who` names this process
        to others. `wall` gives Unix seconds, for the times that people read; `boot` gives seconds of CLOCK_BOOTTIME.
        `terms` say how many failures the farm tolerates. `lived` is called if the database is empty: it returns the
        place where a farm has stored artifacts, or "" if there is none. Once another process leads, every change raises
        Deposed. Raises LedByAnother, SchemaTooNew, DatabaseAway, DatabaseDamaged, NoFarmInDatabase, RecordLost.
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
        """Open the database read-only, also while another process leads. Every change raises RuntimeError.

        Raises SchemaTooOld, SchemaTooNew, DatabaseAway.
        """
        database = Database(url, wall)
        try:
            database.require_schema()
        except BaseException:
            database.close()
            raise
        return cls(database)

    def keep_leading(self) -> None:
        """Make sure that this process still leads; call it every second or so. Raises Deposed, DatabaseAway."""
        self._database.keep_leading()

    def close(self) -> None:
        """Close all connections, and lead no more."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
