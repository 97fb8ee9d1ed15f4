"""The bridge, for real: a head, a raylet, the bridge process and renderers that are Ray actors."""

from __future__ import annotations

import json
import os
import queue
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest

from farm.logs import variables
from farm.processes.ray_process import RayHead, Raylet, ray_environment
from farm.v1 import bridge_pb2, bridge_pb2_grpc
from farm.wire.security import ray_token_file
from scheduler.dispatch.ray.bridge_process import BridgeProcess
from scheduler.placement.starting import NODE_GONE

IMPORTABLE = {"PYTHONPATH": f"{Path(__file__).parents[1]}{os.pathsep}{Path(__file__).parents[3]}"}


def until(condition, timeout: float = 15.0):
    """Waits for the condition to hold and returns what it returned."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, "it didn't happen in time"
        time.sleep(0.02)
    return found


class Cluster:
    """Everything on one machine, and what the daemon would do with it."""

    def __init__(self, home: Path) -> None:
        token = self.token = ray_token_file(home)
        self.head = RayHead(home, "127.0.0.1", 0, token)
        self.raylet = Raylet(home / "node", self.head.address, "127.0.0.1", token, threads=1, env=IMPORTABLE)
        self.bridge = BridgeProcess(
            home, home / "bridge.sock", self.head.address, "127.0.0.1", token,
            "not.on.this.node:SmallRenderer", "small_renderer:SmallRenderer",
        )  # fmt: skip

    def renderer(self, device: str, ray_node_id: str | None = None) -> bridge_pb2.RendererRef:
        """A device of the only node."""
        return bridge_pb2.RendererRef(
            node_id="n1", ray_node_id=ray_node_id or self.raylet.node_id(), device=device
        )

    def connect(self) -> Connection:
        """Waits for the bridge to answer."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return Connection(self)
            except grpc.RpcError:
                assert self.bridge.alive() and time.monotonic() < deadline, self.bridge.log_file.read_text()
                time.sleep(0.05)


