"""The journal: a file in which the agent records attempts. It survives kill -9 and power loss.

The journal has two kinds of entries. A held attempt is one that a renderer has taken and not yet ended. A completion
says how an attempt ended, and stays in the journal until the daemon acknowledges it.

A restarted agent reads the held attempts from the journal. So the agent can tell the daemon about these attempts before
their renderers have connected to the agent again.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from farm.v1 import nodes_pb2

_TABLES = """
CREATE TABLE IF NOT EXISTS completions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- AUTOINCREMENT never gives a number twice
    attempt_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    message BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS held (
    attempt_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    device TEXT NOT NULL,
    pid INTEGER NOT NULL,
    born TEXT NOT NULL,
    PRIMARY KEY (attempt_id, epoch)
);
"""


SCHEMA = 0
"""SQLite's user_version of this version's journals. Whoever changes the tables raises it: older agents then refuse."""
COMPLETION_COLUMNS = ("number", "attempt_id", "epoch", "message")
HELD_COLUMNS = ("attempt_id", "epoch", "device", "pid", "born")


@dataclass(frozen=True)
class Held:
    """An attempt that a renderer has taken and not yet ended.

    `pid` is the process id of the renderer. `born` distinguishes this process from later processes with the same id.
    """

    attempt_id: str
    epoch: int
    device: str
    pid: int
    born: str


_RESERVE_PAGES = 128
_PAGE = 4096


class Journal:
    """The file in which the agent records attempts that renderers hold, and attempts that have ended.

    The entry of an ended attempt (a completion) stays in the file until the daemon has acknowledged it. A Journal may
    be used from one thread only.

    A new Journal reserves room in its file for some hundred entries, so that entries can be added while the disk is
    full. On copy-on-write file systems this doesn't help: the methods raise sqlite3.Error until the disk has room.

    If the file may be damaged, open it with nodeagent.journal_rescue.
    """

    def __init__(self, path: Path):
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        # So often that the log never grows beyond what `_reserve` has made of it.
        self._database.execute(f"PRAGMA wal_autocheckpoint={_RESERVE_PAGES // 4}")
        self._database.executescript(_TABLES)
        with contextlib.suppress(sqlite3.Error):
            self._reserve()

    def _reserve(self) -> None:
        """Write pages and free them again: the file and its log keep their size, and later entries go into that room."""
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("CREATE TABLE reserve (page BLOB)")
            page = bytes(_PAGE - 100)
            self._database.executemany("INSERT INTO reserve VALUES (?)", [(page,)] * _RESERVE_PAGES)
            self._database.execute("DROP TABLE reserve")

    def close(self) -> None:
        """Close the file. Nothing is lost if this is never called."""
        self._database.close()

    def restore(
        self, last_number: int, completions: Iterable[tuple[int, nodes_pb2.Completion]], held: Iterable[Held]
    ) -> None:
        """Fill a new journal with the entries of another journal.

        Args:
            last_number: The highest number that the other journal has given to a completion.
            completions: The completions in the other journal, each with its number.
            held: The held attempts in the other journal.
        """
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            for number, completion in completions:
                reference = completion.attempt.attempt_id, completion.attempt.epoch
                self._database.execute(
                    "INSERT INTO completions VALUES (?, ?, ?, ?)",
                    (number, *reference, completion.SerializeToString()),
                )
            for one in held:
                self.hold(one)
            self._database.execute("DELETE FROM sqlite_sequence WHERE name = 'completions'")
            self._database.execute("INSERT INTO sqlite_sequence VALUES ('completions', ?)", (last_number,))

    def hold(self, held: Held) -> None:
        """Record that a renderer has taken an attempt."""
        self._database.execute(
            "INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?)",
            (held.attempt_id, held.epoch, held.device, held.pid, held.born),
        )

    def held(self) -> list[Held]:
        """Return the attempts that renderers have taken and not yet completed."""
        rows = self._database.execute("SELECT attempt_id, epoch, device, pid, born FROM held ORDER BY rowid")
        return [Held(*row) for row in rows]

    def complete(self, completion: nodes_pb2.Completion) -> nodes_pb2.Completion:
        """Record that an attempt has ended, as `completion` says. Return the completion with its number in the journal.

        If the journal already has a completion of this attempt, the earlier completion stays, and is returned instead
        of the new one.
        """
        reference = (completion.attempt.attempt_id, completion.attempt.epoch)
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("DELETE FROM held WHERE attempt_id = ? AND epoch = ?", reference)
            known = self._database.execute(
                "SELECT number, message FROM completions WHERE attempt_id = ? AND epoch = ?", reference
            ).fetchone()
            if known is None:
                message = completion.SerializeToString()
                cursor = self._database.execute(
                    "INSERT INTO completions (attempt_id, epoch, message) VALUES (?, ?, ?)",
                    (*reference, message),
                )
                known = (cursor.lastrowid, message)
        return _completion(*known)

    def pending(self) -> list[nodes_pb2.Completion]:
        """Return the completions that the daemon has not acknowledged yet, oldest first."""
        rows = self._database.execute("SELECT number, message FROM completions ORDER BY number")
        return [_completion(*row) for row in rows]

    def acknowledge(self, number: int) -> None:
        """Delete a completion that the daemon has acknowledged. Do nothing if it is already deleted."""
        self._database.execute("DELETE FROM completions WHERE number = ?", (number,))


def _completion(number: int, message: bytes) -> nodes_pb2.Completion:
    completion = nodes_pb2.Completion.FromString(message)
    completion.journal_number = number
    return completion
