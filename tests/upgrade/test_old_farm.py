"""Today's farm, for real, in the homes that an earlier version left in the middle of a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm import __version__
from tests.farm_under_test import FarmUnderTest, assert_same
from tests.upgrade.recorded import RECORDED, Recorded


@pytest.mark.long
@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded.about["version"])
def test_a_farm_that_was_upgraded_in_the_middle_of_a_job_makes_the_same_video(
    recorded: Recorded, tmp_path: Path
):
    job_id = recorded.about["job"]
    farm = FarmUnderTest(recorded.unpack(tmp_path / "farm"))
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
    assert (node.name, node.version, node.upgrade) == (recorded.node, __version__, "")
    # What was done before is kept; what its renderer took along is given away again.
    attempts = {task.key: task.attempts for task in done.tasks}
    assert [one.epoch for one in attempts["window/0"]] == [1]
    assert [one.epoch for one in attempts[recorded.about["task"]]][-1] > recorded.about["epoch"]
