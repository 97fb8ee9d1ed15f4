"""Each test of the store runs on SQLite and on a real PostgreSQL, in an empty database."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import create_engine, text

from farm.cli import main
from farm.store import Store
from tests.farm.store.store_world import empty

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
def backend(request: pytest.FixtureRequest) -> str:
    """The kind of database."""
    return request.param


@pytest.fixture
def empty_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database with nothing in it."""
    if backend == "sqlite":
        return f"sqlite:///{tmp_path}/empty.db"
    name = f"empty{next(_numbers)}"
    postgres = request.getfixturevalue("postgres")
    _execute(postgres, f"CREATE DATABASE {name}")
    return postgres.format(name=name)


@pytest.fixture(scope="session")
def new_sqlite(sqlite_template: Path) -> Callable[[Path], str]:
    """Makes a database with the schema in a folder, and gives its URL."""

    def make(folder: Path) -> str:
        shutil.copy(sqlite_template, folder / "farm.db")
        return f"sqlite:///{folder}/farm.db"

    return make


@pytest.fixture(scope="session")
def new_postgresql(postgres: str, postgres_template: str) -> Callable[[Path], str]:
    """Makes a database with the schema, on the server and in no folder, and gives its URL."""

    def make(_: Path) -> str:
        name = f"farm{next(_numbers)}"
        _execute(postgres, f"CREATE DATABASE {name} TEMPLATE {postgres_template}")
        return postgres.format(name=name)

    return make


@pytest.fixture
def url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database of the test's own that has the schema and no rows."""
    return request.getfixturevalue(f"new_{backend}")(tmp_path)


@pytest.fixture
def postgres_database(postgres: str) -> str:
    """URL of a PostgreSQL database with nothing in it."""
    name = f"only{next(_numbers)}"
    _execute(postgres, f"CREATE DATABASE {name}")
    return postgres.format(name=name)


@pytest.fixture
def open_store(url: str) -> Iterator[Callable[..., Store]]:
    """Opens stores on the test's database, each with connections of its own; they all write, in the first one's name."""
    opened: list[Store] = []

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


@pytest.fixture(scope="session")
def kept_sqlite(
    new_sqlite: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """Tests have it one after the other: to make one takes longer than most of them."""
    with Store.lead(new_sqlite(tmp_path_factory.mktemp("kept")), "test", wall=Clock()) as store:
        yield store


@pytest.fixture(scope="session")
def kept_postgresql(new_postgresql: Callable[[Path], str]) -> Iterator[Store]:
    """Tests have it one after the other: to make one takes longer than most of them."""
    with Store.lead(new_postgresql(Path()), "test", wall=Clock()) as store:
        yield store


@pytest.fixture
def store(backend: str, request: pytest.FixtureRequest) -> Store:
    """An open store with nothing in it; on a database of the test's own if the test asks for `url` or `open_store`."""
    if {"url", "open_store"} & set(request.fixturenames):
        return request.getfixturevalue("open_store")()
    kept = request.getfixturevalue(f"kept_{backend}")
    empty(kept)
    return kept


@pytest.fixture
def farmctl(tmp_path: Path) -> Callable[..., Result]:
    """farmctl db for the database at a URL."""

    def call(url: str, *arguments: object, **environment: str) -> Result:
        given = {"FARM_HOME": str(tmp_path / "home"), "FARM_STORE_URL": url} | environment
        return CliRunner().invoke(main, ["db", *map(str, arguments)], env=given)

    return call


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """Where a test's backup goes."""
    return tmp_path / "monday.backup"
