"""The agent's memory of what its renderers hold and how their attempts ended, kept through kill -9 and power loss.

A completion stays until the daemon acknowledges it. What is written on a held attempt lets a restarted agent
speak for renderers that it has not heard of yet. Knows nothing of streams or processes.
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
    """An attempt in a renderer's hand. `born` tells the process from a later one with the same pid."""

    attempt_id: str
    epoch: int
    device: str
    pid: int
    born: str


_RESERVE_PAGES = 128
_PAGE = 4096


class Journal:
    """A file of completions not yet acknowledged and of attempts in hand. Used from one thread.

    It keeps room for some hundred entries from its start on, so that what ends while the disk is full can be kept and told.
    Where that doesn't help (a file system that writes nothing in place), its methods raise sqlite3.Error, and may be called
    again. A file that may be damaged is opened by nodeagent.journal_rescue.
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
        """Writes pages and gives them up again: file and log stay as large as that makes them, and are written over."""
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("CREATE TABLE reserve (page BLOB)")
            page = bytes(_PAGE - 100)
            self._database.executemany("INSERT INTO reserve VALUES (?)", [(page,)] * _RESERVE_PAGES)
            self._database.execute("DROP TABLE reserve")

    def close(self) -> None:
        """Close the file; nothing is lost without."""
        self._database.close()

    def restore(
        self, last_number: int, completions: Iterable[tuple[int, nodes_pb2.Completion]], held: Iterable[Held]
    ) -> None:
        """Fill a new journal with entries of another one, whose numbers went up to `last_number`."""
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
        """Keep that a renderer took an attempt."""
        self._database.execute(
            "INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?)",
            (held.attempt_id, held.epoch, held.device, held.pid, held.born),
        )

    def held(self) -> list[Held]:
        """Attempts taken and not completed."""
        rows = self._database.execute("SELECT attempt_id, epoch, device, pid, born FROM held ORDER BY rowid")
        return [Held(*row) for row in rows]

    def complete(self, completion: nodes_pb2.Completion) -> nodes_pb2.Completion:
        """Keep the end of an attempt, which is then in nobody's hand; returns it with its number.

        An attempt ends once: while one end waits for its acknowledgement, that one is returned.
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
        """Completions not acknowledged, oldest first."""
        rows = self._database.execute("SELECT number, message FROM completions ORDER BY number")
        return [_completion(*row) for row in rows]

    def acknowledge(self, number: int) -> None:
        """Forget a completion; one that is not there is forgotten already."""
        self._database.execute("DELETE FROM completions WHERE number = ?", (number,))


def _completion(number: int, message: bytes) -> nodes_pb2.Completion:
    completion = nodes_pb2.Completion.FromString(message)
    completion.journal_number = number
    return completion
