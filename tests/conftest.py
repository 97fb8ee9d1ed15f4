"""What every test may ask for."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.distributions import Installed, Wheels, build, install_client
from tests.postgres_server import PostgresServer, binaries, running

# Benchmarks are scripts: they import each other from their own folder.
sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

# Several groups of tests share the cores: threads that wait for each other take the time of those that work.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}

# How long an example takes says more of what else runs than of what is tested. The examples are the same each time, so
# that a change is refused for what it does; `--hypothesis-profile explore` draws others, and more of them.
settings.register_profile(
    "farm", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", settings.get_profile("farm"), derandomize=False, max_examples=500)
settings.load_profile("farm")

_FARMS = {"end_to_end": "farms", "faults": "faults"}
"""Folders whose tests run whole farms, and mostly wait for them."""
_WITH_THE_FARMS = {"test_determinism.py", "test_old_farm.py"}
"""Files of other folders that go with the farms, so that both take as long."""
_OWN_FARM = {
    "test_database.py",
    "test_machines.py",
    "test_production.py",
    "test_two_hosts.py",
    *_WITH_THE_FARMS,
}
"""Files with a farm of their own. They go before those of a farm that lasts until the end, and takes its share of the
cores even when it has nothing to do."""
_BUSY = {"benchmarks", "parity", "plugins", "renderer", "training"}
"""Folders whose tests compute all the time, and so use what farms beside them leave."""
_LONG = {
    "test_agent.py",
    "test_farmctl.py",
    "test_faults.py",
    "test_store_histories.py",
    "test_up_and_down.py",
}
"""Other files that take long. Begun last, one of them would have the other workers wait."""
_BOTH_DATABASES = {
    "test_store_fencing.py",
    "test_store_leader.py",
    "test_store_lookup.py",
    "test_store_schema.py",
}
"""Files of the store that `make test` runs on PostgreSQL too: locks, collation, transactions and migrations differ there."""


# What tests import stays; walking through it for garbage took three seconds of every minute.
gc.disable()


def pytest_collection_finish() -> None:
    """Everything is imported by now."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups, and pytest the markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In `make test`: two groups of one farm after the other, and beside them all else, by whoever is free."""
    items.sort(key=_rank)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
        if "[postgresql" in item.name and item.path.name not in _BOTH_DATABASES:
            item.add_marker(pytest.mark.long)


def _rank(item: pytest.Item) -> tuple[bool, int, str]:
    """Farms first; beside them what computes; then by name, which mixes what computes with what waits."""
    folder, name = item.path.relative_to(Path(__file__).parent).parts[0], item.path.name
    if _group(item) in _FARMS.values():
        return False, name not in _OWN_FARM, ""
    if folder in _BUSY and name not in _LONG:
        return True, 0, ""
    return True, 1 if name in _LONG else 2, name


def _group(item: pytest.Item) -> str:
    folder, name = item.path.parts[-2:]
    return "farms" if name in _WITH_THE_FARMS else _FARMS.get(folder, item.nodeid.partition("::")[0])


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """A command that sets up logs for its process sets them up for this test alone."""
    before = logging.getLogger().handlers[:]
    # A daemon in the tests' own process writes its lines where no command of a test prints its answer.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers = [one for one in logging.getLogger().handlers if one in before]


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


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    """Both distributions."""
    return build(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="session")
def client_alone(wheels: Wheels, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An environment with the client's wheel and what it needs. The folder's name has a space, as people's folders have."""
    return install_client(wheels, tmp_path_factory.mktemp("the client") / "env")
