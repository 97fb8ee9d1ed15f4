"""What every test may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres_server import binaries, running


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of the tests' own PostgreSQL with {name} for the database."""
    folder = binaries()
    if folder is None:
        pytest.skip("NOT TESTED ON POSTGRESQL: there is no initdb in PATH or /usr/lib/postgresql/*/bin")
    with running(folder) as url:
        yield url


@pytest.fixture(scope="session")
def tiny_folder() -> Path:
    """The ltx-tiny checkpoint that comes with the farm."""
    from plugins.ltx.planning import TINY_FOLDER

    return TINY_FOLDER
