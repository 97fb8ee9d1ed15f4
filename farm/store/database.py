"""The connection to SQLite or PostgreSQL: it begins transactions and checks the schema."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import structlog
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    create_engine,
    event,
    inspect,
    make_url,
    select,
    table,
    text,
)
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, OperationalError

from farm.clock import boottime
from farm.outside_text import storable, storable_json
from farm.policy.failures import USUAL_TERMS, Terms
from farm.store import leader, soundness, tables
from farm.store.errors import (
    DatabaseAway,
    DatabaseDamaged,
    LedByAnother,
    NoFarmInDatabase,
    RecordLost,
    SchemaTooNew,
    SchemaTooOld,
    UnusableDatabaseUrl,
)
from farm.store.tables import REVISION
from farm.store.transaction import Transaction

log = structlog.get_logger()

_BUSY_SECONDS = 30
_WRITER_LOCK = 0x6661726D  # "farm"; advisory locks are apart for each database


_POSTGRESQL = {
    # A server that is gone without a word is noticed in some seconds, not hours.
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
_POSTGRESQL_SESSION = {
    # And so does the server notice us, or a daemon whose machine lost power would lead for two hours more.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20s",
    # A daemon stopped in the middle of a transaction must not hold its locks for ever.
    "idle_in_transaction_session_timeout": "30s",
}
_SQLITE_AWAY = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}


class Database:
    """Opens read and write transactions on the database. Each transaction has its own connection.

    Transactions are atomic. If the database can't be reached, DatabaseAway is raised. The caller can then repeat the
    call, which is safe for every method of the store.

    Args:
        url: The URL of the database.
        wall: Returns Unix seconds, for the times that people read.
        boot: Returns seconds of CLOCK_BOOTTIME, for deadlines and durations.
        terms: How many failures the farm tolerates.
    """

    def __init__(
        self,
        url: str,
        wall: Callable[[], float],
        boot: Callable[[], float] = boottime,
        terms: Terms = USUAL_TERMS,
    ):
        """Raises UnusableDatabaseUrl for a database other than SQLite (in a file) and PostgreSQL (through psycopg)."""
        self.wall, self.boot, self.terms = wall, boot, terms
        self._url = parse(url)
        self._engine = _engine(self._url)
        self._writing = Lock()
        self._lock: leader.Lock | None = None
        self._epoch: int | None = None
        self._file = Path(self._url.database or "") if self._url.drivername == "sqlite" else None
        self._reads: dict[str, Any] = {}
        if self._engine.dialect.name == "postgresql":
            # One picture for all queries of a transaction; SQLite gives that anyway.
            self._reads = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Begin a read transaction. All its queries see the database as it is at one moment."""
        with (
            _answering(),
            self._engine.connect().execution_options(**self._reads) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Begin a write transaction. Only the leader (the process that leads the farm) can do this.

        Write transactions run one at a time; others wait for their turn. Each reads the clocks only when its turn
        comes, so that events are numbered in the order of their times.

        Raises:
            Deposed: Another process leads now.
        """
        if self._epoch is None:
            raise RuntimeError(
                "this process can't write to the database, because it opened the database read-only; only the process "
                "that leads the farm may write"
            )
        with self._change() as connection:
            leader.check(connection, self._epoch, keep=True)
            yield Transaction(connection, self.wall(), self.boot(), self.terms)

    def hold(self, who: str) -> leader.Lock:
        """Take the leader's lock and return it, so that no other process can begin to lead.

        Args:
            who: A name of this process, shown to other processes that want the lock.

        Raises:
            LedByAnother: Another process has the lock.
        """
        if self._lock is None:
            lock = _lock(self._url, who)
            lock.take()
            self._lock = lock
        return self._lock

    def lead(self, who: str, after: int = 0, lived: Callable[[], str] = str) -> None:
        """Begin to lead the farm in this database; from now on `write` works.

        This takes the leader's lock and brings the schema to REVISION. It also raises the epoch, a number that rises
        with each leader.

        Args:
            who: A name of this process, shown to other processes that want to lead.
            after: An epoch. The new epoch is higher than this one.
            lived: A function that is called if the database is empty. It returns where an earlier farm stored
                artifacts, or "" if it finds no such artifacts. If it finds some, the earlier farm's database is lost,
                and RecordLost is raised.

        Raises:
            LedByAnother: Another process leads.
            SchemaTooNew: The database was written by newer software.
            DatabaseDamaged: The file can't be read as a database.
            NoFarmInDatabase: The database holds something else, or an incomplete farm.
            RecordLost: The database is empty, but there are traces of an earlier farm, such as its artifacts.
        """
        lock = self.hold(who)
        self._check(lived, lock)
        try:
            self.upgrade()
            with self._change() as connection:
                before = connection.scalar(select(tables.leader.c.epoch)) or 0
                if before < lock.led:
                    log.warning(
                        "the record is older than before: somebody put a copy in its place, or its -wal file is lost",
                        led_before=lock.led,
                        led_in_record=before,
                    )
                self._epoch = leader.begin(connection, who, self.wall(), max(after, lock.led))
        except DatabaseError as error:
            # What the look before has not found, or was too large for.
            if isinstance(error.orig, sqlite3.DatabaseError) and self._file:
                raise DatabaseDamaged(self._file, str(error.orig)) from error
            raise
        lock.mark(self._epoch)

    def _check(self, lived: Callable[[], str], lock: leader.Lock) -> None:
        """Judge what is there before anything is changed. Raises DatabaseDamaged, NoFarmInDatabase, RecordLost."""
        where = self._url.render_as_string()
        if self._file:
            where = str(self._file)
            soundness.check_sqlite(self._file)
        if self._file and not (self._file.exists() and self._file.stat().st_size):
            names, revisions = list[str](), list[str]()
        else:
            with self.read() as connection:
                names = inspect(connection).get_table_names()
                found = _revision(connection) if "alembic_version" in names else None
            revisions = [found] if found else []
            # Other tables may lie beside the farm's on a server.
            if "alembic_version" in names and (problem := soundness.misses(names, revisions)):
                raise NoFarmInDatabase(where, problem)
        if revisions:
            return
        artifacts, mark = lived(), f"{where}.lock" if lock.led else ""
        evidence = [f"{mark} says that a farm was led in it"] * bool(mark)
        evidence += [f"{artifacts} holds a farm's artifacts"] * bool(artifacts)
        if evidence:
            raise RecordLost(where, " and ".join(evidence), " and ".join(filter(None, [mark, artifacts])))

    def keep_leading(self) -> None:
        """Make sure that this process still leads the farm. If the leader's lock was lost, take it again.

        Raises Deposed if another process leads now.
        """
        if self._lock is None or self._epoch is None:
            raise RuntimeError("this process can't lead the farm, because it opened the database read-only")
        # Held by another: it begins to lead, which the epoch tells, or it is our own lost connection.
        with contextlib.suppress(LedByAnother):
            self._lock.keep()
        with self.read() as connection:
            leader.check(connection, self._epoch, keep=False)

    def revision(self) -> str | None:
        """Return the schema's revision; None if there is no farm in the database."""
        with self.read() as connection:
            return _revision(connection)

    def require_schema(self) -> None:
        """Make sure that the schema is at REVISION. Raises SchemaTooOld or SchemaTooNew."""
        found = self.revision()
        if found is not None:
            self.require_known(found)
        if found != REVISION:
            raise SchemaTooOld(found, REVISION)

    def require_known(self, revision: str) -> None:
        """Raise SchemaTooNew if this software can't upgrade a database whose schema is at `revision`."""
        if revision == REVISION:
            return
        from farm.store.migrations import is_known

        if not is_known(revision):
            raise SchemaTooNew(revision, REVISION)

    def contents(self) -> tuple[list[str], list[str], int]:
        """Return what the database contains.

        Returns:
            A tuple of three values: the names of all tables; the names of the tables that have rows, except `leader`
            and `alembic_version`; and the epoch of the last leader, 0 if there was no leader. For a damaged SQLite
            database, the list of all tables is empty, the list of tables with rows holds only a text that says
            "a damaged database", and the epoch is 0.
        """
        try:
            with self.read() as connection:
                names = inspect(connection).get_table_names()
                epoch = connection.scalar(select(tables.leader.c.epoch)) if "leader" in names else 0
                filled = [
                    name
                    for name in names
                    if name not in ("leader", "alembic_version")
                    and connection.execute(select(1).select_from(table(name)).limit(1)).first()
                ]
                return names, filled, epoch or 0
        except DatabaseError as error:
            if not isinstance(error.orig, sqlite3.DatabaseError):
                raise
            return [], [f"a damaged database: {error.orig}"], 0

    def disconnect(self) -> None:
        """Close all connections but keep the lock. Later calls open new connections."""
        self._engine.dispose()

    def close(self) -> None:
        """Close all connections and free the leader's lock."""
        self.disconnect()
        if self._lock:
            self._lock.release()

    @contextmanager
    def _change(self) -> Iterator[Connection]:
        # Threads queue here; at the database SQLite would have them sleep and try again.
        with (
            self._writing,
            _answering(),
            self._engine.connect().execution_options(farm_write=True) as connection,
            connection.begin(),
        ):
            yield connection

    def upgrade(self) -> None:
        """Bring the schema to REVISION. Raises SchemaTooNew."""
        with self.read() as connection:
            if _revision(connection) == REVISION:
                return
        # Alembic takes a third of a second to import, and every start of the farm would wait for it.
        from farm.store.migrations import upgrade

        with self._change() as connection:
            upgrade(connection)

    def replace(self, fill: Callable[[Connection], None]) -> None:
        """Let `fill` write a farm's tables, then upgrade their schema to REVISION, all in one transaction.

        Args:
            fill: A function that writes the tables through the given connection. The tables may have any known schema.

        Raises:
            NoFarmInDatabase: Tables or columns of a farm are missing.
        """
        from farm.store.migrations import upgrade

        with self._change() as connection:
            fill(connection)
            upgrade(connection)
            found = inspect(connection)
            columns = {
                name: [one["name"] for one in found.get_columns(name)] for name in found.get_table_names()
            }
            if problem := soundness.misses(columns, [REVISION]) or soundness.misses_columns(columns):
                raise NoFarmInDatabase(self._url.render_as_string(), problem)


@contextmanager
def _answering() -> Iterator[None]:
    """Raise DatabaseAway for errors of a database that is away. Other errors, which are our own mistakes, pass."""
    try:
        yield
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            away = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _SQLITE_AWAY
        else:
            # psycopg's: connections, resources, an operator's intervention, deadlocks. No mistake in a statement.
            away = isinstance(error, OperationalError) or error.connection_invalidated
        if away:
            raise DatabaseAway(str(error.orig)) from error
        raise


def parse(url: str) -> URL:
    """Parse the URL of the farm's database. Raises UnusableDatabaseUrl if the farm can't use such a database."""
    accepted = "must be sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # What it says may be a password.
        raise UnusableDatabaseUrl(
            f"store.url: {accepted}. The given value is not a URL. Check that the port is a number. "
            "In a password, percent-encode the characters : / @ (write @ as %40)"
        ) from None
    in_a_file = parsed.drivername == "sqlite" and parsed.database not in (None, "", ":memory:")
    if in_a_file or parsed.drivername == "postgresql+psycopg":
        return parsed
    raise UnusableDatabaseUrl(f"store.url: {accepted}, got {parsed.render_as_string(hide_password=True)}")


def _engine(url: URL) -> Engine:
    if url.drivername == "sqlite":
        engine = create_engine(url, json_serializer=_json, connect_args={"timeout": _BUSY_SECONDS})
        event.listen(engine, "connect", _set_up_sqlite)
    else:
        engine = create_engine(
            url, pool_pre_ping=True, json_serializer=_json, connect_args=_postgresql_args(url)
        )
    event.listen(engine, "begin", _begin)
    event.listen(engine, "before_cursor_execute", _storable, retval=True)
    return engine


def _storable(
    connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
) -> tuple[str, Any]:
    """Replace characters that PostgreSQL refuses, in each text that is stored or looked for: errors may quote any text.

    SQLite would take them, but the record must be the same in both databases.
    """

    def one(given: Any) -> Any:
        if isinstance(given, Mapping):
            return {name: _clean(value) for name, value in given.items()}
        return tuple(map(_clean, given))

    return statement, [one(given) for given in parameters] if executemany else one(parameters)


def _clean(value: Any) -> Any:
    return storable(value) if isinstance(value, str) else value


def _json(value: Any) -> str:
    text = json.dumps(value)
    # Both are written as escapes; few texts have any, and walking through a plan takes longer than this.
    return json.dumps(storable_json(value)) if "\\u0000" in text or "\\ud" in text else text


def _lock(url: URL, who: str) -> leader.Lock:
    if url.drivername == "sqlite":
        return leader.FileLock(Path(f"{url.database}.lock"), who)
    return leader.AdvisoryLock(url, who, _postgresql_args(url))


def _postgresql_args(url: URL) -> dict[str, str]:
    """Return settings for libpq besides those in the URL, which take precedence."""
    session = " ".join(f"-c {name}={value}" for name, value in _POSTGRESQL_SESSION.items())
    given = url.query.get("options", "")
    args = {name: value for name, value in _POSTGRESQL.items() if name not in url.query}
    return args | {"options": f"{session} {given}".strip()}


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
    """Turn on WAL mode; SQLite's busy_timeout doesn't wait for two processes that do so to an empty database at once."""
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

    So a transaction that changes what it has read is right without further care, cannot deadlock, and cannot fail
    because of another one. And events commit in the order of their numbers: PostgreSQL draws a number
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
