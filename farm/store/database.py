"""The connection to SQLite or PostgreSQL: how transactions begin, and which schema they find."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text

from farm.clock import boottime
from farm.store.tables import REVISION

_BUSY_SECONDS = 30
_WRITER_LOCK = 0x6661726D  # "farm"; advisory locks are apart for each database


class Database:
    """Hands out read and write transactions, one connection each.

    `wall` gives Unix seconds for people, `boot` CLOCK_BOOTTIME in seconds for everything that is waited for.
    """

    def __init__(self, url: str, wall: Callable[[], float], boot: Callable[[], float] = boottime):
        """Raises ValueError for a database other than SQLite (in a file) and PostgreSQL (through psycopg)."""
        self.wall, self.boot = wall, boot
        self._engine = _engine(url)
        self._writing = Lock()
        self._reads: dict[str, Any] = {}
        if self._engine.dialect.name == "postgresql":
            # One picture for all queries of a transaction; SQLite gives that anyway.
            self._reads = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction whose queries all see the same moment."""
        with self._engine.connect().execution_options(**self._reads) as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may change things. One writer at a time: see `_begin`."""
        # Threads queue here; at the database SQLite would have them sleep and try again.
        with (
            self._writing,
            self._engine.connect().execution_options(farm_write=True) as connection,
            connection.begin(),
        ):
            yield connection

    def upgrade(self) -> None:
        """Bring the schema to REVISION. Raises SchemaTooNew when newer software wrote it."""
        with self.read() as connection:
            if _revision(connection) == REVISION:
                return
        # Alembic takes a third of a second to import, and every start of the farm would wait for it.
        from farm.store.migrations import upgrade

        with self.write() as connection:
            upgrade(connection)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.drivername == "sqlite" and parsed.database not in (None, "", ":memory:"):
        engine = create_engine(parsed, connect_args={"timeout": _BUSY_SECONDS})
        event.listen(engine, "connect", _set_up_sqlite)
    elif parsed.drivername == "postgresql+psycopg":
        engine = create_engine(parsed, pool_pre_ping=True)
    else:
        raise ValueError(
            "database.url: must be sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME, "
            f"got {parsed.render_as_string(hide_password=True)}"
        )
    event.listen(engine, "begin", _begin)
    return engine


def _set_up_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # or the driver would begin transactions of its own
    for pragma in (
        f"busy_timeout = {_BUSY_SECONDS * 1000}",
        "foreign_keys = ON",
        # What was acknowledged must outlive a power cut: agents forget what the farm has taken.
        "synchronous = FULL",
    ):
        connection.execute(f"PRAGMA {pragma}")
    _write_ahead(connection)


def _write_ahead(connection: Any) -> None:
    """Turn to WAL mode; SQLite's busy_timeout doesn't wait for two that turn an empty database at once."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def _begin(connection: Connection) -> None:
    """Begin on SQLite, and let only one transaction write at a time on both databases.

    A write that first reads and then changes what it read is then right as it stands, cannot deadlock, and
    cannot fail for another's sake. And events commit in the order of their numbers: PostgreSQL draws a number
    when a row is inserted, so of two writers the later number could be visible first, and a watcher that asks
    for what came after it would never see the other. One daemon writes a few times a second; waiting costs
    nothing.
    """
    writes = connection.get_execution_options().get("farm_write", False)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
    elif writes:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
