"""A farm of two nodes to which everything is done: what was killed must not haunt it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.farm_under_test import SHOT, WALKING, FarmUnderTest, assert_same


class Desks:
    """Who is at which workstation, as the node's own command sees it."""

    def __init__(self, folder: Path, when_back: dict[str, str]):
        self._folder, self.when_back = folder, when_back
        for node in when_back:
            self.leave(node)

    def toml(self, node: str) -> str:
        return (
            f'[owner]\npresence = "command"\ncommand = "exit $(cat {self._folder / node})"\n'
            f'when_back = "{self.when_back[node]}"\ngrace = 0.5\nidle = 1.0\nevery = 0.4\n'
        )

    def sit_down(self, node: str) -> None:
        (self._folder / node).write_text("1")

    def leave(self, node: str) -> None:
        (self._folder / node).write_text("0")


@pytest.fixture(scope="session")
def desks(tmp_path_factory: pytest.TempPathFactory) -> Desks:
    """Nobody is at either; what each node does when its owner is back differs."""
    return Desks(tmp_path_factory.mktemp("desks"), {"north": "stop", "south": "free"})


@pytest.fixture(scope="session")
def farm(tmp_path_factory: pytest.TempPathFactory, desks: Desks) -> Iterator[FarmUnderTest]:
    """Two nodes of one thread each, each with an owner who is away, their renderers up, at a walking pace."""
    tomls = {node: desks.toml(node) for node in desks.when_back}
    with FarmUnderTest.with_nodes(
        tmp_path_factory.mktemp("faulty"), "north", "south", pace=WALKING, **tomls
    ) as farm:
        yield farm


@pytest.fixture(scope="session")
def undisturbed(farm: FarmUnderTest) -> str:
    """A job like SHOT to which nothing is done."""
    job_id = farm.submit(**SHOT)
    farm.succeed(job_id, 240)
    return job_id


@pytest.fixture(scope="session")
def same(farm: FarmUnderTest, undisturbed: str) -> Callable[[str], None]:
    """Fails unless a job has made the latents of the undisturbed one."""
    wanted = farm.latents(undisturbed)

    def compare(job_id: str) -> None:
        assert_same(farm.latents(job_id), wanted)

    return compare
