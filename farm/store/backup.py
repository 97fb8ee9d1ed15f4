"""Backs up the farm's database to a file, and restores it from such a file.

The backup of an SQLite database is an SQLite database. The backup of a PostgreSQL database is an archive in pg_dump's
custom format. A backup says where the artifacts (the farm's files) are, but doesn't contain the files.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection
from sqlalchemy.exc import SQLAlchemyError

from farm.damaged_files import DamagedFile, open_plain
from farm.durable import aside_name, clear, give_name, take
from farm.store import soundness
from farm.store.database import Database, parse
from farm.store.errors import DatabaseDamaged, NoFarmInDatabase, StoreError

_MAGIC = {b"SQLite format 3\0": "SQLite", b"PGDMP": "PostgreSQL"}
_PART = ".farm-backup"
"""Ending of a backup's file while it is written; others of the folder have `.part`."""

_BUSY_SECONDS = 30


class BackupFailed(StoreError):
    """A backup could not be made or restored. Nothing has changed."""


class NotEmpty(StoreError):
    """The database already holds rows, which restoring a backup would replace."""


def back_up(url: str, file: Path) -> None:
    """Back up the farm's database to a file. The daemon may keep running.

    If the backup fails, an existing file is kept unchanged.

    Args:
        url: The URL of the farm's database.
        file: The file to write. An existing file is replaced.

    Raises:
        BackupFailed: The backup could not be made.
        DatabaseAway: The database can't be used at this moment.
    """
    parsed = parse(url)
    with _whole(file) as part:
        if parsed.drivername == "sqlite":
            database = Path(parsed.database or "")
            if not database.is_file():
                raise BackupFailed(f"there is no database at {database}")
            _copy_sqlite(database, part)
        else:
            with contextlib.closing(Database(url, time.time)) as server:
                if server.revision() is None:
                    raise BackupFailed(
                        "the database (store.url) has no tables of a farm, so there is nothing to back up"
                    )
            _pg("pg_dump", parsed, "--format=custom", "--no-owner", "--no-privileges", f"--file={part}")
        _revision(part)


def restore(url: str, file: Path, who: str, *, force: bool = False) -> Path | None:
    """Replace the contents of the farm's database by a backup, and upgrade the restored contents to today's schema.

    The backup is tested first. If the backup can't be restored, the old contents stay.

    Args:
        url: The URL of the farm's database.
        file: The backup.
        who: A name of this process, shown to other processes that want to use the database.
        force: True: replace everything that is in the database. False: refuse a database that holds rows.

    Returns:
        The path at which the old SQLite file is kept. None if no old file is kept. An old file is kept, under another
        name, only if it was damaged or held no farm.

    Raises:
        NotEmpty: The database holds rows, and `force` is False.
        BackupFailed: The backup could not be restored.
        SchemaTooNew: The backup was made by newer software.
        LedByAnother: Another process, such as farmd, leads the farm in this database.
        DatabaseAway: The database can't be used at this moment.
    """
    parsed = parse(url)
    kind, ours = _kind(file), "SQLite" if parsed.drivername == "sqlite" else "PostgreSQL"
    if kind != ours:
        raise BackupFailed(
            f"{file} is a backup from {kind}, but the farm's database (store.url) is in {ours}; "
            "give a backup of the same kind"
        )
    with contextlib.closing(Database(url, time.time)) as database:
        database.hold(who)
        database.require_known(_revision(file))
        there, filled, epoch = database.contents()
        if filled and not force:
            raise NotEmpty(
                f"the farm's database is not empty (there are rows in {', '.join(filled)}); "
                "restore into an empty database, or give --force to replace these rows"
            )
        database.disconnect()
        if kind == "SQLite":
            aside: Path | None = _replace_sqlite(Path(parsed.database or "").resolve(), file)
        else:
            _replace_postgresql(database, file, there)
            aside = None
        # Higher than both: what an older leader still has in hand must never count again.
        database.lead(who, after=epoch)
    return aside


