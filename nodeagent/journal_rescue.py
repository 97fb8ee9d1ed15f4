"""Opens the agent's journal, and rescues the readable entries of a damaged journal.

The journal is a file in which the agent records its attempts at tasks. A damaged file is renamed, and its readable
entries are copied into a new journal.

A lost entry costs at most one rendered window. If no agent reports a task, the farm gives that task to another device.
A renderer that still runs reports its attempts again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from google.protobuf.message import DecodeError

from farm import durable
from farm.v1 import nodes_pb2
from nodeagent.journal import COMPLETION_COLUMNS, HELD_COLUMNS, SCHEMA, Held, Journal

log = structlog.get_logger()

_WITH = ("-wal", "-shm", "-journal")
_LONGEST_ENTRIES = 1_000_000


_OF_SYSTEM = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
}
"""SQLite's codes where the disk, the memory or another process is at fault. They say nothing against the file."""


class JournalAway(Exception):
    """The journal can't be used now. The message says why. The file was not changed."""


class JournalTooNew(Exception):
    """A newer version of farm-node wrote the journal. The message says what to do."""


@dataclass(frozen=True)
class _Found:
    """The readable entries of a journal. `damage`: what is wrong with the file, "" for nothing; `lost`: how many entries are
    known to be unreadable.
    """

    damage: str
    completions: list[tuple[int, nodes_pb2.Completion]]
    held: list[Held]
    lost: int
    last_number: int


def open_journal(path: Path) -> Journal:
    """Open the journal at `path`, or make a new one if there is none.

    If the file is damaged, it is renamed, and its readable entries are copied into a new journal.

    Raises:
        JournalTooNew: A newer version of farm-node wrote the journal.
        JournalAway: The journal can't be used now.
        OSError: A damaged file can't be renamed.
    """
    try:
        return _open(path)
    except sqlite3.Error as error:
        if not _of_system(error):
            raise
        raise JournalAway(
            f"{path} can't be used now ({error}); make sure that the disk has room and "
            "that this user can write to the file's folder"
        ) from None


def _open(path: Path) -> Journal:
    rescued = path.with_name(f"{path.name}.rescued")
    if rescued.exists():
        # An agent died while it put the new journal into place.
        _replace(path, rescued)
    elif any(os.path.lexists(f"{path}{suffix}") for suffix in ("", "-wal")):
        found = read(path)
        if found.damage:
            _rescue(found, rescued)
            aside = _replace(path, rescued)
            kept = len(found.completions) + len(found.held)
            log.error(
                f"{path} is damaged ({found.damage}). It was moved to {aside.name}; {kept} of "
                f"{f'{kept + found.lost}' if found.lost else 'its readable'} entries were kept. Windows that the farm "
                "doesn't know of are rendered again"
            )
    else:
        return _new(path)
    return Journal(path)


def _new(path: Path) -> Journal:
    """Make a journal where there is none. If that fails, remove the file: the next start would take it for a damaged one."""
    try:
        return Journal(path)
    except sqlite3.Error:
        for suffix in ("", *_WITH):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        raise


def _of_system(error: sqlite3.Error) -> bool:
    # Errors that SQLite itself has not raised have no code.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _OF_SYSTEM


def read(path: Path) -> _Found:
    """Read all entries of the journal at `path` that are readable. The file isn't changed.

    The result also says what is damaged, and how many entries are lost.

    Raises:
        JournalTooNew: A newer version of farm-node wrote the journal.
        sqlite3.Error: The disk, the memory or another process is at fault, not the file.
    """
    completions: dict[int, nodes_pb2.Completion] = {}
    held: list[Held] = []
    lost = 0
    if not path.is_file() or not path.stat().st_size:
        damage = "it is empty" if path.is_file() else "only its log is there"
        if path.exists() and not path.is_file():
            damage = "it is a folder" if path.is_dir() else "it is not a file"
        return _Found(damage, [], [], 0, int(time.time()))
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        # A number is never given twice: past all that an unreadable journal can have given.
        last = int(time.time())
        try:
            if not (damage := _damage(path, database)):
                (last,) = database.execute("SELECT ifnull(max(seq), 0) FROM sqlite_sequence").fetchone()
        except sqlite3.Error as error:
            if _of_system(error):
                raise
            damage = str(error)
        for row in _rows(database, "completions", COMPLETION_COLUMNS):
            if (completion := _completion(row)) is None:
                lost += 1
            else:
                completions[row[0]] = completion
        for row in _rows(database, "held", HELD_COLUMNS):
            if (attempt := _held(row)) is None:
                lost += 1
            else:
                held.append(attempt)
    if lost and not damage:
        damage = f"{lost} of its rows can't be read"
    last = last if isinstance(last, int) else int(time.time())
    return _Found(damage, sorted(completions.items()), held, lost, max(last, *completions, 0))


