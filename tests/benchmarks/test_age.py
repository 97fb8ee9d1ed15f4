"""What a farm did long ago makes nothing slower: no statement walks it, on SQLite and on PostgreSQL.

Both farms of a pair have the same live jobs; one of them has 20,000 ended ones besides. Every statement that the
farm's daily work sends is explained in both, and run to count what it touches, without and with the statistics that
ANALYZE gathers.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from age_history import analyze, join_nodes, live_jobs, make_as_before, past
from age_paths import FULL_PAGE, Farm, daily, steering
from age_plans import Sent, rows_read, statements, touched, walks
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Row, select

from farm.logs import configure_logs
from farm.records import JobRecord
from farm.store import Store
from farm.store.tables import artifacts, jobs, leftovers, metadata
from tests.postgres_server import in_memory, running

AGE = Path(__file__).parents[2] / "benchmarks" / "age.py"
ENDED = 20_000

SOME_STEPS = 30_000
"""Steps of SQLite's virtual machine that an old farm may take more: a batch of a hundred old jobs is looked at."""
SOME_ROWS = 2_500
"""Rows that a statement may read on PostgreSQL: the live jobs have 600 tasks, and nobody asks for more than 1,000 jobs."""


@dataclass
class Pair:
    """A new farm and an old one."""

    new: Farm
    old: Farm
    live: tuple[list[JobRecord], list[JobRecord]]

    @property
    def on_sqlite(self) -> bool:
        """Whether their databases are SQLite's."""
        return self.old.store._database._engine.dialect.name == "sqlite"

    def paths(self) -> dict[str, tuple]:
        """Each path in both farms, by name."""
        both = [daily(farm, live) | steering(farm, live) for farm, live in self]
        return {name: (both[0][name], both[1][name]) for name in both[0]}

    def __iter__(self) -> Iterator[tuple[Farm, list[JobRecord]]]:
        return iter(zip((self.new, self.old), self.live, strict=True))


@pytest.fixture(params=["sqlite", "postgresql"])
def pair(request, tmp_path) -> Iterator[Pair]:
    """Two farms on databases of one kind."""
    if request.param == "sqlite":
        yield from _pair([f"sqlite:///{tmp_path}/{name}.db" for name in ("new", "old")], tmp_path)
        return
    with running(request.getfixturevalue("postgres_binaries")) as server:
        for name in ("new", "old"):
            server.create(name)
        yield from _pair([server.url.format(name=name) for name in ("new", "old")], tmp_path)


def _pair(urls: list[str], folder: Path) -> Iterator[Pair]:
    farms: list[Farm] = []
    live: list[list[JobRecord]] = []
    for url, ended in zip(urls, (0, ENDED), strict=True):
        store = Store.lead(url, "test")
        join_nodes(store)
        past(store, ended)
        live.append(live_jobs(store))
        farms.append(Farm(store, folder / "artifacts"))
    new, old = farms
    live_in_new, live_in_old = live
    yield Pair(new, old, (live_in_new, live_in_old))
    for farm in farms:
        farm.store.close()


def _problems(pair: Pair, sent: dict[str, list[Sent]], *, analyzed: bool) -> Iterator[str]:
    """What walks a table that grows, or touches more in the old farm. Adds to `sent` what each path sends.

    `analyzed`: the databases know how large their tables are. Of one of a page or two they then read all, whatever
    indexes there are.
    """
    on_sqlite = pair.on_sqlite
    for name, (in_new, in_old) in pair.paths().items():
        with statements(pair.old.store) as found:
            steps = touched(pair.old.store, in_old) if on_sqlite else in_old() and 0
        before = touched(pair.new.store, in_new) if on_sqlite else in_new() and 0
        if on_sqlite and name != FULL_PAGE and steps > 1.5 * before + SOME_STEPS:
            yield f"{name}: {steps} steps in an old farm, {before} in a new one"
        sent.setdefault(name, []).extend(found)
        for one in found:
            for farm in (pair.old,) if analyzed else (pair.new, pair.old):
                for walk in walks(farm.store, one):
                    yield f"{name}: {walk}\n    {one.known_as}"
            for farm in () if on_sqlite else (pair.new, pair.old):
                if (read := rows_read(farm.store, one)) > SOME_ROWS:
                    yield f"{name}: reads {read} rows\n    {one.known_as}"