class Connection:
    """A channel to the bridge with its events."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.channel = grpc.insecure_channel(f"unix:{cluster.bridge.socket}")
        self.stub = bridge_pb2_grpc.BridgeServiceStub(self.channel)
        self.seen: queue.Queue[bridge_pb2.WatchEventsResponse] = queue.Queue()
        stream = self.stub.WatchEvents(bridge_pb2.WatchEventsRequest())
        try:
            # Its absence is told only by the end of the stream.
            if stream.initial_metadata() is None or not stream.is_active():
                next(stream)
        except grpc.RpcError:
            self.channel.close()
            raise
        threading.Thread(target=self._listen, args=[stream], daemon=True).start()

    def _listen(self, stream) -> None:
        try:
            for event in stream:
                self.seen.put(event)
        except grpc.RpcError:
            pass

    def dispatch(self, attempt_id: str, device: str, ray_node_id: str | None = None, **wish) -> None:
        self.stub.Dispatch(
            bridge_pb2.DispatchRequest(
                renderer=self.cluster.renderer(device, ray_node_id),
                attempt_id=attempt_id,
                epoch=3,
                payload=json.dumps(
                    {name: str(v) if isinstance(v, Path) else v for name, v in wish.items()}
                ).encode(),
            ),
            timeout=5,
        )

    def event(self, attempt_id: str, device: str, timeout: float = 15.0) -> bridge_pb2.WatchEventsResponse:
        """The next event of that attempt, or of the renderer itself with an empty one."""
        while True:
            event = self.seen.get(timeout=timeout)
            if (event.attempt_id, event.renderer.device) == (attempt_id, device):
                return event


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("b"))
    begun = time.monotonic()
    try:
        for process in (cluster.head, cluster.raylet, cluster.bridge):
            process.start()
        cluster.connect().channel.close()
        cluster.raylet.node_id(60)
        print(f"bridge answers and raylet is up after {time.monotonic() - begun:.2f} s")
        yield cluster
    finally:
        for process in (cluster.bridge, cluster.raylet, cluster.head):
            process.stop()


@pytest.fixture
def bridge(cluster: Cluster) -> Iterator[Connection]:
    connection = cluster.connect()
    yield connection
    connection.channel.close()


def test_only_its_user_may_open_the_socket(cluster: Cluster, bridge: Connection) -> None:
    mode = cluster.bridge.socket.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert mode & 0o077 == 0


def test_a_dispatched_attempt_runs_on_its_device_and_returns(bridge: Connection, tmp_path: Path) -> None:
    bridge.dispatch("a1", "cpu0", finished=tmp_path / "f")
    event = bridge.event("a1", "cpu0")
    assert (event.event, event.epoch, event.detail) == (bridge_pb2.BRIDGE_EVENT_RETURNED, 3, "")
    words = json.loads((tmp_path / "f").read_text())
    assert (words["attempt"], words["epoch"], words["device"]) == ("a1", 3, "cpu0")
    assert words["threads"] == "1"


def test_one_renderer_takes_its_attempts_one_after_the_other_on_warm_state(
    bridge: Connection, tmp_path: Path
) -> None:
    bridge.dispatch("b1", "cpu0", finished=tmp_path / "1", seconds=0.5)
    bridge.dispatch("b2", "cpu0", finished=tmp_path / "2", started=tmp_path / "s2")
    until((tmp_path / "1").exists)
    first = (tmp_path / "1").stat().st_mtime
    bridge.event("b2", "cpu0")
    assert (tmp_path / "s2").stat().st_mtime >= first
    pids = {json.loads((tmp_path / name).read_text())["pid"] for name in "12"}
    assert len(pids) == 1


def test_two_devices_render_at_the_same_time(bridge: Connection, tmp_path: Path) -> None:
    for device in ("cpu0", "cpu1"):
        bridge.dispatch(f"up-{device}", device, finished=tmp_path / f"{device}-up")
        bridge.event(f"up-{device}", device)
    for device in ("cpu0", "cpu1"):
        bridge.dispatch(
            f"c-{device}", device, started=tmp_path / device, seconds=2, finished=tmp_path / f"{device}-end"
        )
    until(lambda: (tmp_path / "cpu0").exists() and (tmp_path / "cpu1").exists())
    assert not (tmp_path / "cpu0-end").exists()
    assert not (tmp_path / "cpu1-end").exists()
    bridge.event("c-cpu1", "cpu1")


def test_a_renderer_asks_another_without_a_class_that_the_other_may_not_have(
    bridge: Connection, tmp_path: Path
) -> None:
    bridge.dispatch("q0", "cpu1", finished=tmp_path / "up")
    bridge.event("q0", "cpu1")
    asked = bridge.cluster.renderer("cpu1")
    bridge.dispatch("q1", "cpu0", ask=f"renderer:n1:cpu1:{asked.ray_node_id}", answered=tmp_path / "said")
    bridge.event("q1", "cpu0")
    assert json.loads((tmp_path / "said").read_text()) == [True, ["SimpleNamespace", "g/1"]]


BEGIN_ANOTHER = """
import sys, ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from farm.processes.ray_launch import driver_job_config
sys.path.insert(0, sys.argv[4])
from small_renderer import EarlierActor  # the bridge can't import it
ray.init(address=sys.argv[1], namespace="farm", job_config=driver_job_config())
where = NodeAffinitySchedulingStrategy(sys.argv[3], soft=False)
actor = ray.remote(EarlierActor).options(name=sys.argv[2], lifetime="detached", num_cpus=0, scheduling_strategy=where)
ray.get(actor.remote().ping.remote())
"""


def test_a_renderer_that_another_version_began_makes_way_for_one_of_this_version(
    cluster: Cluster, bridge: Connection, tmp_path: Path
) -> None:
    node = cluster.raylet.node_id()
    arguments = [cluster.head.address, f"renderer:n1:earlier:{node}", node, str(Path(__file__).parents[1])]
    environment = ray_environment("127.0.0.1", cluster.token)
    subprocess.run([sys.executable, "-c", BEGIN_ANOTHER, *arguments], env=environment, check=True, timeout=60)
    bridge.dispatch("w1", "earlier", finished=tmp_path / "1")
    event = bridge.event("w1", "earlier")
    assert event.event == bridge_pb2.BRIDGE_EVENT_REFUSED
    assert "the renderer was started by another version of the farm" in event.detail
    bridge.dispatch("w2", "earlier", finished=tmp_path / "2")
    assert bridge.event("w2", "earlier").event == bridge_pb2.BRIDGE_EVENT_RETURNED
    assert (tmp_path / "2").exists() and not (tmp_path / "1").exists()


def test_an_attempt_that_raises_returns_with_the_error(bridge: Connection) -> None:
    bridge.dispatch("d1", "cpu0", error="the latents are NaN")
    event = bridge.event("d1", "cpu0")
    assert event.event == bridge_pb2.BRIDGE_EVENT_RETURNED
    assert "the latents are NaN" in event.detail


def test_a_killed_renderer_is_told_at_once_and_the_next_dispatch_has_a_fresh_one(
    bridge: Connection, tmp_path: Path
) -> None:
    bridge.dispatch("e1", "cpu0", started=tmp_path / "s", seconds=1000)
    until(lambda: (tmp_path / "s").exists() and (tmp_path / "s").read_text())
    pid = int((tmp_path / "s").read_text())
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    assert bridge.event("e1", "cpu0").event == bridge_pb2.BRIDGE_EVENT_RENDERER_DIED
    assert time.monotonic() - killed < 2
    assert bridge.event("", "cpu0").event == bridge_pb2.BRIDGE_EVENT_RENDERER_DIED
    bridge.dispatch("e2", "cpu0", finished=tmp_path / "f")
    assert bridge.event("e2", "cpu0").event == bridge_pb2.BRIDGE_EVENT_RETURNED
    assert json.loads((tmp_path / "f").read_text())["pid"] != pid


def test_a_stopped_renderer_ends_in_the_middle_of_its_attempt(
    cluster: Cluster, bridge: Connection, tmp_path: Path
) -> None:
    bridge.dispatch("f1", "cpu0", started=tmp_path / "s", seconds=1000)
    until((tmp_path / "s").exists)
    bridge.stub.StopRenderer(bridge_pb2.StopRendererRequest(renderer=cluster.renderer("cpu0")))
    assert bridge.event("f1", "cpu0").event == bridge_pb2.BRIDGE_EVENT_RENDERER_DIED
    bridge.stub.StopRenderer(bridge_pb2.StopRendererRequest(renderer=cluster.renderer("cpu0")))


def test_a_renderer_that_can_t_be_built_dies_with_its_reason(cluster: Cluster, bridge: Connection) -> None:
    bridge.stub.StartRenderer(bridge_pb2.StartRendererRequest(renderer=cluster.renderer("broken")))
    event = bridge.event("", "broken")
    assert event.event == bridge_pb2.BRIDGE_EVENT_RENDERER_DIED
    assert "this device has no memory left" in event.detail


def test_a_node_ray_doesn_t_know_is_refused_and_keeps_nobody_waiting(
    bridge: Connection, tmp_path: Path
) -> None:
    bridge.dispatch("g1", "far", ray_node_id="ab" * 28)
    bridge.dispatch("g2", "cpu0", finished=tmp_path / "f")
    assert bridge.event("g1", "far").event == bridge_pb2.BRIDGE_EVENT_REFUSED
    bridge.dispatch("g3", "cpu0")
    assert bridge.event("g3", "cpu0").event == bridge_pb2.BRIDGE_EVENT_RETURNED


def test_a_raylet_that_went_away_refuses_attempts_and_serves_again_when_it_is_back(
    cluster: Cluster, bridge: Connection, tmp_path: Path
) -> None:
    raylet = Raylet(tmp_path, cluster.head.address, "127.0.0.1", cluster.token, threads=1, env=IMPORTABLE)
    try:
        raylet.start()
        gone = raylet.node_id(60)
        bridge.dispatch("k1", "gone", ray_node_id=gone, started=tmp_path / "s", seconds=1000)
        until((tmp_path / "s").exists)
        raylet.stop()
        assert bridge.event("k1", "gone").event == bridge_pb2.BRIDGE_EVENT_RENDERER_DIED
        bridge.dispatch("k2", "gone", ray_node_id=gone)
        assert bridge.event("k2", "gone").event == bridge_pb2.BRIDGE_EVENT_REFUSED
        raylet.start()
        bridge.dispatch("k3", "gone", ray_node_id=raylet.node_id(60))
        assert bridge.event("k3", "gone").event == bridge_pb2.BRIDGE_EVENT_RETURNED
    finally:
        raylet.stop()


@pytest.mark.parametrize("field", ["node_id", "ray_node_id", "device"])
def test_a_request_without_its_renderer_is_refused_by_field(
    cluster: Cluster, bridge: Connection, field: str
) -> None:
    renderer = cluster.renderer("cpu0")
    renderer.ClearField(field)
    with pytest.raises(grpc.RpcError, match=f"renderer.{field}"):
        bridge.stub.StartRenderer(bridge_pb2.StartRendererRequest(renderer=renderer))


def test_a_killed_bridge_costs_no_running_attempt_and_the_next_finds_the_renderer(
    cluster: Cluster, bridge: Connection, tmp_path: Path
) -> None:
    bridge.dispatch("h1", "cpu0", started=tmp_path / "s", seconds=6, finished=tmp_path / "1")
    until((tmp_path / "s").exists)
    pid = cluster.bridge.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: not cluster.bridge.alive())
    cluster.bridge.start()
    again = cluster.connect()
    again.stub.StartRenderer(bridge_pb2.StartRendererRequest(renderer=cluster.renderer("cpu0")))
    again.dispatch("h2", "cpu0", finished=tmp_path / "2")
    assert not (tmp_path / "1").exists()  # it still runs
    assert again.event("h2", "cpu0").event == bridge_pb2.BRIDGE_EVENT_RETURNED
    first, second = (json.loads((tmp_path / name).read_text()) for name in "12")
    assert first["attempt"] == "h1"
    assert first["pid"] == second["pid"]
    again.channel.close()


def test_a_bridge_told_to_stop_takes_its_socket_away_and_leaves_the_renderers(
    cluster: Cluster, bridge: Connection, tmp_path: Path
) -> None:
    bridge.dispatch("i1", "cpu0", finished=tmp_path / "1")
    bridge.event("i1", "cpu0")
    cluster.bridge.stop()
    assert not cluster.bridge.socket.exists()
    cluster.bridge.start()
    again = cluster.connect()
    again.dispatch("i2", "cpu0", finished=tmp_path / "2")
    again.event("i2", "cpu0")
    first, second = (json.loads((tmp_path / name).read_text()) for name in "12")
    assert first["pid"] == second["pid"]
    again.channel.close()


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"socket": "/tmp/" + "x" * 120}, "--socket"),
        ({"ray-address": "nowhere"}, "--ray-address"),
        ({"renderer": "no.class"}, "--renderer"),
    ],
)
def test_bad_arguments_are_refused_by_name(changed: dict[str, str], field: str, tmp_path: Path) -> None:
    arguments = {"socket": str(tmp_path / "s"), "ray-address": "127.0.0.1:1", "renderer": "m:C"} | changed
    command = [
        sys.executable,
        "-m",
        "scheduler.dispatch.ray.bridge",
        *(f"--{name}={value}" for name, value in arguments.items()),
    ]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 2
    assert field in ran.stderr


def test_stopping_everything_leaves_no_process_and_no_folder(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    try:
        for process in (cluster.head, cluster.raylet, cluster.bridge):
            process.start()
        connection = cluster.connect()
        cluster.raylet.node_id(60)
        connection.dispatch("j1", "cpu0", started=tmp_path / "s", seconds=1000)
        until((tmp_path / "s").exists)
        everything = [p for node in (cluster.head, cluster.raylet, cluster.bridge) for p in node.family()]
        assert int((tmp_path / "s").read_text()) in {process.pid for process in everything}
    finally:
        for process in (cluster.bridge, cluster.raylet, cluster.head):
            process.stop()
    assert not [p for p in everything if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not cluster.head.temp.exists()
    assert not cluster.raylet.temp.exists()
    assert not cluster.bridge.socket.exists()


def test_what_people_are_told_of_lost_renderers_is_not_rays_own_words():
    """A message of Ray's that the farm doesn't know stays: it may be all there is."""
    code = (
        "from ray.exceptions import ActorUnschedulableError as gone\n"
        "from scheduler.dispatch.ray._bridge_renderers import _words\n"
        "print(_words(ValueError(\"Failed to look up actor with name 'renderer:7b'. This could because 1. …\")))\n"
        "print(_words(gone('The node specified via NodeAffinitySchedulingStrategy doesn\\'t exist any more')))\n"
        "print(_words(RuntimeError('out of file descriptors')))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == [
        "its renderer ended before the task reached it",
        NODE_GONE,  # the farm restarts the raylet soon where it reads these very words
        "out of file descriptors",
    ]


def test_a_bridge_follows_the_settings_of_its_daemons_log(cluster, monkeypatch):
    assert "LTX_FARM_LOG_LEVEL" not in cluster.bridge.variables()
    for name, value in variables("debug", "json").items():
        monkeypatch.setenv(name, value)
    assert cluster.bridge.outdated() == [
        "LTX_FARM_LOG_FORMAT was not set, and is json", "LTX_FARM_LOG_LEVEL was not set, and is debug",
    ]  # fmt: skip
    assert "LTX_FARM_LOG_LEVEL" not in cluster.head.variables(), "no reason to end every renderer"
