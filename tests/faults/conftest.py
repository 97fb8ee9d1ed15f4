"""A farm of two nodes to which everything is done: what was killed must not haunt it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.farm_under_test import WALKING, FarmUnderTest


@pytest.fixture(scope="session")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarmUnderTest]:
    """Two nodes of one thread each, their renderers up, at a walking pace."""
    with FarmUnderTest.with_nodes(tmp_path_factory.mktemp("faulty"), "north", "south", pace=WALKING) as farm:
        yield farm
