"""Daemon, workstation and artist on three hosts that share nothing but a network."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
import pytest
from google.protobuf import json_format

from farm.media.clips import probe, read_frames
from farm.v1 import jobs_pb2, nodes_pb2
from farm.wire.security import Authority, join_token
from tests.farm_under_test import eventually
from tests.network_under_test import Host, Switch, why_no_hosts

if missing := why_no_hosts():
    warnings.warn(f"two hosts are not tested: {missing}", stacklevel=1)
    pytest.skip(f"network namespaces can't be made: {missing}", allow_module_level=True)

PORT = 7433
LEASE = 1.0
SETTINGS = f"""
[server]
listen = "0.0.0.0:{PORT}"
[leases]
heartbeat = 0.5
lease = {LEASE}
requeue = 30
"""


class Studio:
    """A farm on `daemon`, one workstation `north`, and an `artist` who has a client's token and nothing else."""

    def __init__(self, daemon: Host, north: Host, artist: Host, switch: Switch):
        self.daemon, self.north, self.artist, self.switch = daemon, north, artist, switch
        self.farmd: subprocess.Popen[str] | None = None
        self.farm_node: subprocess.Popen[str] | None = None
        self.enroll = ""

    @property
    def home(self) -> Path:
        """The daemon's home, seen from outside of its host."""
        return self.daemon.path(self.daemon.home / ".farm")

    def start_daemon(self) -> None:
        """Starts farmd as the README says and asks it for the command that lets workstations in."""
        self.daemon.path(self.daemon.home / "farm.toml").write_text(SETTINGS)
        farmd = self.farmd = self._start(self.daemon, "farmd", "--config", "farm.toml")

        def asked() -> str:
            assert farmd.poll() is None, self.log(self.daemon)
            return self.daemon.run("farmctl", "node", "enroll").stdout.strip() if self._profile() else ""

        self.enroll = eventually("the daemon answers", asked, 30)

    def start_node(self) -> None:
        """Runs the printed command, word for word, and waits for the renderer."""
        self.farm_node = self._start(self.north, *shlex.split(self.enroll))
        eventually("the workstation can render", self._ready, 40)

    def log(self, host: Host) -> str:
        """What the daemon or the agent on `host` wrote."""
        return host.path(host.home / "log").read_text()

    def farmctl(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """farmctl where the artist sits."""
        folder = self.artist.path(self.artist.home)
        for secret in ("ca.pem", "client.token"):
            (folder / secret).write_bytes((self.home / "tls" / secret).read_bytes())
        given = {
            "FARM_SERVER": f"{self.daemon.address}:{PORT}",
            "FARM_CA": "~/ca.pem",
            "FARM_TOKEN": "~/client.token",
        }
        return self.artist.run("farmctl", *arguments, env=given)

    def submit(self, clip: Path, *arguments: object) -> str:
        """The id of a job that the artist submits with the clip."""
        self.artist.path(self.artist.home / "clip.mp4").write_bytes(clip.read_bytes())
        done = self.farmctl("submit", "extend", "clip.mp4", "--fps", 30, "--prompt", "a red ball", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()[1]

    def job(self, job_id: str) -> jobs_pb2.GetJobResponse:
        """The job as the artist sees it."""
        done = self.farmctl("job", "show", job_id, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json_format.Parse(done.stdout, jobs_pb2.GetJobResponse())

    def ports(self, host: Host) -> list[str]:
        """Addresses at which something on `host` listens beyond loopback."""
        listening = [line.split()[3].rpartition(":") for line in host.run("ss", "-Hltn").stdout.splitlines()]
        return [f"{host.address}:{port}" for at, _, port in listening if at not in ("127.0.0.1", "[::1]")]

    def close(self) -> None:
        """Ends agent and daemon in order; says what they left."""
        left = []
        for host, program in ((self.north, self.farm_node), (self.daemon, self.farmd)):
            if program is None:
                continue
            for child in psutil.Process(program.pid).children():
                child.terminate()
            assert program.wait(timeout=20) == 0, self.log(host)
            if host is self.daemon:
                host.run("farmd", "--config", "farm.toml", "--stop")
            left += host.processes()
        assert not left, f"left running: {left}"

    def _start(self, host: Host, *command: object) -> subprocess.Popen[str]:
        with host.path(host.home / "log").open("a") as log:
            return host.start(*command, stdout=log, stderr=subprocess.STDOUT)

    def _profile(self) -> bool:
        return (self.home / "client.json").exists()

    def _ready(self) -> bool:
        assert self.farm_node is not None and self.farm_node.poll() is None, self.log(self.north)
        done = self.farmctl("node", "list", "-o", "json")
        nodes = json_format.Parse(done.stdout or "{}", nodes_pb2.ListNodesResponse()).nodes
        return bool(nodes) and bool(nodes[0].models) and all(device.renderer for device in nodes[0].devices)


@pytest.fixture(scope="module")
def studio() -> Iterator[Studio]:
    """Three hosts on one network, daemon and workstation up."""
    with contextlib.ExitStack() as off:
        hosts: list[Host] = []
        for name in ("daemon", "north", "artist"):
            hosts.append(Host(name))
            off.callback(hosts[-1].close)
        switch = Switch()
        off.callback(switch.close)
        for number, host in enumerate(hosts, 1):
            switch.plug(host, number)
        daemon, north, artist = hosts
        studio = Studio(daemon, north, artist, switch)
        studio.start_daemon()
        studio.start_node()
        yield studio
        studio.close()


# A window of several seconds, also where nothing else runs: far more than a lease and than it takes to ask for its
# step and cut the link. 50 frames are rendered as 57 and cut.
STEPS = 200
WIDTH, HEIGHT = 288, 160  # its storyboard is drawn smaller, and enlarged
JOB = ("--frames", 50, "--size", f"{WIDTH}x{HEIGHT}", "--steps", STEPS)


@pytest.fixture(scope="module")
def undisturbed(studio: Studio, clip: Path) -> np.ndarray:
    """Frames of the job when nothing happens to it, as they arrive where the artist sits."""
    studio.submit(clip, *JOB, "--wait", "-o", "out.mp4")
    return _frames(studio, "out.mp4")


def _frames(studio: Studio, name: str) -> np.ndarray:
    path = studio.artist.path(studio.artist.home / name)
    facts = probe(path)
    assert (facts.frames, facts.width, facts.height, facts.fps) == (50, WIDTH, HEIGHT, Fraction(30))
    return read_frames(path, WIDTH, HEIGHT, Fraction(30))


def test_the_hosts_have_no_folder_in_common(studio):
    homes = {
        host.name: set(host.run("ls", "-A", "/tmp").stdout.split()) for host in (studio.daemon, studio.north)
    }
    assert "daemon" in homes["daemon"] and "north" in homes["north"]
    assert studio.home.is_dir()
    assert studio.north.run("ls", studio.daemon.home / ".farm").returncode != 0
    assert studio.daemon.run("ls", studio.north.home / ".farm").returncode != 0


def test_the_printed_command_names_an_address_that_workstations_reach(studio):
    assert studio.enroll.startswith(f"farm-node --server {studio.daemon.address}:{PORT} --join-token ")


def test_a_clip_goes_to_another_host_and_comes_back_as_exactly_the_frames_asked_for(studio, undisturbed):
    assert len(undisturbed) == 50
    assert undisturbed.std(axis=(1, 2, 3)).min() > 5, "pictures, not padding"


def _join(studio: Studio, token: str) -> subprocess.CompletedProcess[str]:
    server = f"{studio.daemon.address}:{PORT}"
    return studio.artist.run("farm-node", "--server", server, "--join-token", token, timeout=20)


def test_a_join_with_a_wrong_secret_is_refused(studio):
    token = studio.enroll.split()[-1]
    refused = _join(studio, token[:-4] + ("abcd" if token[-4:] != "abcd" else "dcba"))
    assert refused.returncode == 2
    assert (
        "join_secret: must be this farm's join secret; run `farmctl node enroll` on the farm"
        in refused.stderr
    )


def test_a_join_with_another_farms_token_is_refused(studio, tmp_path):
    refused = _join(studio, join_token(Authority.open(tmp_path)))
    assert refused.returncode == 2
    assert (
        f"join_token: doesn't match the certificate of the farm at {studio.daemon.address}:{PORT}"
        in refused.stderr
    )


def test_a_client_with_a_wrong_token_is_refused(studio):
    given = {"FARM_SERVER": f"{studio.daemon.address}:{PORT}", "FARM_CA": "~/ca.pem", "FARM_TOKEN": "~/wrong"}
    studio.farmctl("job", "list")
    studio.artist.path(studio.artist.home / "wrong").write_text("wrong")
    refused = studio.artist.run("farmctl", "job", "list", env=given)
    assert refused.returncode == 1 and "token" in refused.stderr


# Served by gRPC itself: whether the port lives, which methods it has, how many calls it had.
HARMLESS = (
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1alpha.ServerReflection/",
    "/grpc.channelz.v1.Channelz/",
)
RAY = {
    "daemon": {
        "ray.rpc.NodeInfoGcsService": "control store",
        "ray.rpc.NodeManagerService": "raylet",
        "ray.rpc.ObjectManagerService": "raylet's object store",
        "ray.rpc.CoreWorkerService": "bridge",
    },
    "north": {
        "ray.rpc.NodeManagerService": "raylet",
        "ray.rpc.ObjectManagerService": "raylet's object store",
        "ray.rpc.CoreWorkerService": "renderer",
    },
}


@pytest.mark.parametrize("name", ["daemon", "north"])
def test_every_port_beyond_loopback_demands_credentials(studio, name):
    host = getattr(studio, name)
    stranger = Path(__file__).with_name("stranger.py")
    asked = studio.artist.run(sys.executable, stranger, *studio.ports(host))
    assert asked.returncode == 0, asked.stderr
    answers: dict[str, dict[str, str]] = json.loads(asked.stdout)
    silent = [address for address, methods in answers.items() if not methods]
    in_tls = [f"{host.address}:{PORT}"] if host is studio.daemon else []
    assert silent == in_tls
    for methods in answers.values():
        ours = {method: status for method, status in methods.items() if not method.startswith(HARMLESS)}
        assert {method: status for method, status in ours.items() if status != "UNAUTHENTICATED"} == {}
    services = [
        {method.split("/")[1] for method in methods} & RAY[name].keys() for methods in answers.values()
    ]
    assert sorted(next(iter(found)) for found in services if found) == sorted(RAY[name]), "one port for each"


DRIVER = "import ray; ray.init(address={address!r}, log_to_driver=False); print('driver is in')"
LOOK = (
    "from ray._raylet import GcsClient; found = GcsClient(address={address!r}).get_all_node_info(timeout=5).values(); "
    "print(sorted(node.node_manager_address for node in found if node.state == 0))"
)
# Ray would try for 20 s.
_ONCE = {"RAY_NUM_REDIS_GET_RETRIES": "1"}


def _ray(studio: Studio, code: str, host: Host, token: str) -> subprocess.CompletedProcess[str]:
    address = next(
        line.split("ray=")[1].split()[0] for line in studio.log(studio.daemon).splitlines() if "ray=" in line
    )
    assert address.startswith(studio.daemon.address)
    mode = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {"RAY_AUTH_MODE": "disabled"}
    return host.run(sys.executable, "-c", code.format(address=address), env=mode | _ONCE)


@pytest.mark.parametrize(
    ("code", "token"),
    [(DRIVER, ""), (LOOK, ""), (LOOK, "0" * 64)],
    ids=["driver", "control store", "wrong token"],
)
def test_ray_refuses_another_host_without_the_token(studio, code, token):
    refused = _ray(studio, code, studio.artist, token)
    assert refused.returncode != 0 and not refused.stdout.strip()
    assert "AuthenticationError" in refused.stderr or "Unauthenticated" in refused.stderr


def test_ray_knows_both_hosts_by_the_addresses_at_which_they_reach_each_other(studio):
    token = (studio.home / "ray" / "token").read_text()
    found = _ray(studio, LOOK, studio.artist, token)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == str([studio.daemon.address, studio.north.address])


def test_a_window_waits_while_the_link_is_cut_and_goes_on_when_it_heals(studio, clip, undisturbed):
    job_id = studio.submit(clip, *JOB)

    def steps() -> int:
        windows = [task for task in studio.job(job_id).tasks if task.kind == "window"]
        return max((attempt.step for task in windows for attempt in task.attempts), default=0)

    eventually("a window has begun", steps, 20)
    (renderer,) = (p for p in studio.north.processes() if "RendererActor" in " ".join(p.cmdline()))
    studio.switch.cut(studio.north)
    time.sleep(LEASE + 1)
    spent = sum(renderer.cpu_times()[:2])
    time.sleep(2)
    assert sum(renderer.cpu_times()[:2]) - spent < 0.5, "it renders on without a lease"
    assert 0 < steps() < STEPS
    studio.switch.heal(studio.north)
    watched = studio.farmctl("job", "watch", job_id, "-o", "again.mp4")
    assert watched.returncode == 0, watched.stderr

    answer = studio.job(job_id)
    assert answer.job.state == jobs_pb2.JOB_STATE_SUCCEEDED
    # What follows the window may be handed over twice: the first may be lost with the connection that the cut broke.
    assert [len(task.attempts) for task in answer.tasks if task.kind == "window"] == [1]
    begun = [sum(bool(one.started_at) for one in task.attempts) for task in answer.tasks]
    assert begun == [1] * len(answer.tasks), "nothing is made twice"
    told = [
        json.loads(line) for line in studio.farmctl("job", "watch", job_id, "-o", "json").stdout.splitlines()
    ]
    ends = [line["event"]["task"] for line in told if line.get("event", {}).get("kind") == "succeeded"]
    assert sorted(ends) == sorted(task.key for task in answer.tasks), "each is committed once"
    assert np.abs(_frames(studio, "again.mp4").astype(int) - undisturbed.astype(int)).max() <= 1
