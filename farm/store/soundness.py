"""Checks whether a database is complete and undamaged. A farm checks its database before it changes anything in it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from farm.damaged_files import DamagedFile
from farm.store.errors import DatabaseDamaged, NoFarmInDatabase
from farm.store.tables import REVISION, metadata

CHECKED_BYTES = 1 << 28
"""Up to this size every page of an SQLite database is looked at whenever it is opened; 256 MiB take about a second."""

_AWAY = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}


def misses(tables: Collection[str], revisions: Sequence[str]) -> str:
    """Return why a database isn't a complete farm database.

    The result is "" if nothing is wrong, or if the database is new (without tables). The function has no side effects.

    Args:
        tables: The names of the database's tables.
        revisions: The schema revisions in the table alembic_version; a farm's database has exactly one.
    """
    if tables and "jobs" not in tables:
        return f"is not a farm's: its tables are {', '.join(sorted(tables)[:5])}"
    if tables and len(revisions) != 1:
        return "does not say which schema it has (alembic_version)"
    if revisions == [REVISION] and (lacking := sorted(set(metadata.tables) - set(tables))):
        return f"lacks the table{'s' * (len(lacking) > 1)} {', '.join(lacking)}"
    return ""


def misses_columns(columns: Mapping[str, Collection[str]]) -> str:
    """Return which columns a database lacks, although it is marked as having today's schema; "" if it lacks none.

    The function has no side effects.

    Args:
        columns: A dict from each table's name to the names of the columns that the table has.
    """
    for name, table in metadata.tables.items():
        if lacking := sorted(set(table.columns.keys()) - set(columns[name])):
            return f"lacks {', '.join(lacking)} in its table {name}"
    return ""


def ends_early(header: bytes, size: int) -> str:
    """Return how the size of an SQLite file contradicts the file's header; "" if size and header agree.

    For example, a file that was cut off is shorter than its header says. The function has no side effects.

    Args:
        header: The first 100 bytes of the file.
        size: The size of the file in bytes.
    """
    page = int.from_bytes(header[16:18], "big")
    page = 1 << 16 if page == 1 else page
    # The count of pages holds only where these two numbers agree.
    pages = int.from_bytes(header[28:32], "big") if header[24:28] == header[92:96] else 0
    if header.startswith(b"SQLite format 3\0") and page and (size % page or size < pages * page):
        return f"it has {size} bytes, which is not {pages or 'a whole number of'} pages of {page}"
    return ""


def check_sqlite(path: Path, longest: int | None = CHECKED_BYTES) -> None:
    """Make sure that a file is a farm's SQLite database, or a new one. The file and its log stay unchanged.

    Args:
        path: The file.
        longest: Every page is checked if the file has at most this many bytes. None: every page is always checked.

    Raises:
        DatabaseDamaged: The file can't be read as a database.
        NoFarmInDatabase: The database holds something else, or an incomplete farm.
        DamagedFile: SQLite needs two files beside the database (-wal and -shm), but something that isn't a file has
            one of these names.
    """
    log = Path(f"{path}-wal")
    logged = log.is_file() and log.stat().st_size > 0
    for file in (log, Path(f"{path}-shm")):
        if os.path.lexists(file) and not file.is_file():
            raise DamagedFile(
                file,
                "is not a file",
                f"Move {file.name} away: SQLite must create a file with this name beside the database {path.name}",
            )
    if path.exists() and not path.is_file():
        raise DatabaseDamaged(path, f"the path is {'a folder' if path.is_dir() else 'not a file'}")
    if not path.exists() or not path.stat().st_size:
        if logged:
            raise DatabaseDamaged(
                path, f"the file is {'empty' if path.exists() else 'missing'}, but its log {log} exists"
            )
        return
    # With a log beside it a file may end early: a move of pages out of the log was broken off, and is done again.
    if not logged and (problem := ends_early(_header(path), path.stat().st_size)):
        raise DatabaseDamaged(path, problem)
    try:
        _look(path, "mode=ro", longest)
    except sqlite3.Error as error:
        # What is only away now is told by whoever opens it.
        if _is_away(error):
            return
        problem = str(error)
        if logged and _sound_alone(path):
            problem += (
                f"; SQLite can read the database without the log {log.name}; if that log belongs to another database, "
                "move the log away; if that log belongs to this database, moving the log away loses the last writes"
            )
        raise DatabaseDamaged(path, problem) from None


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(100)


def _look(path: Path, how: str, longest: int | None) -> None:
    with contextlib.closing(
        sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=30)
    ) as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        # SQLite's own tables, and those of tools that look after a database, make no application's.
        names = [name for name in names if not name.startswith(("sqlite_", "_litestream"))]
        if longest is None or path.stat().st_size <= longest:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found.splitlines()[-1])
        revisions = []
        if "alembic_version" in names:
            revisions = [row[0] for row in database.execute("SELECT version_num FROM alembic_version")]
        problem = misses(names, revisions)
        if not problem and revisions == [REVISION]:
            problem = misses_columns(
                {name: [row[1] for row in database.execute(f'PRAGMA table_info("{name}")')] for name in names}
            )
        if problem:
            raise NoFarmInDatabase(str(path), problem)


def _sound_alone(path: Path) -> bool:
    with contextlib.suppress(sqlite3.Error, NoFarmInDatabase):
        _look(path, "immutable=1", None)
        return True
    return False


def _is_away(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    # A file that ends too early is an I/O error to SQLite.
    return code & 0xFF in _AWAY or (
        code & 0xFF == sqlite3.SQLITE_IOERR and code != sqlite3.SQLITE_IOERR_SHORT_READ
    )