@pytest.mark.timeout(600)
def test_no_statement_of_the_daily_work_walks_what_is_over(pair):
    sent: dict[str, list[Sent]] = {}
    # On PostgreSQL a table that grows is analyzed by the server; nobody does so on SQLite.
    problems = list(_problems(pair, sent, analyzed=False)) if pair.on_sqlite else []
    for farm, _ in pair:
        analyze(farm.store)
    problems += [f"after ANALYZE: {problem}" for problem in _problems(pair, sent, analyzed=True)]
    assert not problems, "\n".join(problems)
    silent = [name for name, found in sent.items() if not found]
    assert not silent, f"these paths sent nothing: {silent}"
    assert len({one.sql for found in sent.values() for one in found}) > 60


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path) -> Iterator[str]:
    """URL of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/farm.db"
        return
    with running(request.getfixturevalue("postgres_binaries")) as server:
        server.create("farm")
        yield server.url.format(name="farm")


def test_a_farm_of_an_earlier_version_gets_by_migration_what_a_new_one_has(url, capsys):
    with Store.lead(url, "test") as store:
        join_nodes(store)
        past(store, 100)
        live_jobs(store, 4, working=1)
        store.artifacts.stage(name="media", filename="a", size=1, sha256="0" * 64, location="a/a/data")
        with store._database.read() as connection:
            before = _counted(connection)
        with store._database.write() as transaction:
            make_as_before(transaction.connection)
    configure_logs("info", "text", "age")
    with Store.lead(url, "test") as store, store._database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert _counted(connection) == before
    said = capsys.readouterr().err
    assert "upgrading the database" in said and "Keep farms with many ended jobs fast" in said
    assert "the database is up to date" in said
    assert before["leftovers"][0].bytes > 0 and any(row.unneeded_since for row in before["artifacts"])


def _counted(connection: Connection) -> dict[str, Sequence[Row]]:
    """What the schema's revision 0011 counts, of every row."""
    columns = {
        "jobs": (jobs.c.id, jobs.c.leftover_bytes),
        "artifacts": (artifacts.c.id, artifacts.c.given, artifacts.c.unneeded_since),
        "leftovers": (leftovers.c.bytes,),
    }
    return {name: connection.execute(select(*some).order_by(some[0])).all() for name, some in columns.items()}


def test_the_judge_sees_an_index_on_all_states(tmp_path):
    with Store.lead(f"sqlite:///{tmp_path}/farm.db", "test") as store:
        join_nodes(store)
        past(store, 3000)
        live_jobs(store, 4, working=1)
        before = touched(store, store.tasks.ready)
        with store._database.write() as transaction:
            transaction.connection.exec_driver_sql("DROP INDEX ix_artifacts_attempt_id_state")
            transaction.connection.exec_driver_sql("CREATE INDEX ix_artifacts_state ON artifacts (state)")
        assert touched(store, store.tasks.ready) > 1.5 * before + SOME_STEPS
        with store._database.write() as transaction:
            transaction.connection.exec_driver_sql("DROP INDEX ix_artifacts_state")
        with statements(store) as sent:
            store.tasks.ready()
        assert any("artifacts" in walk for one in sent for walk in walks(store, one))


def test_the_benchmark_prints_its_figures():
    run = subprocess.run(
        [sys.executable, AGE, "--jobs", "40", "--rounds", "1", "--database", "sqlite"],
        capture_output=True,
        text=True,
        check=True,
        env={"TMPDIR": str(in_memory()), "PATH": ""},
    )
    figures = json.loads(run.stdout.splitlines()[-1])
    assert set(figures) == {"sqlite", "worst_ratio"}
    assert set(figures["sqlite"]) == {"ready", "list_jobs", "get_job", "heartbeat", "why"}
    assert all(set(each) == {"0", "40"} for each in figures["sqlite"].values())
