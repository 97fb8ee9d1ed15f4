"""Following a job in a terminal: what is found out on the way is told at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from farm.cli.follow import follow
from farm.client import FarmClient
from farm.v1 import jobs_pb2
from tests.farm.small_daemon import NODE
from tests.farm.store.store_world import dispatch, plan, spec, stage

NOTE = "the image at frame 8 of the video differs from what the model rendered there (PSNR 21 dB; the farm reports values below 22 dB)"


class Followed(FarmClient):
    """A client whose job goes on once it is being followed."""

    go_on: Callable[[], None] | None = None

    def watch(self, *asked: Any, **options: Any) -> Iterator[jobs_pb2.JobEvent | jobs_pb2.Job]:
        for number, update in enumerate(super().watch(*asked, **options)):
            yield update
            if isinstance(update, jobs_pb2.Job) and number and self.go_on:
                go_on, self.go_on = self.go_on, None
                go_on()


@pytest.mark.parametrize("json", [False, True])
def test_a_note_that_comes_while_a_job_is_followed_is_told_once(daemon, capsys, json):
    daemon.node(NODE)
    store = daemon.store
    job, _ = store.jobs.submit(spec(), plan({"encode": [], "mux": ["encode"]}), ["size: cropped"])

    def go_on() -> None:
        attempt = dispatch(store, job, "encode", node_id=NODE)
        store.attempts.succeed(
            attempt.id, attempt.epoch, [stage(store, attempt)], 1.0, facts={"notes": [NOTE]}
        )
        client.cancel(job.id)

    with Followed.from_profile(daemon.home / "client.json", {}) as client:
        client.go_on = go_on
        ended = follow(client, job.id, None, json)
    assert list(ended.notes) == ["size: cropped", NOTE]
    shown = capsys.readouterr()
    assert shown.err == ("" if json else f"note: {NOTE}\n"), "what submit said isn't said again"
