"""A daemon without Ray: real services, gate and store on a real port; tests play the nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.client import FarmClient
from tests.farm.small_daemon import NODE, Node, SmallDaemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[SmallDaemon]:
    """A running one, with no node and no job."""
    daemon = SmallDaemon(tmp_path / "farm")
    yield daemon
    daemon.close()


@pytest.fixture
def client(daemon: SmallDaemon) -> Iterator[FarmClient]:
    """A client of it."""
    with daemon.client() as client:
        yield client


@pytest.fixture
def node(daemon: SmallDaemon) -> Node:
    """The node NODE, which the test plays, connected."""
    return daemon.node(NODE)
