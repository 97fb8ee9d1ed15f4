"""A record that is gone, damaged or another's: told by name before anything is changed; and bad backups, which change nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from structlog.testing import capture_logs

from farm.store import Store
from farm.store.backup import _pg
from farm.store.database import parse
from farm.store.errors import DatabaseDamaged, NoFarmInDatabase, RecordLost, StoreError
from farm.store.tables import REVISION, metadata
from tests.damage import OF_TEXT, spoil
from tests.farm.store.schema_rows import REVISIONS
from tests.farm.store.store_world import join, submit


def _one(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as database:
        for statement in statements:
            database.execute(statement)
    database.close()


@pytest.fixture(scope="module")
def led(tmp_path_factory, sqlite_template) -> Path:
    """The folder of a farm.db with a job in it, and its lock."""
    folder = tmp_path_factory.mktemp("led")
    shutil.copy(sqlite_template, folder / "farm.db")
    with Store.lead(f"sqlite:///{folder}/farm.db", "farmd") as store:
        join(store)
        submit(store)
    return folder


@pytest.fixture
def path(led, tmp_path) -> Path:
    return Path(shutil.copytree(led, tmp_path / "home")) / "farm.db"


def lead(path: Path, **options) -> Store:
    return Store.lead(f"sqlite:///{path}", "farmd", **options)


@pytest.mark.parametrize("kind", OF_TEXT)
def test_a_damaged_record_is_named_and_left_as_it_is(path, kind):
    spoil(path, OF_TEXT[kind])
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(
        (DatabaseDamaged, RecordLost), match=r"farm.db (is|.* is) (damaged|empty).*farmctl db restore"
    ):
        lead(path)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_page_of_noise_anywhere_is_found_before_it_is_written_to(path):
    content = bytearray(path.read_bytes())
    for page in (1, len(content) // 8192, len(content) // 4096 - 1):
        path.write_bytes(content[: page * 4096] + b"\xff" * 4096 + content[(page + 1) * 4096 :])
        with pytest.raises(StoreError, match="damaged|lacks"):
            lead(path)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_record_that_ends_anywhere_is_never_taken_for_a_farm(led, tmp_path_factory, data):
    path = Path(shutil.copytree(led, tmp_path_factory.mktemp("cut") / "home")) / "farm.db"
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises((DatabaseDamaged, RecordLost, NoFarmInDatabase)):
        lead(path)


@pytest.mark.parametrize("left", ["nothing", "no bytes", "no tables"])
def test_a_record_that_is_gone_is_not_begun_anew(path, left):
    path.unlink()
    if left == "no bytes":
        path.touch()
    elif left == "no tables":
        _one(path, "PRAGMA journal_mode = WAL")
    with pytest.raises(RecordLost, match=r"farm.db.lock says that a farm was led"):
        lead(path)
    path.with_name("farm.db.lock").unlink()
    with pytest.raises(RecordLost, match="/srv/artifacts holds a farm's artifacts.*move /srv/artifacts away"):
        lead(path, lived=lambda: "/srv/artifacts")
    lead(path).close()  # a first start that was broken off leaves no more than this


def test_an_empty_server_database_is_not_begun_anew_where_artifacts_are(postgres_database):
    with pytest.raises(RecordLost, match="s3://farm holds"):
        Store.lead(postgres_database, "farmd", lived=lambda: "s3://farm")
    Store.lead(postgres_database, "farmd").close()
    Store.lead(postgres_database, "farmd", lived=lambda: "s3://farm").close()


def test_a_lost_record_is_restored_without_force(path, tmp_path, farmctl, backup):
    url = f"sqlite:///{path}"
    assert farmctl(url, "backup", backup).exit_code == 0
    path.unlink()
    assert farmctl(url, "restore", backup).exit_code == 0
    with lead(path) as store:
        assert len(store.jobs.list()) == 1


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DROP TABLE artifacts", "lacks the table artifacts"),
        ("ALTER TABLE jobs RENAME TO work", "is not a farm's: its tables are"),
        ("DELETE FROM alembic_version", "does not say which schema"),
        ("ALTER TABLE jobs DROP COLUMN error", "lacks error in its table jobs"),
    ],
)
def test_a_record_that_lacks_something_is_refused_by_name(path, statement, words):
    _one(path, "PRAGMA foreign_keys = OFF", statement)
    before = path.read_bytes()
    with pytest.raises(NoFarmInDatabase, match=words):
        lead(path)
    assert path.read_bytes() == before


def test_another_applications_database_is_not_made_a_farms(tmp_path):
    path = tmp_path / "theirs.db"
    _one(path, "CREATE TABLE customers (x)")
    before = path.read_bytes()
    with pytest.raises(NoFarmInDatabase, match="its tables are customers"):
        lead(path)
    assert path.read_bytes() == before


def test_a_log_without_its_database_and_one_of_another_are_told(path, tmp_path):
    other = tmp_path / "other.db"
    database = sqlite3.connect(other)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE t (x)")
    database.execute("INSERT INTO t VALUES (zeroblob(40000))")
    database.commit()
    log = Path(f"{path}-wal")
    shutil.copy(f"{other}-wal", log)
    database.close()
    before, of_log = path.read_bytes(), log.read_bytes()
    with pytest.raises(StoreError, match="farm.db") as told:
        lead(path)
    assert "is not a farm's" in str(told.value) or "without the log farm.db-wal" in str(told.value)
    assert (path.read_bytes(), log.read_bytes()) == (before, of_log), (
        "moving the log away brings the record back"
    )
    path.unlink()
    with pytest.raises(DatabaseDamaged, match="the file is missing, but its log"):
        lead(path)


def test_an_older_copy_in_the_records_place_is_led_past_all_epochs_and_told(path):
    older = path.read_bytes()
    for _ in range(3):
        lead(path).close()
    path.write_bytes(older)
    with capture_logs() as logs, lead(path) as store:
        assert (store._database._epoch or 0) > 4
    assert [one["event"].startswith("the record is older") for one in logs] == [True]


NO_BACKUPS = {
    "without tables": ["DROP TABLE {other}"],
    "of another application": ["DROP TABLE {every}", "CREATE TABLE customers (x)"],
    "without a job table": ["DROP TABLE jobs"],
    "of no schema": ["DELETE FROM alembic_version"],
    "of a row without its job": ["DELETE FROM jobs"],
}


@pytest.mark.parametrize("kind", NO_BACKUPS)
@pytest.mark.parametrize("older", [False, True])
def test_a_file_that_is_no_whole_backup_replaces_nothing(path, tmp_path, farmctl, kind, older):
    bad = tmp_path / "bad.backup"
    shutil.copy(path, bad)
    every = list(metadata.tables)
    for statement in NO_BACKUPS[kind]:
        names = {"{other}": every, "{every}": [*every, "alembic_version"]}
        found = next((mark for mark in names if mark in statement), None)
        for name in names[found] if found else [""]:
            _one(bad, "PRAGMA foreign_keys = OFF", statement.replace(found or "{}", name))
    if older and "application" not in kind and "schema" not in kind:
        _one(bad, f"UPDATE alembic_version SET version_num = '{REVISIONS[-2]}'")
    before = {file.name: file.read_bytes() for file in path.parent.iterdir() if file.name != "farm.db.lock"}
    refused = farmctl(f"sqlite:///{path}", "restore", bad, "--force")
    assert refused.exit_code == 1 and "backup" in refused.stderr and "Traceback" not in refused.stderr
    after = {file.name: file.read_bytes() for file in path.parent.iterdir() if file.name != "farm.db.lock"}
    assert {name: after[name] for name in before} == before
    with lead(path) as store:
        assert len(store.jobs.list()) == 1


def test_what_a_restore_replaces_is_kept_where_it_is_damaged(path, tmp_path, farmctl, backup):
    url = f"sqlite:///{path}"
    assert farmctl(url, "backup", backup).exit_code == 0
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    damaged = path.read_bytes()
    restored = farmctl(url, "restore", backup, "--force")
    (aside,) = path.parent.glob("farm.db.damaged-*")
    assert restored.exit_code == 0 and aside.read_bytes() == damaged and str(aside) in restored.stderr
    with lead(path) as store:
        assert len(store.jobs.list()) == 1


def test_an_archive_of_another_database_or_without_tables_replaces_nothing(
    postgres_database, new_postgresql, tmp_path, farmctl
):
    elsewhere = new_postgresql(tmp_path)
    with Store.lead(postgres_database, "farmd") as store:
        job = submit(store)
    for number, (statements, words) in enumerate([
        (["CREATE TABLE customers (x int)"], "its table alembic_version is missing or empty"),
        (["CREATE TABLE alembic_version (version_num text)"], "its table alembic_version is missing or empty"),
        (
            [
                "CREATE TABLE alembic_version (version_num text)",
                f"INSERT INTO alembic_version VALUES ('{REVISION}')",
            ],
            "its tables are alembic_version",
        ),
        (
            [
                "CREATE TABLE alembic_version (version_num text)",
                f"INSERT INTO alembic_version VALUES ('{REVISION}')",
                "CREATE TABLE jobs (id text)",
            ],
            "lacks the tables",
        ),
    ]):  # fmt: skip
        engine = create_engine(elsewhere)
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
            for statement in statements:
                connection.execute(text(statement))
        engine.dispose()
        archive = tmp_path / f"{number}.dump"
        _pg("pg_dump", parse(elsewhere), "--format=custom", f"--file={archive}")
        refused = farmctl(postgres_database, "restore", archive, "--force")
        assert refused.exit_code == 1 and words in refused.stderr, refused.stderr
        with Store.open(postgres_database) as store:
            assert store.jobs.get(job.id) == job


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95, 0.999])
def test_an_archive_that_ends_anywhere_replaces_nothing(postgres_database, backup, farmctl, share):
    with Store.lead(postgres_database, "farmd") as store:
        job = submit(store)
    assert farmctl(postgres_database, "backup", backup).exit_code == 0
    os.truncate(backup, int(backup.stat().st_size * share))
    refused = farmctl(postgres_database, "restore", backup, "--force")
    assert refused.exit_code == 1 and str(backup) in refused.stderr and "Traceback" not in refused.stderr
    with Store.open(postgres_database) as store:
        assert store.jobs.get(job.id) == job
