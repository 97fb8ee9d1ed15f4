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


def test_a_store_of_before_facts_is_brought_up_to_date_with_its_jobs(url):
    with Store.open(url) as store:
        job = submit(store)
        with store._database.write() as connection:
            for column in ("facts", "model", "weights"):
                connection.execute(text(f"ALTER TABLE tasks DROP COLUMN {column}"))
            connection.execute(text("DROP TABLE speeds"))
            connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    with Store.open(url) as store:
        assert store.jobs.get(job.id) == job
        assert [task.facts for task, _ in store.jobs.tasks(job.id)] == [{}] * job.tasks_total


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
    with pytest.raises(ValueError, match="database.url: must be sqlite:///FILE or postgresql"):
        Store.open(url)


def test_tasks_of_an_older_database_keep_rendering_with_their_jobs_model(empty_url):
    with Store.open(empty_url) as store:
        job = submit(store)
        before = store.jobs.tasks(job.id)
        with store._database.write() as connection:
            for column in ("model", "weights"):
                connection.execute(text(f"ALTER TABLE tasks DROP COLUMN {column}"))
            connection.execute(text("UPDATE alembic_version SET version_num = '0003_measured_speeds'"))
    with Store.open(empty_url) as store:
        assert store.jobs.tasks(job.id) == before
