"""Today's farm, for real, in the homes that an earlier version left in the middle of a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm import __version__
from tests.farm_under_test import FarmUnderTest, assert_same
from tests.postgres_server import PostgresServer
from tests.upgrade.recorded import RECORDED, Recorded, move_to_postgresql


@pytest.mark.long
@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded.about["version"])
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_farm_that_was_upgraded_in_the_middle_of_a_job_makes_the_same_video(
    recorded: Recorded, tmp_path: Path, request: pytest.FixtureRequest, database: str
):
    job_id = recorded.about["job"]
    home, url = recorded.unpack(tmp_path / "farm"), ""
    if database == "postgresql":
        server: PostgresServer = request.getfixturevalue("own_postgres")
        server.create("old")
        url = server.url.format(name="old")
        move_to_postgresql(home / "farm.db", url)
        (home / "farm.toml").write_text(f'[store]\nurl = "{url}"\n')
    farm = FarmUnderTest(home, database=url)
    try:
        farm.start_daemon()
        farm.start_node(recorded.node)
        done = farm.succeed(job_id, 240)
        assert_same(farm.latents(job_id), recorded.latents)
        with farm.client as client:
            (node,) = client.nodes()
            client.download(job_id, tmp_path / "video.mp4")
    finally:
        farm.close()
    assert (home / "farm.db").exists() == (database == "sqlite")
    assert (node.name, node.version, node.upgrade) == (recorded.node, __version__, "")
    # What was done before is kept; what its renderer took along is given away again.
    attempts = {task.key: task.attempts for task in done.tasks}
    assert [one.epoch for one in attempts["window/0"]] == [1]
    assert [one.epoch for one in attempts[recorded.about["task"]]][-1] > recorded.about["epoch"]
