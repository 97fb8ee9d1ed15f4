"""Makes sure that only one process, the leader, writes to a farm's database.

The leader holds a lock. The kernel or PostgreSQL frees the lock when the leader ends, however it ends.

A leader can also lose the lock without noticing, for example because the leader was stopped for a while or its
connection was cut. So there is a second check. Each new leader raises the epoch, a number in the database. Every write
checks, within its transaction, that the epoch in the database is still the writer's own epoch.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from pathlib import Path
from typing import Protocol

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from farm.damaged_files import MADE_ANEW, open_plain
from farm.store.errors import DatabaseAway, Deposed, LedByAnother
from farm.store.tables import leader

_KEY = "1717662317, 1"
"""Two-part advisory lock: "farm" and one. Advisory locks are apart for each database."""

_LOCK_TIMEOUT_SECONDS = 2.0
"""A holder that was killed this moment frees its lock when PostgreSQL has noticed."""


class Lock(Protocol):
    """A lock that at most one process holds. It is freed when that process ends, however it ends."""

    def take(self) -> None:
        """Take the lock.

        Raises:
            LedByAnother: Another process holds the lock.
            DatabaseAway: The database can't be used at this moment.
            OSError: The lock's file can't be opened.
            DamagedFile: The lock's file isn't an ordinary file but, for example, a folder or a pipe.
        """
        ...

    def keep(self) -> None:
        """Take the lock again if it was lost. Raises the same errors as `take`."""
        ...

    def release(self) -> None:
        """Free the lock."""
        ...

    @property
    def led(self) -> int:
        """The leader's epoch that `mark` recorded last, in this process or an earlier process; 0 if none is known."""
        ...

    def mark(self, epoch: int) -> None:
        """Record the present leader's epoch outside the database.

        An epoch is a number that rises with each new leader. If the database is lost later, the recorded epoch shows
        that the farm had a database.
        """
        ...


class FileLock:
    """A lock on a file beside an SQLite database. The file holds the name and the epoch of the last leader.

    An epoch is a number that rises with each new leader. The file is never removed, because the file's epoch shows
    the farm whether the database was lost or replaced by an older copy.
    """

    def __init__(self, path: Path, who: str):
        self._path, self._who = path, who
        self._file: int | None = None
        self.led = 0

    def take(self) -> None:
        file = open_plain(self._path, os.O_RDWR | os.O_CREAT, MADE_ANEW)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 200).decode(errors="replace").partition("\n")[0]
            os.close(file)
            raise LedByAnother(holder) from None
        said = re.search(rb"\nepoch (\d{1,18})\n", os.read(file, 400))
        self.led = int(said[1]) if said else 0
        self._file = file
        self.mark(self.led)

    def mark(self, epoch: int) -> None:
        self.led = epoch
        content = f"{self._who}\nepoch {epoch}\n".encode()
        # Over what is there, and cut afterwards: at no moment is there a file without an epoch.
        assert self._file is not None  # it is taken
        os.pwrite(self._file, content, 0)
        os.ftruncate(self._file, len(content))

    def keep(self) -> None:
        """Do nothing, because a process can't lose a lock on a file before it ends."""

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


class AdvisoryLock:
    """An advisory lock in PostgreSQL, on a connection of its own. The lock doesn't store the leader's epoch."""

    led = 0

    def mark(self, epoch: int) -> None:
        """Do nothing: the epoch would show that the database was lost, but a database on a server isn't easily lost."""

    def __init__(self, url: URL, who: str, connect_args: dict[str, str]):
        self._engine: Engine = create_engine(
            url,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            # What is past 63 bytes the server cuts off.
            connect_args=connect_args | {"application_name": who},
        )
        self._connection: Connection | None = None

    def take(self) -> None:
        deadline = time.monotonic() + _LOCK_TIMEOUT_SECONDS
        while True:
            try:
                return self.keep()
            except LedByAnother:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def keep(self) -> None:
        try:
            if self._connection is not None:
                self._connection.execute(text("SELECT 1"))
                return
            connection: Connection | None = self._engine.connect()
            assert connection is not None
            try:
                if connection.scalar(text(f"SELECT pg_try_advisory_lock({_KEY})")):
                    self._connection, connection = connection, None
                    return
                raise LedByAnother(_holder(connection))
            finally:
                if connection is not None:
                    connection.close()
        except DBAPIError as error:
            self.release()
            raise DatabaseAway(str(error.orig)) from error

    def release(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(DBAPIError):
                self._connection.close()
            self._connection = None


def _holder(connection: Connection) -> str:
    of_lock = f"locktype = 'advisory' AND granted AND (classid, objid) = ({_KEY}) AND objsubid = 2"
    found = connection.execute(
        text(
            "SELECT application_name, host(client_addr) FROM pg_stat_activity JOIN pg_locks USING (pid) "
            f"WHERE {of_lock} AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    ).first()
    if found is None or not found[0]:
        return ""
    return f"{found[0]} (connected from {found[1]})" if found[1] else found[0]


def begin(connection: Connection, who: str, at: float, after: int = 0) -> int:
    """Make the calling process the leader, and return its epoch.

    The epoch is a number that rises with each new leader.

    Args:
        connection: A write transaction of the process that holds the lock.
        who: A name of the calling process, stored as the leader's name.
        at: The present time in Unix seconds.
        after: A lower limit: the new epoch is higher than `after`, and higher than the last leader's epoch.
    """
    before = connection.scalar(select(leader.c.epoch).with_for_update())
    epoch = max(before or 0, after) + 1
    values = {"epoch": epoch, "who": who, "since": at}
    connection.execute(
        insert(leader).values(id=1, **values) if before is None else update(leader).values(values)
    )
    return epoch


def check(connection: Connection, epoch: int, *, keep: bool) -> None:
    """Make sure that the caller is still the leader: that `epoch` is the epoch in the database.

    Args:
        connection: The connection of the caller's transaction.
        epoch: The caller's epoch.
        keep: True: no other process can become the leader before the transaction ends.

    Raises:
        Deposed: Another process leads now.
    """
    query = select(leader)
    if keep:
        # Shared, so that nobody begins to lead before this transaction has ended. SQLite has one writer anyway.
        query = query.with_for_update(read=True)
    row = connection.execute(query).one_or_none()
    if row is None or row.epoch != epoch:
        raise Deposed(row.who if row else "", row.epoch if row else 0, epoch)
