"""farmctl db: the record in one file and back, while it is written, and what is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from farm.durable import take
from farm.states import AttemptState, JobState
from farm.store import Store
from farm.store.errors import Deposed, NotFound
from farm.store.migrations import upgrade
from farm.store.tables import REVISION
from tests.damage import OF_TEXT
from tests.farm.store.leader_process import leading
from tests.farm.store.schema_rows import REVISIONS, fill
from tests.farm.store.store_world import dispatch, finish, join, run, submit
from tests.pipes import out_of


@pytest.fixture
def elsewhere(url: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """URL of an empty database of the same kind as `url`."""
    sqlite = url.startswith("sqlite")
    return f"sqlite:///{tmp_path}/elsewhere.db" if sqlite else request.getfixturevalue("postgres_database")


def test_what_a_backup_made_while_rendering_restores_goes_on_to_the_end(url, elsewhere, backup, farmctl):
    with Store.lead(url, "farmd") as store:
        join(store)
        job = submit(store)
        run(store, job, "encode")
        held, silent = (
            dispatch(store, job, "window/0"),
            dispatch(store, job, "window/1", device="d1", until=20.0),
        )
        made = farmctl(url, "backup", backup)
        assert made.exit_code == 0 and "artifacts are not part of the backup" in made.stderr
        later = submit(store)
        finish(store, silent)
    assert farmctl(elsewhere, "restore", backup).exit_code == 0
    with Store.lead(elsewhere, "farmd") as store:
        with pytest.raises(NotFound):
            store.jobs.get(later.id)
        assert finish(store, held).committed, "what a renderer still holds is taken"
        (lost,) = store.attempts.expire(30.0)
        assert lost.id == silent.id
        run(store, job, "window/1", "decode/0", "mux")
        assert store.jobs.get(job.id).state == JobState.SUCCEEDED
        tries = {task.key: [one.state for one in tries] for task, tries in store.jobs.tasks(job.id)}
        once = [AttemptState.SUCCEEDED]
        assert tries == dict.fromkeys(("encode", "window/0", "decode/0", "mux"), once) | {
            "window/1": [AttemptState.LOST, AttemptState.SUCCEEDED]
        }


def test_a_backup_shows_one_moment_of_a_record_that_is_being_written(url, elsewhere, backup, farmctl):
    with leading(url) as writing:
        numbers = [int(out_of(writing).readline()) for _ in range(5)]
        assert farmctl(url, "backup", backup).exit_code == 0
        assert int(out_of(writing).readline()) > numbers[-1], "nobody waits for a backup to end"
    assert farmctl(elsewhere, "restore", backup).exit_code == 0
    with Store.open(elsewhere) as store:
        kept = [event.number for event in store.events.after(0)]
    assert kept == list(range(1, len(kept) + 1)) and len(kept) >= numbers[-1]


def test_a_restore_replaces_what_is_there_only_by_force_and_deposes_for_good(url, backup, farmctl):
    with Store.lead(url, "farmd") as store:
        first = submit(store)
    assert farmctl(url, "backup", backup).exit_code == 0
    old = Store.lead(url, "an old farmd")
    second = submit(old)
    lock = old._database._lock
    assert lock is not None
    lock.release()  # as if it had been cut off; it lives on
    refused = farmctl(url, "restore", backup)
    assert refused.exit_code == 1 and "not empty (there are rows in" in refused.stderr
    assert [job.id for job in old.jobs.list()] == [second.id, first.id]
    assert farmctl(url, "restore", backup, "--force").exit_code == 0
    for _ in range(2):
        with Store.lead(url, "farmd") as store:
            assert [job.id for job in store.jobs.list()] == [first.id]
            old._database.disconnect()
            with pytest.raises(Deposed):
                submit(old)
    old.close()


def test_a_restore_is_refused_while_a_daemon_lives(url, backup, farmctl):
    with leading(url) as daemon:
        assert farmctl(url, "backup", backup).exit_code == 0
        for command in (["restore", backup, "--force"], ["upgrade"]):
            refused = farmctl(url, *command)
            assert refused.exit_code == 1 and f"pid {daemon.pid} on" in refused.stderr
        assert out_of(daemon).readline()


def test_what_is_no_whole_backup_of_this_kind_is_refused_and_nothing_changes(url, tmp_path, backup, farmctl):
    with Store.lead(url, "farmd") as store:
        join(store)
        job = submit(store)
    assert farmctl(url, "backup", backup).exit_code == 0
    whole = backup.read_bytes()
    sqlite = url.startswith("sqlite")
    other = b"PGDMP" if sqlite else b"SQLite format 3\0"
    spoiled = {
        "cut": (whole[: len(whole) * 2 // 3], "damaged|malformed|failed|not restored"),
        "other": (other + bytes(5000), "is a backup from"),
        "text": (b"hello", "is not a backup"),
        "absent": (None, "cannot read"),
    }
    for name, (content, words) in spoiled.items():
        file = tmp_path / name
        if content is not None:
            file.write_bytes(content)
        refused = farmctl(url, "restore", file, "--force")
        assert refused.exit_code == 1, name
        assert any(word in refused.stderr for word in words.split("|")), refused.stderr
        with Store.open(url) as store:
            assert store.jobs.get(job.id) == job and len(store.nodes.list()) == 1


def test_an_archive_that_breaks_off_half_way_leaves_the_database_as_it_was(
    postgres_database, tmp_path, backup, farmctl, monkeypatch
):
    with Store.lead(postgres_database, "farmd") as store:
        job = submit(store)
    assert farmctl(postgres_database, "backup", backup).exit_code == 0
    # A pg_restore that reads well and dies before it is through, as on a failing disk.
    real, folder = shutil.which("pg_restore"), tmp_path / "bin"
    folder.mkdir()
    (folder / "pg_restore").write_text(
        f'#!/bin/bash\nif [[ "$*" != --no-owner* ]]; then exec {real} "$@"; fi\n'
        f'{real} "$@" | head -n 60\necho "disk on fire" >&2\nexit 1\n'
    )
    (folder / "pg_restore").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    refused = farmctl(postgres_database, "restore", backup, "--force")
    assert refused.exit_code == 1 and "was not restored: disk on fire" in refused.stderr
    with Store.open(postgres_database) as store:
        assert store.jobs.get(job.id) == job


def test_without_postgresqls_programs_it_says_what_to_install(postgres_database, backup, farmctl):
    Store.lead(postgres_database, "farmd").close()
    refused = farmctl(postgres_database, "backup", backup, PATH="/nowhere")
    assert refused.exit_code == 1 and "pg_dump is not installed here" in refused.stderr
    assert not backup.exists()


def test_a_damaged_sqlite_database_is_replaced_by_force(tmp_path, backup, farmctl):
    url = f"sqlite:///{tmp_path}/farm.db"
    with Store.lead(url, "farmd") as store:
        job = submit(store)
    assert farmctl(url, "backup", backup).exit_code == 0
    (tmp_path / "farm.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    assert "a damaged database" in farmctl(url, "restore", backup).stderr
    assert farmctl(url, "restore", backup, "--force").exit_code == 0
    with Store.open(url) as store:
        assert store.jobs.get(job.id) == job


def test_a_backup_is_not_written_over_another_unless_told_nor_made_of_nothing(
    url, elsewhere, backup, farmctl
):
    nothing = farmctl(elsewhere, "backup", backup)
    assert nothing.exit_code == 1 and not backup.exists()
    assert farmctl(url, "backup", backup).exit_code == 0
    refused = farmctl(url, "backup", backup)
    assert refused.exit_code == 2 and "--overwrite" in refused.stderr
    assert farmctl(url, "backup", backup, "--overwrite").exit_code == 0
    assert backup.stat().st_mode & 0o777 == 0o600
    assert not list(backup.parent.glob(".*"))


def test_what_a_killed_backup_left_goes_with_the_next_and_that_of_a_running_one_stays(
    url, elsewhere, backup, farmctl
):
    with Store.lead(url, "farmd"):
        pass
    (backup.parent / ".sunday.backup.farm-backup").write_bytes(b"begun")
    (backup.parent / ".v.mp4.a-1.part").write_bytes(b"of somebody else")
    running = take(backup.parent / ".tuesday.backup.farm-backup")
    refused = farmctl(url, "backup", backup.with_name("tuesday.backup"))
    assert refused.exit_code == 1 and "another process is writing" in refused.stderr
    assert farmctl(url, "backup", backup).exit_code == 0
    left = sorted(path.name for path in backup.parent.glob(".*"))
    assert left == [".tuesday.backup.farm-backup", ".v.mp4.a-1.part"]
    os.close(running)


def test_an_older_backup_that_can_not_be_upgraded_leaves_the_database_as_it_was(
    elsewhere, url, backup, farmctl
):
    engine = create_engine(elsewhere)
    with engine.begin() as connection:
        upgrade(connection, REVISIONS[0])
        fill(connection, REVISIONS[0])
        # In the way of a table that a later schema makes.
        connection.execute(text("CREATE TABLE leader (id INTEGER)"))
    engine.dispose()
    assert farmctl(elsewhere, "backup", backup).exit_code == 0
    with Store.lead(url, "farmd") as store:
        job = submit(store)
    refused = farmctl(url, "restore", backup, "--force")
    assert refused.exit_code == 1 and "leader" in refused.stderr and "Traceback" not in refused.stderr
    with Store.lead(url, "farmd") as store:
        assert store.jobs.list() == [job]


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop"])
def test_what_is_no_file_is_no_backup_and_nobody_waits_for_it(tmp_path, farmctl, kind):
    file = tmp_path / "b"
    file.touch()
    OF_TEXT[kind](file)
    refused = farmctl(f"sqlite:///{tmp_path}/farm.db", "restore", file)
    assert refused.exit_code and (
        f"{file} must be an ordinary file" in refused.stderr or "is a directory" in refused.stderr
    )


@pytest.mark.parametrize("revision", [REVISIONS[0], REVISIONS[-2]])
def test_a_backup_of_an_older_schema_is_restored_and_upgraded(elsewhere, url, backup, farmctl, revision):
    engine = create_engine(elsewhere)
    with engine.begin() as connection:
        upgrade(connection, revision)
        fill(connection, revision)
    engine.dispose()
    assert farmctl(elsewhere, "backup", backup).exit_code == 0
    assert farmctl(url, "restore", backup).exit_code == 0
    upgraded = farmctl(elsewhere, "upgrade")
    assert upgraded.exit_code == 0 and REVISION in upgraded.stdout
    for one in (url, elsewhere):
        with Store.open(one) as store:
            assert len(store.jobs.list()) == 1


def test_a_backup_of_a_newer_schema_is_refused(url, elsewhere, backup, farmctl):
    with Store.lead(url, "farmd") as store, store._database.write() as transaction:
        transaction.connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert farmctl(url, "backup", backup).exit_code == 0
    refused = farmctl(elsewhere, "restore", backup)
    assert refused.exit_code == 1 and "schema '9999'" in refused.stderr
