"""The schema: made and moved by migrations, and as the code expects it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from store_world import submit

from farm.store import Store
from farm.store.errors import SchemaTooNew
from farm.store.migrations import config
from farm.store.tables import REVISION, metadata


def test_migrations_make_the_tables_that_the_code_expects(empty_url):
    with Store.open(empty_url) as store, store._database.read() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == REVISION


def test_the_code_knows_its_newest_migration():
    assert ScriptDirectory.from_config(config()).get_current_head() == REVISION


def test_a_store_opened_again_has_what_was_in_it(url):
    with Store.open(url) as store:
        job = submit(store)
    with Store.open(url) as store:
        assert store.jobs.get(job.id) == job


BACK = {
    "0006_failures": ["ALTER TABLE tasks DROP COLUMN retried_epoch"],
    "0005_several_attempts_a_device": [
        "ALTER TABLE tasks DROP COLUMN retry_at",
        "ALTER TABLE attempts DROP COLUMN cause",
        "ALTER TABLE attempts DROP COLUMN begun",
        "ALTER TABLE attempts DROP COLUMN progressed",
        "ALTER TABLE attempts DROP COLUMN longest_step",
        "DROP TABLE strikes",
        "DROP TABLE quarantines",
    ],
    "0004_models_of_tasks": [
        "DROP INDEX uq_attempts_live_device",
        "ALTER TABLE attempts DROP COLUMN lockstep",
        """CREATE UNIQUE INDEX uq_attempts_live_device ON attempts (node_id, device)
        WHERE state IN ('dispatched', 'running')""",
    ],
    "0003_measured_speeds": [
        "ALTER TABLE tasks DROP COLUMN model",
        "ALTER TABLE tasks DROP COLUMN weights",
    ],
    "0002": ["DROP TABLE speeds"],
    "0001": ["ALTER TABLE tasks DROP COLUMN facts"],
}
"""What undoes each migration after that revision, the newest first."""


def go_back(store: Store, revision: str) -> None:
    """Make the schema what it was."""
    with store._database.write() as connection:
        for number, statements in BACK.items():
            if number >= revision:
                for statement in statements:
                    connection.execute(text(statement))
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{revision}'"))


@pytest.mark.parametrize("revision", BACK)
def test_a_store_of_an_older_schema_is_brought_up_to_date_with_its_jobs(url, revision):
    with Store.open(url) as store:
        job = submit(store)
        before = store.jobs.tasks(job.id)
        go_back(store, revision)
    with Store.open(url) as store:
        assert store.jobs.get(job.id) == job
        assert store.jobs.tasks(job.id) == before


def test_a_schema_of_newer_software_is_refused_and_left_alone(url):
    with Store.open(url) as store, store._database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaTooNew, match=f"'9999'.*'{REVISION}'"):
        Store.open(url)


def test_two_processes_that_open_an_empty_database_at_once_both_get_it(empty_url):
    opening = "import sys; from farm.store import Store; print(Store.open(sys.argv[1]).jobs.list())"
    both = [
        subprocess.Popen([sys.executable, "-c", opening, empty_url], stdout=subprocess.PIPE) for _ in range(2)
    ]
    assert [(one.communicate(timeout=60)[0], one.returncode) for one in both] == [(b"[]\n", 0)] * 2


def test_a_database_that_is_up_to_date_is_opened_without_alembic(url):
    opening = "import sys; from farm.store import Store; Store.open(sys.argv[1]); sys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", opening, url], check=False).returncode == 0


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://h/farm", "postgresql://h/farm"])
def test_an_unfit_url_is_refused_with_what_is_accepted(url):
    with pytest.raises(ValueError, match="store.url: must be sqlite:///FILE or postgresql"):
        Store.open(url)