def _kind(file: Path) -> str:
    try:
        with open(open_plain(file, os.O_RDONLY, ""), "rb") as opened:
            begin = opened.read(16)
    except DamagedFile as error:
        raise BackupFailed(
            f"{file} {error.problem}; give a file that `farmctl db backup` has written"
        ) from None
    except OSError as error:
        raise BackupFailed(f"cannot read {file}: {error.strerror}") from None
    for magic, kind in _MAGIC.items():
        if begin.startswith(magic):
            return kind
    raise BackupFailed(f"{file} is not a backup: it is neither an SQLite database nor a pg_dump archive")


def _revision(file: Path) -> str:
    """Return the revision of the schema in a backup. Raises BackupFailed when it is no whole backup of a farm."""
    if _kind(file) == "SQLite":
        try:
            soundness.check_sqlite(file, longest=None)
        except DatabaseDamaged as error:
            raise BackupFailed(f"{file} is damaged: {error.problem}; use another backup") from None
        except NoFarmInDatabase as error:
            raise BackupFailed(f"{file} is not a complete backup of a farm: it {error.problem}") from None
        with _sqlite(file) as database, contextlib.suppress(sqlite3.OperationalError):
            if found := database.execute("SELECT version_num FROM alembic_version").fetchone():
                return found[0]
        raise BackupFailed(f"{file} is not a backup of a farm: its table alembic_version is missing or empty")
    try:
        # An archive that was cut off has no list of contents, or not what is in it.
        listed = _run("pg_restore", "--list", str(file))
        script = _run("pg_restore", "--data-only", "--table=alembic_version", "--file=-", str(file))
    except BackupFailed as error:
        raise BackupFailed(f"{file} can't be restored: {error}") from None
    tables = re.findall(r"^\d+; .* TABLE DATA \S+ (\S+) \S+$", listed, re.MULTILINE)
    rows = re.search(
        r"^COPY \S*alembic_version \(version_num\) FROM stdin;\n(.*?)^\\\.$", script, re.MULTILINE | re.DOTALL
    )
    revisions = rows[1].split() if rows else []
    if not revisions:
        raise BackupFailed(f"{file} is not a backup of a farm: its table alembic_version is missing or empty")
    if problem := soundness.misses(tables, revisions):
        raise BackupFailed(f"{file} is not a complete backup of a farm: it {problem}")
    return revisions[0]


@contextlib.contextmanager
def _whole(file: Path) -> Iterator[Path]:
    """Yield a file beside `file` that takes its place when the block ends well, synced, for its owner alone."""
    part = file.with_name(f".{file.name}{_PART}")
    handle = None
    try:
        # Of backups that were killed, whatever they were to be called.
        clear(file.parent, f".*{_PART}")
        handle = take(part, wait=False)
        yield part
        give_name(part, file)
    except BlockingIOError:
        raise BackupFailed(f"another process is writing {file} now; try again later") from None
    except OSError as error:
        raise BackupFailed(f"cannot write {error.filename or file}: {error.strerror}") from None
    finally:
        if handle is not None:
            part.unlink(missing_ok=True)
            os.close(handle)


@contextlib.contextmanager
def _sqlite(file: Path, mode: str = "ro") -> Iterator[sqlite3.Connection]:
    try:
        uri = f"{file.absolute().as_uri()}?mode={mode}"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as database:
            yield database
    except sqlite3.Error as error:
        raise BackupFailed(f"{file}: {error}") from None


def _copy_sqlite(source: Path, target: Path) -> None:
    with _sqlite(source, "rw") as record, _sqlite(target, "rw") as copy:
        # In one step, within one reading transaction: writers go on, and are not in it.
        record.backup(copy)
        # One file, with nothing beside it that belongs to it.
        copy.execute("PRAGMA journal_mode = DELETE")


def _replace_sqlite(database: Path, file: Path) -> Path | None:
    # Not written into what is there: that may be damaged.
    with _whole(database) as part:
        _copy_sqlite(file, part)
        _prove(part)
        aside = None
        if database.exists():
            try:
                soundness.check_sqlite(database, longest=None)
                with _sqlite(database, "rw") as old:
                    old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except StoreError:
                # A second name rather than a new one: at each moment there is a database under the old one.
                aside = aside_name(database)
                os.link(database, aside)
        # SQLite would take an old log for the new database's.
        for suffix in ("-wal", "-shm"):
            log = Path(f"{database}{suffix}")
            if aside and log.exists():
                os.rename(log, f"{aside}{suffix}")
            log.unlink(missing_ok=True)
    return aside