def _damage(path: Path, database: sqlite3.Connection) -> str:
    """Return what is wrong with the journal as a whole; "" for nothing. Raises JournalTooNew, sqlite3.Error."""
    names = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    (state,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if state != "ok":
        return state.splitlines()[-1]
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA and names & {"completions", "held"}:
        raise JournalTooNew(
            f"{path} is a journal of schema {version}, but this farm-node only knows schema {SCHEMA}; run the newer "
            "farm-node until it has reported everything in the file to the farm. If you move the file away instead, "
            "windows that only this file records as complete will be rendered again"
        )
    for name, columns in {"completions": COMPLETION_COLUMNS, "held": HELD_COLUMNS}.items():
        if name not in names:
            return f"it has no table {name}"
        if tuple(row[1] for row in database.execute(f"PRAGMA table_info({name})")) != columns:
            return f"the columns of its table {name} are not the journal's"
    return ""


def _rows(database: sqlite3.Connection, table: str, columns: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows before the first damaged page, then those after the last damaged page; each row once."""
    seen: set[int] = set()
    # What isn't text is told from it later, a row at a time.
    database.text_factory = bytes
    for order in ("ASC", "DESC"):
        query = f"SELECT rowid, {', '.join(columns)} FROM {table} NOT INDEXED ORDER BY rowid {order} LIMIT ?"
        try:
            for rowid, *row in database.execute(query, (_LONGEST_ENTRIES,)):
                if rowid not in seen:
                    seen.add(rowid)
                    yield tuple(row)
            return
        except sqlite3.Error as error:
            if _of_system(error):
                raise
            continue


def _completion(row: tuple[Any, ...]) -> nodes_pb2.Completion | None:
    number, attempt_id, epoch, message = row
    try:
        completion = nodes_pb2.Completion.FromString(message)
        as_written = (
            completion.attempt.attempt_id == attempt_id.decode() and completion.attempt.epoch == epoch
        )
    except (DecodeError, TypeError, AttributeError, UnicodeDecodeError):
        return None
    return completion if as_written and attempt_id and isinstance(number, int) else None


def _held(row: tuple[Any, ...]) -> Held | None:
    attempt_id, epoch, device, pid, born = row
    try:
        held = Held(attempt_id.decode(), epoch, device.decode(), pid, born.decode())
    except (AttributeError, UnicodeDecodeError):
        return None
    whole = held.attempt_id and isinstance(epoch, int) and isinstance(pid, int) and pid > 0
    return held if whole else None


def _rescue(found: _Found, rescued: Path) -> None:
    """Write a new journal with the entries of `found`. It appears at `rescued` only once it is whole."""
    part = rescued.with_name(f".{rescued.name}.part")
    for suffix in ("", *_WITH):
        Path(f"{part}{suffix}").unlink(missing_ok=True)
    journal = Journal(part)
    journal.restore(found.last_number, found.completions, found.held)
    journal.close()
    durable.give_name(part, rescued)


def _replace(path: Path, rescued: Path) -> Path:
    aside = _set_aside(path)
    durable.give_name(rescued, path)
    return aside


def _set_aside(path: Path) -> Path:
    aside = durable.aside_name(path)
    for suffix in ("", *_WITH):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{path}{suffix}", f"{aside}{suffix}")
    return aside
