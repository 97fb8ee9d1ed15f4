"""A farm of two nodes for each module of this folder: what is killed in one must not haunt another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.farm_under_test import FarmUnderTest


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarmUnderTest]:
    """Two nodes of one thread each, their renderers up."""
    farm = FarmUnderTest(tmp_path_factory.mktemp("faulty"))
    try:
        farm.start_daemon()
        farm.start_node("north")
        farm.start_node("south")
        farm.wait_for_renderers("north", "south")
        yield farm
    finally:
        farm.close()