def _prove(part: Path) -> None:
    """Bring a copy of a backup to today's schema, before it replaces anything. Raises BackupFailed, SchemaTooNew."""
    try:
        with contextlib.closing(Database(f"sqlite:///{part}", time.time)) as copy:
            copy.upgrade()
        soundness.check_sqlite(part, longest=None)
        with _sqlite(part) as upgraded:
            if lost := upgraded.execute("PRAGMA foreign_key_check").fetchone():
                raise BackupFailed(
                    f"the backup is damaged: rows of the table {lost[0]} refer to missing rows of the table {lost[2]}"
                )
    except DatabaseDamaged as error:
        raise BackupFailed(f"the backup is damaged: {error.problem}") from None
    except NoFarmInDatabase as error:
        raise BackupFailed(f"the backup is damaged: it {error.problem}") from None
    except SQLAlchemyError as error:
        raise BackupFailed(
            f"this version of the farm can't upgrade the backup's schema: {_said(error)}"
        ) from None
    finally:
        for suffix in ("-wal", "-shm"):
            Path(f"{part}{suffix}").unlink(missing_ok=True)


def _replace_postgresql(database: Database, file: Path, tables: list[str]) -> None:
    """Replace the record and migrate it in one transaction: neither part may break off half way."""

    def fill(connection: Connection) -> None:
        cursor = connection.connection.cursor()
        if tables:
            names = ", ".join('"{}"'.format(name.replace('"', '""')) for name in tables)
            cursor.execute(f"DROP TABLE {names} CASCADE")
        _run_script(cursor, file)
        # The script sets a search path of its own, among others.
        cursor.execute("RESET ALL")

    try:
        database.replace(fill)
    except (NoFarmInDatabase, SQLAlchemyError, _errors_of_psycopg()) as error:
        raise BackupFailed(f"{file} was not restored: {_said(error)}") from None


def _said(error: Exception) -> str:
    """Return the database's message, without the statement that it quotes."""
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]


def _run_script(cursor: Any, file: Path) -> None:
    """Run the SQL that pg_restore makes of an archive. Raises BackupFailed, and psycopg.Error."""
    with tempfile.TemporaryFile() as why:
        command = [_tool("pg_restore"), "--no-owner", "--no-privileges", "--file=-", str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=why) as process:
            script, statements = process.stdout, list[bytes]()
            assert script is not None  # it is a pipe
            for line in script:
                if line.startswith(b"COPY ") and line.endswith(b" FROM stdin;\n"):
                    cursor.execute(b"".join(statements))
                    statements.clear()
                    with cursor.copy(line) as rows:
                        for row in iter(script.readline, b"\\.\n"):
                            if not row:
                                break
                            rows.write(row)
                elif not line.startswith(b"\\"):
                    # What begins with a backslash is a word to psql.
                    statements.append(line)
            if process.wait() == 0:
                return cursor.execute(b"".join(statements))
        why.seek(0)
        raise BackupFailed(f"{file} was not restored: {why.read().decode(errors='replace').strip()}")


def _errors_of_psycopg() -> type[Exception]:
    import psycopg

    return psycopg.Error


def _pg(name: str, url: URL, *arguments: str) -> str:
    connection, environment = _libpq(url)
    return _run(name, *arguments, f"--dbname={connection}", environment=environment)


def _run(name: str, *arguments: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [_tool(name), *arguments], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise BackupFailed(f"{name} failed: {done.stderr.strip()}")
    return done.stdout


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BackupFailed(
            f"{name} is not installed here; install PostgreSQL's client programs (on Debian and Ubuntu: "
            "`apt install postgresql-client`). They must not be older than the PostgreSQL server"
        )
    return found


def _libpq(url: URL) -> tuple[str, dict[str, str]]:
    """Return URL and environment for PostgreSQL's programs. The password is in the environment, hidden from `ps`."""
    from psycopg.conninfo import make_conninfo

    _, arguments = url.get_dialect()().create_connect_args(url)
    environment = dict(os.environ, PGCONNECT_TIMEOUT="5")
    if password := arguments.pop("password", None):
        environment["PGPASSWORD"] = str(password)
    return make_conninfo(**arguments), environment
