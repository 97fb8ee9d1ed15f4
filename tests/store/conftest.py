"""Each test of the store runs on SQLite and on a real PostgreSQL, each in a database of its own."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from farm.store import Store

_numbers = itertools.count()


class Clock:
    """Wall time that moves by a second whenever it is read."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture(scope="session")
def postgres_template(postgres: str) -> str:
    """A database with the whole schema, to copy."""
    _execute(postgres, "CREATE DATABASE farm_template")
    Store.lead(postgres.format(name="farm_template"), "test").close()
    return "farm_template"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the whole schema, to copy."""
    path = tmp_path_factory.mktemp("store") / "template.db"
    Store.lead(f"sqlite:///{path}", "test").close()
    return path


def _execute(postgres: str, statement: str) -> None:
    engine = create_engine(postgres.format(name="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/empty.db"
    name = f"empty{next(_numbers)}"
    postgres = request.getfixturevalue("postgres")
    _execute(postgres, f"CREATE DATABASE {name}")
    return postgres.format(name=name)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database that has the schema and no rows."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "farm.db")
        return f"sqlite:///{tmp_path}/farm.db"
    name = f"farm{next(_numbers)}"
    template = request.getfixturevalue("postgres_template")
    postgres = request.getfixturevalue("postgres")
    _execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}")
    return postgres.format(name=name)


@pytest.fixture
def postgres_database(postgres: str) -> str:
    """URL of a PostgreSQL database with nothing in it."""
    name = f"only{next(_numbers)}"
    _execute(postgres, f"CREATE DATABASE {name}")
    return postgres.format(name=name)


@pytest.fixture
def open_store(url: str) -> Iterator[Callable[..., Store]]:
    """Opens stores on the test's database, each with connections of its own; they all write, in the first one's name."""
    opened = []

    def open_one(**options) -> Store:
        if opened:
            other = Store.open(url, wall=Clock())
            other._database._epoch = opened[0]._database._epoch
        else:
            other = Store.lead(url, "test", wall=Clock(), **options)
        opened.append(other)
        return other

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    """An open store with nothing in it."""
    return open_store()
