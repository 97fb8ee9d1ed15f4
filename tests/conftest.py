"""What every test may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres_server import PostgresServer, binaries, running


@pytest.fixture(scope="session")
def postgres_binaries() -> Path:
    """The folder of PostgreSQL's programs."""
    folder = binaries()
    if folder is None:
        pytest.skip("NOT TESTED ON POSTGRESQL: there is no initdb in PATH or /usr/lib/postgresql/*/bin")
    return folder


@pytest.fixture(scope="session")
def postgres(postgres_binaries: Path) -> Iterator[str]:
    """URL of the tests' own PostgreSQL with {name} for the database."""
    with running(postgres_binaries) as server:
        yield server.url


@pytest.fixture(scope="module")
def own_postgres(postgres_binaries: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL that a module may stop and start."""
    with running(postgres_binaries) as server:
        yield server


@pytest.fixture(scope="session")
def tiny_folder() -> Path:
    """The ltx-tiny checkpoint that comes with the farm."""
    from plugins.ltx.planning import TINY_FOLDER

    return TINY_FOLDER
