"""Machines that come, move and fill up: what the farm notices, and what it says meanwhile.

A server with two networks, a workstation on each. Each test begins with a farm that it sets up itself.
"""

from __future__ import annotations

import contextlib
import shlex
import signal
import subprocess
import time
import warnings
from collections.abc import Iterator
from functools import partial

import psutil
import pytest
from google.protobuf import json_format

from farm.v1 import jobs_pb2, nodes_pb2
from tests.farm_under_test import eventually
from tests.network_under_test import Host, Switch, why_no_hosts

if missing := why_no_hosts():
    warnings.warn(f"machines that move are not tested: {missing}", stacklevel=1)
    pytest.skip(f"network namespaces can't be made: {missing}", allow_module_level=True)

PORT = 7433
LEASES = """
[leases]
heartbeat = 0.5
lease = 2
requeue = 15
"""
JOB = ("submit", "text", "--prompt", "a red ball", "--frames", 25, "--size", "96x64", "--steps", 4)


class Premises:
    """A `server` with sockets for two networks; a workstation `desk` on the first and `shed` on the second."""

    def __init__(self, off: contextlib.ExitStack):
        self.server, self.desk, self.shed = (Host(name) for name in ("server", "desk", "shed"))
        self.first, self.second = Switch(77), Switch(88)
        for one in (self.server, self.desk, self.shed, self.first, self.second):
            off.callback(one.close)
        self.first.plug(self.desk, 2)
        self.second.plug(self.shed, 2)
        self._daemon: subprocess.Popen[str] | None = None
        self._agents: dict[str, subprocess.Popen[str]] = {}

    def start_daemon(self, listen: str, advertise: str = "", ray: str = "") -> None:
        """Writes farm.toml, ends the farmd that runs, as `systemctl restart` does, and starts it again."""
        self.end_daemon()
        told = f'[server]\nlisten = "{listen}"\n' + (f'advertise = ["{advertise}"]\n' if advertise else "")
        told += f'[ray]\naddress = "{ray}"\n' if ray else ""
        self.server.path(self.server.home / "farm.toml").write_text(told + LEASES)
        self._daemon = self._start(self.server, "farmd", "--config", "farm.toml")
        eventually("the daemon answers", lambda: self.farmctl("job", "list").returncode == 0, 40)

    def end_daemon(self) -> None:
        """Ray goes on without it."""
        if self._daemon:
            for child in psutil.Process(self._daemon.pid).children():
                child.terminate()
            assert self._daemon.wait(timeout=20) == 0, self.log(self.server)
            self._daemon = None

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """The daemon hangs meanwhile, as in the snapshot of a virtual machine."""
        assert self._daemon is not None
        starter = psutil.Process(self._daemon.pid)
        (daemon,) = starter.children()
        daemon.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            # nsenter stops with its child, and wakes it when it is woken itself.
            for process in (starter, daemon):
                process.send_signal(signal.SIGCONT)

    def farmctl(self, *arguments: object, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """farmctl on the server."""
        return self.server.run("farmctl", *arguments, timeout=timeout)

    def enroll(self) -> subprocess.CompletedProcess[str]:
        """What `farmctl node enroll` prints now."""
        return self.farmctl("node", "enroll")

    def start_agent(self, host: Host, server: str = "", settings: str = "") -> None:
        """Runs the printed command, word for word, or with another server, or with settings."""
        command = shlex.split(self.enroll().stdout)
        if server:
            command[command.index("--server") + 1] = server
        if settings:
            host.path(host.home / "node.toml").write_text(settings)
            command += ["--config", "node.toml"]
        self._agents[host.name] = self._start(host, *command)

    def kill_agent(self, host: Host) -> None:
        """kill -9; its raylet and its renderers go on."""
        agent = self._agents.pop(host.name)
        for child in psutil.Process(agent.pid).children():
            child.kill()
        agent.wait(timeout=10)

    def end_agent(self, host: Host) -> None:
        """SIGTERM; its raylet goes with it."""
        if agent := self._agents.pop(host.name, None):
            for child in psutil.Process(agent.pid).children():
                child.terminate()
            agent.wait(timeout=40)

    def node(self, host: Host) -> nodes_pb2.Node | None:
        """The node as the farm knows it."""
        done = self.farmctl("node", "list", "-o", "json")
        nodes = json_format.Parse(done.stdout or "{}", nodes_pb2.ListNodesResponse()).nodes
        return next((node for node in nodes if node.name == host.name), None)

    def renders(self, host: Host) -> bool:
        """Whether it is online and its device has a renderer."""
        node = self.node(host)
        if node is None or node.state != nodes_pb2.NODE_STATE_ONLINE:
            return False
        return bool(node.models) and all(device.renderer for device in node.devices)

    def submit(self, *options: object) -> str:
        """The id of a job of one window, a small one unless `options` say otherwise."""
        done = self.farmctl(*JOB, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()[1]

    def job(self, job_id: str, *, wait: bool = False) -> jobs_pb2.GetJobResponse:
        """The job as it stands, or as it ended."""
        if wait:
            self.farmctl("job", "watch", job_id, timeout=120)
        shown = self.farmctl("job", "show", job_id, "-o", "json")
        assert shown.returncode == 0, shown.stderr
        return json_format.Parse(shown.stdout, jobs_pb2.GetJobResponse())

    def why(self, job_id: str) -> str:
        """Why it doesn't run, as the farm says it."""
        return self.farmctl("job", "why", job_id).stdout

    def succeed(self) -> jobs_pb2.GetJobResponse:
        """A small job, once it has succeeded."""
        answer = self.job(self.submit(), wait=True)
        assert answer.job.state == jobs_pb2.JOB_STATE_SUCCEEDED, answer.job.error
        return answer

    def window(self, job_id: str) -> jobs_pb2.Attempt | None:
        """The last attempt of its window."""
        attempts = [one for task in self.job(job_id).tasks if task.kind == "window" for one in task.attempts]
        return attempts[-1] if attempts else None

    def step(self, job_id: str) -> int:
        """The steps that its window has done."""
        attempt = self.window(job_id)
        return attempt.step if attempt else 0

    def begin(self, frames: int = 25) -> str:
        """The id of a job with a window of some seconds, once that is in the middle; of 121 frames it takes half a minute."""
        job_id = self.submit("--size", "256x160", "--steps", 200, "--frames", frames)
        eventually("a window has begun", partial(self.step, job_id), 60)
        return job_id

    @contextlib.contextmanager
    def held_up(self) -> Iterator[None]:
        """The desk's renderers get no time meanwhile, so that a window isn't over before what is to happen to it."""
        renderers = self.of(self.desk, "RendererActor")
        for renderer in renderers:
            renderer.suspend()
        try:
            yield
        finally:
            for renderer in renderers:
                renderer.resume()

    def of(self, host: Host, word: str) -> list[psutil.Process]:
        """Processes of a host with `word` in their command lines."""
        found = []
        for process in host.processes():
            with contextlib.suppress(psutil.Error):
                if word in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def head_address(self) -> str:
        """--node-ip of the Ray head that runs; "" without one."""
        for process in self.of(self.server, "farm.processes.ray_launch head"):
            with contextlib.suppress(psutil.Error):
                for argument in process.cmdline():
                    if argument.startswith("--node-ip="):
                        return argument.removeprefix("--node-ip=")
        return ""

    def log(self, host: Host) -> str:
        """What its daemon or its agent wrote."""
        return host.path(host.home / "log").read_text()

    def close(self) -> None:
        """Ends all in order; says what was left."""
        for host in (self.desk, self.shed, self.server):
            self.end_agent(host)
        self.end_daemon()
        self.server.run("farmd", "--config", "farm.toml", "--stop")
        left = [one for host in (self.server, self.desk, self.shed) for one in host.processes()]
        assert not left, f"left running: {left}"

    def _start(self, host: Host, *command: object) -> subprocess.Popen[str]:
        with host.path(host.home / "log").open("a") as log:
            return host.start(*command, stdout=log, stderr=subprocess.STDOUT)


@pytest.fixture(scope="module")
def premises() -> Iterator[Premises]:
    """No farm yet, and the server not plugged in."""
    with contextlib.ExitStack() as off:
        premises = Premises(off)
        yield premises
        premises.close()


def test_a_farm_of_one_machine_gets_a_network_and_then_workstations(premises):
    """It began on loopback; then it is told to listen everywhere, while the machine has no address yet."""
    premises.start_daemon(f"127.0.0.1:{PORT}")
    eventually("Ray's head is up", premises.head_address, 30)
    assert premises.head_address() == "127.0.0.1"
    assert "other machines can't reach this farm" in premises.enroll().stderr
    premises.start_daemon(f"0.0.0.0:{PORT}")
    assert f"--server 127.0.0.1:{PORT} " in premises.enroll().stdout
    address = premises.first.plug(premises.server, 1)
    assert premises.enroll().stdout.startswith(f"farm-node --server {address}:{PORT} --join-token ")
    eventually("Ray's head is where workstations reach it", lambda: premises.head_address() == address, 30)
    assert "Ray is started again" in premises.log(premises.server)
    premises.start_agent(premises.desk)
    eventually("the workstation can render", lambda: premises.renders(premises.desk), 60)
    answer = premises.succeed()
    assert {attempt.node for task in answer.tasks for attempt in task.attempts} == {"desk"}


@pytest.fixture
def farm(premises) -> Premises:
    """The server plugged into the first network, listening everywhere, and the desk rendering."""
    if not premises.server.address:
        premises.first.plug(premises.server, 1)
    if premises._daemon is None:
        premises.start_daemon(f"0.0.0.0:{PORT}")
    if premises.desk.name not in premises._agents:
        premises.start_agent(premises.desk)
    eventually("the workstation can render", lambda: premises.renders(premises.desk), 90)
    return premises


def test_a_workstation_that_gets_another_address_renders_on(farm):
    address = farm.first.give(farm.desk, 9)

    def there() -> bool:
        # The raylet of the old address may still be ending.
        raylets = farm.of(farm.desk, "farm.processes.ray_launch node")
        with contextlib.suppress(psutil.Error):
            return any(f"--node-ip={address}" in one.cmdline() for one in raylets) and farm.renders(farm.desk)
        return False

    eventually("it renders at its new address", there, 60)
    assert farm.node(farm.desk).address.startswith(address)
    farm.succeed()


@pytest.mark.long
def test_a_daemon_that_hangs_is_not_taken_for_another_farm(farm):
    with farm.hanging():
        done = farm.farmctl("job", "list")
    assert done.returncode == 1
    assert "did not answer in" in done.stderr and "certificate" not in done.stderr
    assert farm.farmctl("job", "list").returncode == 0


@pytest.mark.parametrize("name", ["desk", pytest.param("server", marks=pytest.mark.long)])
def test_ray_whose_folder_was_emptied_is_made_anew_and_its_work_goes_on(farm, name):
    host = getattr(farm, name)
    job_id = farm.begin()
    host.run("bash", "-c", "rm -rf /tmp/farm-ray-*/*")
    eventually("it is noticed", lambda: "was emptied" in farm.log(host), 30)
    assert farm.job(job_id, wait=True).job.state == jobs_pb2.JOB_STATE_SUCCEEDED
    eventually(
        "Ray is there again",
        lambda: (
            "Ray is started again" in farm.log(host)
            or "raylet is up" in farm.log(host).rpartition("was emptied")[2]
        ),
        30,
    )
    eventually("it renders", lambda: farm.renders(farm.desk), 60)
    farm.succeed()


def test_a_workstation_whose_disk_is_full_says_so_and_goes_on_when_there_is_room(farm):
    job_id = farm.begin()

    def failed() -> list[str]:
        attempts = [attempt for task in farm.job(job_id).tasks for attempt in task.attempts]
        return [one.error for one in attempts if one.state == jobs_pb2.ATTEMPT_STATE_LOST]

    with contextlib.ExitStack() as full:
        with farm.held_up():
            full.enter_context(farm.desk.full_disk())
        (error,) = eventually("the attempt ends", failed, 60)
        assert "is tried again after 5 s, because of: No space left on device" in farm.why(job_id)
    assert "No space left on device" in error
    assert farm.job(job_id, wait=True).job.state == jobs_pb2.JOB_STATE_SUCCEEDED


@pytest.mark.long
def test_a_server_whose_disk_is_full_goes_on_when_there_is_room_and_nothing_is_made_twice(farm):
    job_id = farm.begin()
    with contextlib.ExitStack() as full:
        with farm.held_up():
            full.enter_context(farm.server.full_disk())
        # Longer than the window takes: its result has nowhere to go.
        time.sleep(12)
        assert farm.window(job_id).state == jobs_pb2.ATTEMPT_STATE_RUNNING
    answer = farm.job(job_id, wait=True)
    assert answer.job.state == jobs_pb2.JOB_STATE_SUCCEEDED
    assert [len(task.attempts) for task in answer.tasks if task.kind == "window"] == [1]


def made_anew(farm: Premises, job_id: str) -> None:
    """The window of a job that ran while Ray was made anew was handed back, and another attempt ended it."""
    answer = farm.job(job_id, wait=True)
    assert answer.job.state == jobs_pb2.JOB_STATE_SUCCEEDED, answer.job.error
    (attempts,) = [task.attempts for task in answer.tasks if task.kind == "window"]
    told = [(one.from_step, one.step, one.error) for one in attempts]
    # On a busy machine the agent may hear of the change after the daemon has: then it hands the window back a second time.
    *handed_back, last = attempts
    assert 1 <= len(handed_back) <= 2 and all("is started again" in one.error for one in handed_back), told
    assert last.from_step >= handed_back[-1].step >= handed_back[0].step > 0, (
        "what was drawn is not drawn again"
    )


@pytest.mark.long
def test_rays_head_goes_to_another_address_under_a_running_window(farm):
    """The machine has two addresses, and the settings now name the other one."""
    both = ["10.77.0.1", "10.77.0.3"]
    assert farm.server.run("ip", "address", "add", f"{both[1]}/24", "dev", "eth0").returncode == 0
    for address in reversed(both):
        job_id = farm.begin(frames=121)
        with farm.held_up():
            farm.start_daemon(f"0.0.0.0:{PORT}", f"{address}:{PORT}")
        made_anew(farm, job_id)
        assert farm.head_address() == address
    assert farm.server.run("ip", "address", "del", f"{both[1]}/24", "dev", "eth0").returncode == 0


@pytest.mark.long
def test_a_bridge_that_hangs_or_has_lost_its_socket_is_made_anew(farm):
    (bridge,) = farm.of(farm.server, "scheduler.dispatch.ray.bridge")
    bridge.suspend()
    job_id = farm.submit()
    eventually("it is made anew", lambda: not bridge.is_running(), 90, every=1.0)
    assert farm.job(job_id, wait=True).job.state == jobs_pb2.JOB_STATE_SUCCEEDED
    assert "the bridge to Ray does not answer; starting it again" in farm.log(farm.server)
    (bridge,) = farm.of(farm.server, "scheduler.dispatch.ray.bridge")
    farm.end_daemon()
    farm.server.run("rm", ".farm/run/bridge.sock")
    farm.start_daemon(f"0.0.0.0:{PORT}")
    farm.succeed()
    assert not bridge.is_running()


@pytest.mark.long
def test_another_token_of_ray_reaches_all_that_run(farm):
    """As it is changed where one has leaked: by a person, in the server's home."""
    job_id = farm.begin(frames=121)
    with farm.held_up():
        farm.server.run("bash", "-c", "echo 0123456789abcdef0123456789abcdef > .farm/ray/token")
        eventually("it is noticed", lambda: "LTX_FARM_RAY_TOKEN" in farm.log(farm.server), 20)
    made_anew(farm, job_id)
    farm.succeed()


OTHERS_HEAD = """
import sys
from pathlib import Path
from farm.processes.ray_process import RayHead
home = Path("cluster")
home.mkdir()
head = RayHead(home, sys.argv[1], 0, Path(sys.argv[2]))
head.start()
head.ready(60)
print(head.address)
"""


@pytest.mark.long
def test_a_farm_joins_another_cluster_of_ray_under_a_running_window_and_leaves_it_again(farm):
    done = farm.server.run("python", "-c", OTHERS_HEAD, farm.server.address, ".farm/ray/token")
    assert done.returncode == 0, done.stderr
    job_id = farm.begin(frames=121)
    with farm.held_up():
        farm.start_daemon(f"0.0.0.0:{PORT}", ray=done.stdout.strip())
    made_anew(farm, job_id)
    assert len(farm.of(farm.server, "farm.processes.ray_launch head")) == 1, "its own head is still there"
    job_id = farm.begin(frames=121)
    with farm.held_up():
        farm.start_daemon(f"0.0.0.0:{PORT}")
    made_anew(farm, job_id)
    ended = "import sys; from pathlib import Path; from farm.processes.ray_process import RayHead; RayHead(Path('cluster'), '127.0.0.1', 0, Path('-')).stop()"
    assert len(farm.of(farm.server, "farm.processes.ray_launch head")) == 2, "another's cluster was ended"
    assert farm.server.run("python", "-c", ended).returncode == 0


@pytest.mark.long
def test_a_raylet_that_hangs_is_made_anew_once_rays_head_has_given_it_up(farm):
    (launcher,) = farm.of(farm.desk, "farm.processes.ray_launch node")
    earlier = len(farm.log(farm.desk))  # the raylet is replaced in other tests too
    for process in launcher.children():
        if process.name() == "raylet":
            process.send_signal(signal.SIGSTOP)
    for renderer in farm.of(farm.desk, "RendererActor"):
        renderer.kill()
    words = "Ray's head gave up on this machine, because it did not answer"
    eventually("the farm says so", lambda: words in farm.log(farm.server), 60)
    eventually("it is made anew", lambda: not launcher.is_running() and farm.renders(farm.desk), 60)
    lines = farm.log(farm.desk)[earlier:].splitlines()
    (line,) = [line for line in lines if "the raylet is replaced" in line]
    assert line.endswith(f'why="{words}"')
    farm.succeed()


TWO_CARDS = """
[[device]]
name = "card0"
backend = "cpu"
vram = "4GiB"
threads = 1
[[device]]
name = "card1"
backend = "cpu"
vram = "4GiB"
threads = 1
"""


@pytest.fixture
def two_cards(farm) -> Premises:
    """The farm, with two cards in the desk."""
    farm.end_agent(farm.desk)
    farm.start_agent(farm.desk, settings=TWO_CARDS)
    eventually(
        "both cards can render",
        lambda: farm.renders(farm.desk) and len(farm.node(farm.desk).devices) == 2,
        60,
    )
    return farm


@pytest.mark.long
def test_both_cards_hand_back_what_they_run_before_their_raylet_is_made_anew(two_cards):
    farm = two_cards
    jobs = [farm.submit("--size", "256x160", "--steps", 200) for _ in range(2)]
    for job_id in jobs:
        eventually("its window has begun", partial(farm.step, job_id), 60)
    farm.desk.run("bash", "-c", "rm -rf /tmp/farm-ray-*/*")
    for job_id in jobs:
        answer = farm.job(job_id, wait=True)
        assert answer.job.state == jobs_pb2.JOB_STATE_SUCCEEDED
        (first, *_) = next(task for task in answer.tasks if task.kind == "window").attempts
        assert first.state == jobs_pb2.ATTEMPT_STATE_SUCCEEDED or "Ray is started again" in first.error, first


@pytest.mark.long
def test_an_attempt_on_a_card_that_is_gone_is_lost_as_soon_as_its_node_is_back(two_cards):
    farm = two_cards
    job_id = farm.begin()
    card = farm.window(job_id).device
    left = [one for one in TWO_CARDS.split("[[device]]") if card not in one]
    farm.kill_agent(farm.desk)
    farm.start_agent(farm.desk, settings="[[device]]".join(left))
    eventually("it runs on the other card", lambda: farm.window(job_id).device != card, 20)
    answer = farm.job(job_id, wait=True)
    assert answer.job.state == jobs_pb2.JOB_STATE_SUCCEEDED
    (first, *_) = next(task for task in answer.tasks if task.kind == "window").attempts
    assert first.state == jobs_pb2.ATTEMPT_STATE_LOST and f"no longer offers {card}" in first.error


def test_a_setting_that_was_changed_while_the_agent_was_dead_holds_for_raylet_and_renderers(farm):
    farm.kill_agent(farm.desk)
    (raylet,) = farm.of(farm.desk, "farm.processes.ray_launch node")
    one_card = TWO_CARDS.partition('[[device]]\nname = "card1"')[0]
    farm.start_agent(farm.desk, settings=one_card.replace("threads = 1", "threads = 3"))

    def threads() -> set[str]:
        found = set()
        for renderer in farm.of(farm.desk, "RendererActor"):
            with contextlib.suppress(psutil.Error):
                found.add(renderer.environ()["OMP_NUM_THREADS"])
        return found

    eventually("its renderers have three threads", lambda: threads() == {"3"} and farm.renders(farm.desk), 60)
    assert not raylet.is_running()
    farm.end_agent(farm.desk)


def test_the_server_of_two_networks_is_reached_where_it_says(farm):
    reached = farm.second.plug(farm.server, 1, "eth1")
    told = eventually(
        "the new address is offered", lambda: reached in (said := farm.enroll()).stderr and said, 20
    )
    assert told.stdout.startswith(f"farm-node --server 10.77.0.1:{PORT} ")
    assert f'set `server.advertise = ["{reached}:{PORT}"]`' in told.stderr
    farm.start_agent(farm.shed)
    eventually(
        "the workstation says what it can't reach", lambda: f"10.77.0.1:{PORT}" in farm.log(farm.shed), 30
    )
    farm.end_agent(farm.shed)
    farm.start_agent(farm.shed, f"{reached}:{PORT}")
    words = "can't reach the farm's Ray at 10.77.0.1:"
    eventually("the farm says why", lambda: words in farm.farmctl("node", "list").stdout, 120, every=1.0)
    farm.end_agent(farm.desk)
    farm.start_daemon(f"0.0.0.0:{PORT}", f"{reached}:{PORT}")
    assert farm.enroll().stdout.startswith(f"farm-node --server {reached}:{PORT} ")
    eventually("it renders", lambda: farm.renders(farm.shed), 90, every=1.0)
    answer = farm.succeed()
    assert {attempt.node for task in answer.tasks for attempt in task.attempts} == {"shed"}


@pytest.mark.long
def test_a_farm_on_ipv6_loopback_renders_on_its_own_machine(premises):
    premises.end_agent(premises.desk)
    premises.end_agent(premises.shed)
    premises.start_daemon(f"[::1]:{PORT}")
    assert premises.enroll().stdout.startswith(f"farm-node --server [::1]:{PORT} ")
    premises.start_agent(premises.server)
    eventually("the machine can render", lambda: premises.renders(premises.server), 60)
    answer = premises.succeed()
    assert {attempt.node for task in answer.tasks for attempt in task.attempts} == {"server"}
    premises.end_agent(premises.server)
