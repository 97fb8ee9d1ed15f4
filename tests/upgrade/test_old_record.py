"""Today's daemon opens the record of an earlier version, and takes the stream that its agent sent."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner

from farm import PROTOCOL, __version__
from farm.cli import main
from farm.states import AttemptState, TaskState
from farm.v1 import artifacts_pb2, nodes_pb2
from farm.wire.channels import bearer, channel
from tests.farm.small_daemon import SmallDaemon
from tests.upgrade.recorded import RECORDED, Recorded, Said


class OldAgent:
    """Says again what an agent of that version said, byte by byte; returns what today's daemon answers.

    `ids`: today's ids of artifacts by those of then, which the daemon gives.
    """

    def __init__(self, recorded: Recorded, daemon: SmallDaemon):
        self._calls: dict[int, list[Said]] = {}
        for said in recorded.said():
            self._calls.setdefault(said.call, []).append(said)
        token = daemon.home / "nodes" / recorded.node / "node.token"
        self._token = bearer(token.read_text().strip())
        self._channel = channel(daemon.address, daemon.authority.ca_pem)
        self.ids: dict[str, str] = {}

    def calls(self, method: str) -> list[list[Said]]:
        """What was said in each call of `method` that was answered."""
        return [
            said
            for said in self._calls.values()
            if said[0].method.endswith(method) and any(one.who == "daemon" for one in said)
        ]

    def register(self) -> nodes_pb2.RegisterResponse:
        """Join once more."""
        ((asked, _),) = self.calls("/Register")
        return nodes_pb2.RegisterResponse.FromString(next(self._call([asked])))

    def upload(self) -> None:
        """Bring what was made."""
        for said in self.calls("/Upload"):
            (answer,) = self._call(said)
            then = artifacts_pb2.UploadResponse.FromString(said[-1].message).artifact
            now = artifacts_pb2.UploadResponse.FromString(answer).artifact
            assert (now.sha256, now.size) == (then.sha256, then.size)
            self.ids[then.id] = now.id

    def connect(self) -> list[nodes_pb2.ConnectResponse]:
        """Say all that was said on the stream, until every completion is acknowledged."""
        (said,) = self.calls("/Connect")
        answers = []
        for answer in map(nodes_pb2.ConnectResponse.FromString, self._call(said)):
            answers.append(answer)
            if answer.HasField("acknowledge"):
                break
        return answers

    def _call(self, said: list[Said]) -> Iterator[bytes]:
        requests = [self._of_today(one) for one in said if one.who == "node"]
        method: grpc.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(said[0].method)
        return method(iter(requests), metadata=self._token, timeout=20)

    def _of_today(self, said: Said) -> bytes:
        if not said.method.endswith("/Connect"):
            return said.message
        request = nodes_pb2.ConnectRequest.FromString(said.message)
        match request.WhichOneof("message"):
            case "hello":  # another Ray or Python is refused, and isn't what is asked here
                request.hello.ray_version, request.hello.python_version = (
                    version("ray"),
                    platform.python_version(),
                )
            case "completion":
                made = [self.ids[id] for id in request.completion.artifact_ids]
                request.completion.artifact_ids[:] = made
            case _:
                return said.message
        return request.SerializeToString()


@pytest.fixture(params=RECORDED, ids=lambda recorded: recorded.about["version"])
def recorded(request: pytest.FixtureRequest) -> Recorded:
    """Each version's."""
    return request.param


@pytest.fixture
def daemon(recorded: Recorded, tmp_path: Path) -> Iterator[SmallDaemon]:
    """Today's daemon in the home of that version."""
    daemon = SmallDaemon(recorded.unpack(tmp_path / "farm"))
    yield daemon
    daemon.close()


def test_an_agent_of_the_version_before_goes_on_with_todays_daemon_and_is_told_to_upgrade(recorded, daemon):
    job_id, attempt_id, epoch = (recorded.about[name] for name in ("job", "attempt", "epoch"))
    key = recorded.about["task"]
    assert daemon.store.attempts.get(attempt_id).state is AttemptState.RUNNING, (
        "the daemon died in its middle"
    )
    waiting = {record.task.key for record in daemon.store.tasks.ready()}
    agent = OldAgent(recorded, daemon)

    registered = agent.register()
    assert registered.node_token == (daemon.home / "nodes" / recorded.node / "node.token").read_text().strip()
    agent.upload()
    welcome, *answers = agent.connect()

    assert welcome.welcome.heartbeat_seconds and welcome.welcome.lease_seconds
    grants = [answer.grant for answer in answers if answer.HasField("grant")]
    ours = nodes_pb2.AttemptRef(attempt_id=attempt_id, epoch=epoch)
    assert len(grants) > 2 and all(list(grant.attempts) == [ours] for grant in grants), "its lease is renewed"
    assert answers[-1].acknowledge.committed, answers[-1]
    ended = daemon.store.attempts.get(attempt_id)
    assert (ended.state, ended.step) == (AttemptState.SUCCEEDED, ended.steps)
    tasks = {task.key: task for task, _ in daemon.store.jobs.tasks(job_id)}
    assert tasks[key].state is TaskState.SUCCEEDED
    assert {record.task.key for record in daemon.store.tasks.ready()} - waiting, "what needs it can begin"

    upgrade = f"runs ltx-farm {recorded.about['version']}; upgrade the node to {__version__}"
    if recorded.about["protocol"] == PROTOCOL:
        upgrade = ""
    assert welcome.welcome.upgrade == upgrade
    for verb in (["list"], ["show", recorded.node]):
        told = CliRunner().invoke(
            main, ["node", *verb], env={"FARM_HOME": str(daemon.home), "COLUMNS": "200"}
        )
        assert upgrade in told.output, told.output
