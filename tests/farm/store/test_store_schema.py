"""The schema: made and moved by migrations, and as the code expects it."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, create_engine, select, text

from farm.store import Store
from farm.store.errors import SchemaTooNew, SchemaTooOld
from farm.store.migrations import config, upgrade
from farm.store.tables import REVISION, metadata
from tests.farm.store.schema_rows import REVISIONS, fill
from tests.farm.store.store_world import submit


def test_migrations_make_the_tables_that_the_code_expects(empty_url):
    with Store.lead(empty_url, "test") as store, store._database.read() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == REVISION


def test_the_code_knows_its_newest_migration():
    assert ScriptDirectory.from_config(config()).get_current_head() == REVISION


def test_a_store_opened_again_has_what_was_in_it(url):
    with Store.lead(url, "test") as store:
        job = submit(store)
    with Store.open(url) as store:
        assert store.jobs.get(job.id) == job


def lost(connection: Connection, rows: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Those of these rows that their tables, with whatever columns they have got since, don't have any more."""
    now: dict[str, list[dict[str, Any]]] = {}
    for name, _ in rows:
        if name not in now:
            table = Table(name, MetaData(), autoload_with=connection)
            now[name] = [dict(row) for row in connection.execute(select(table)).mappings()]
    return [(name, row) for name, row in rows if not any(row.items() <= one.items() for one in now[name])]


def test_data_of_every_revision_since_the_first_survives_to_the_newest(empty_url):
    engine = create_engine(empty_url)
    rows: list[tuple[str, dict[str, Any]]] = []
    for revision in REVISIONS:
        with engine.begin() as connection:
            upgrade(connection, revision)
        with engine.begin() as connection:
            rows += fill(connection, revision)
            assert not lost(connection, rows), f"{revision} changed them"
    engine.dispose()
    with Store.lead(empty_url, "test") as store:
        jobs = store.jobs.list()
        assert len(jobs) == len(REVISIONS) and len({table for table, _ in rows}) == len(metadata.tables) - 1
        for job in jobs:
            ((task, (attempt,)),) = store.jobs.tasks(job.id)
            assert attempt.task_id == task.id and task.model
            assert len(store.events.after(0, job.id)) == 1
            # What rendered through every upgrade is taken.
            (made,) = store.artifacts.made_by(attempt.id)
            assert store.attempts.succeed(attempt.id, attempt.epoch, [made.id], 1.0).committed
            assert store.jobs.get(job.id).state == "succeeded"
        assert len(store.nodes.list()) == len(REVISIONS)


@pytest.mark.parametrize(
    "revision",
    # The first and the last ones in the short tier, where data of all go through every step too.
    [
        *REVISIONS[:3],
        *(pytest.param(one, marks=pytest.mark.long) for one in REVISIONS[3:-4]),
        *REVISIONS[-4:-1],
    ],
)
def test_a_store_of_any_older_schema_is_brought_up_to_date_at_once(empty_url, revision):
    engine = create_engine(empty_url)
    with engine.begin() as connection:
        upgrade(connection, revision)
        rows = fill(connection, revision)
    engine.dispose()
    with pytest.raises(SchemaTooOld, match=f"'{revision}'.*farmctl db upgrade"):
        Store.open(empty_url)
    with Store.lead(empty_url, "test") as store, store._database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert not lost(connection, rows)


def test_a_schema_of_newer_software_is_refused_and_left_alone(url):
    with Store.lead(url, "test") as store, store._database.write() as transaction:
        transaction.connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaTooNew, match=f"'9999'.*'{REVISION}'"):
        Store.open(url)
    with pytest.raises(SchemaTooNew):
        Store.lead(url, "test")


def test_of_two_processes_that_begin_on_an_empty_database_at_once_one_gets_it(empty_url):
    opening = (
        "import sys; from farm.store import Store; print(Store.lead(sys.argv[1], 'one').jobs.list(), flush=True); "
        "sys.stdin.read()"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", opening, empty_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    # The refused one ends by itself; only then may the other.
    while not (ended := [one for one in both if one.poll() is not None]):
        time.sleep(0.05)
    (refused,) = ended
    assert b"LedByAnother: the farm in this database is led by one" in refused.communicate(timeout=60)[1]
    (leads,) = set(both) - {refused}
    assert leads.communicate(timeout=60)[0] == b"[]\n" and leads.returncode == 0


def test_a_database_that_is_up_to_date_is_opened_without_alembic(url):
    opening = "import sys; from farm.store import Store; Store.lead(sys.argv[1], 'one'); sys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", opening, url], check=False).returncode == 0


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://h/farm", "postgresql://h/farm"])
def test_an_unfit_url_is_refused_with_what_is_accepted(url):
    with pytest.raises(ValueError, match="store.url: must be sqlite:///FILE or postgresql"):
        Store.open(url)
