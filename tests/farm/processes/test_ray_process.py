"""Ray's own processes, for real: a head and two raylets on this machine."""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from farm.damaged_files import DamagedFile
from farm.log_file import MAX_BYTES
from farm.processes import detached
from farm.processes.detached import DetachedProcess, running_in
from farm.processes.ray_launch import LOGS_SECONDS
from farm.processes.ray_process import RayHead, Raylet, ray_environment
from farm.wire.security import ray_token_file
from tests.damage import OF_JSON


class Sleeper(DetachedProcess):
    """A process with a child, the smallest that shows starting, adopting and stopping."""

    def __init__(self, home: Path, stubborn: bool = False) -> None:
        super().__init__("sleeper", home)
        self._trap = "trap '' TERM; " if stubborn else ""

    def command(self) -> list[str]:
        return ["/bin/sh", "-c", f"{self._trap}sleep 1000 & wait; sleep 1000"]


def until(condition, timeout: float = 10.0) -> None:
    """Waits for the condition to hold."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it didn't happen in time"
        time.sleep(0.02)


def running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that aren't over; whether an orphan's zombie is collected is up to the machine's init."""
    return [
        process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster token."""
    return ray_token_file(tmp_path_factory.mktemp("token"))


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, token: Path
) -> Iterator[tuple[RayHead, Raylet, Raylet]]:
    """A head and two raylets, all started at once."""
    home = tmp_path_factory.mktemp("cluster")
    begun = time.monotonic()
    head = RayHead(home, "127.0.0.1", 0, token)
    raylets = [Raylet(home / name, head.address, "127.0.0.1", token, threads=1) for name in "ab"]
    try:
        head.start()
        for raylet in raylets:
            raylet.start()
        head.ready(60)
        print(f"head up after {time.monotonic() - begun:.2f} s")
        for raylet in raylets:
            raylet.node_id(60)
        print(f"both raylets up after {time.monotonic() - begun:.2f} s")
        first, second = raylets
        yield head, first, second
    finally:
        for node in [*raylets, head]:
            node.stop()


def ask(script: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs script in a process of its own."""
    command = [sys.executable, "-c", script]
    return subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=60)


def driver(code: str, head: RayHead, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs code as a Ray driver in a process of its own."""
    script = f"import ray; ray.init(address={head.address!r}, namespace='farm', log_to_driver=False)\n{code}"
    return ask(script, environment)


def test_a_second_start_adopts_the_running_process(tmp_path: Path) -> None:
    first = Sleeper(tmp_path)
    pid = first.start()
    try:
        assert Sleeper(tmp_path).start() == pid
        assert Sleeper(tmp_path).pid == pid
    finally:
        first.stop()


def test_racing_starts_make_one_process(tmp_path: Path) -> None:
    pids: list[int] = []
    racers = [threading.Thread(target=lambda: pids.append(Sleeper(tmp_path).start())) for _ in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    try:
        assert len(pids) == 8
        assert len(set(pids)) == 1
    finally:
        Sleeper(tmp_path).stop()


def test_a_pid_that_another_program_has_now_is_not_adopted_nor_killed(tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "1000"])
    try:
        sleeper = Sleeper(tmp_path)
        sleeper.pid_file.write_text(str(bystander.pid))
        assert not sleeper.alive()
        sleeper.stop()
        assert bystander.poll() is None
        assert sleeper.start() != bystander.pid
        sleeper.stop()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop"])
@pytest.mark.parametrize("name", ["sleeper.mutex", "sleeper.log", "sleeper.pid"])
def test_what_lies_in_the_place_of_a_file_that_is_made_anew_is_out_of_the_way(
    tmp_path: Path, name: str, kind: str
) -> None:
    (tmp_path / name).touch()
    OF_JSON[kind](tmp_path / name)
    sleeper = Sleeper(tmp_path)
    try:
        assert not running_in(tmp_path) and not sleeper.alive()
        assert sleeper.start() == Sleeper(tmp_path).pid
    finally:
        sleeper.stop()
    assert not sleeper.alive()


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop"])
def test_a_lock_that_is_no_file_is_named_and_nobody_waits_for_it(tmp_path: Path, kind: str) -> None:
    lock = tmp_path / "sleeper.lock"
    lock.touch()
    OF_JSON[kind](lock)
    assert not running_in(tmp_path)
    for ask in (Sleeper(tmp_path).alive, Sleeper(tmp_path).start, Sleeper(tmp_path).stop):
        with pytest.raises(DamagedFile, match=r"sleeper.lock (is|must be) .*\. Move it away"):
            ask()


@pytest.mark.parametrize("kind", ["cut", "empty", "noise", "folder", "pipe", "text", "another"])
def test_a_broken_pid_file_neither_hides_a_process_nor_names_a_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(detached, "PID_SECONDS", 0.5)
    bystander = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    sleeper = Sleeper(tmp_path)
    pid = sleeper.start()
    try:
        assert sleeper.pid == pid
        if kind == "another":
            sleeper.pid_file.write_text(str(bystander.pid))
        else:
            OF_JSON[kind](sleeper.pid_file)
        found = Sleeper(tmp_path)
        assert found.alive() and found.start() == pid
        found.stop()
        assert not running([psutil.Process(pid)] if psutil.pid_exists(pid) else [])
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
        Sleeper(tmp_path).stop()


def test_a_running_head_tells_its_own_address(cluster: tuple[RayHead, Raylet, Raylet], token: Path) -> None:
    head, *_ = cluster
    kept = head.home / "ray-head.port"
    port = kept.read_text()
    for content, given in (("7", 0), ("junk", 0), (port, 1234)):
        kept.write_text(content)
        again = RayHead(head.home, "127.0.0.1", given, token)
        assert again.address == f"127.0.0.1:{port}" and again.start() == head.pid
    kept.write_text(port)


@pytest.mark.parametrize("kind", OF_JSON)
def test_a_damaged_state_file_is_told_at_once(tmp_path: Path, token: Path, kind: str) -> None:
    (tmp_path / "ray-head.json").write_text('{"pid": 1, "node_id": "x"}')
    OF_JSON[kind](tmp_path / "ray-head.json")
    with pytest.raises(DamagedFile, match=r"ray-head.json"):
        RayHead(tmp_path, "127.0.0.1", 0, token).node_id(30)


def test_a_killed_process_is_not_alive_and_can_be_started_again(tmp_path: Path) -> None:
    sleeper = Sleeper(tmp_path)
    pid = sleeper.start()
    until(lambda: len(sleeper.family()) == 2)
    # The parent first: it would have another child when it loses this one.
    for process in sleeper.family():
        process.kill()
    until(lambda: not sleeper.alive())
    try:
        assert sleeper.start() != pid
    finally:
        sleeper.stop()


def test_stop_ends_children_and_those_who_ignore_sigterm(tmp_path: Path) -> None:
    sleeper = Sleeper(tmp_path, stubborn=True)
    sleeper.start()
    until(lambda: len(sleeper.family()) > 1)
    family = sleeper.family()
    sleeper.stop(timeout=0.3)
    assert not running(family)
    assert not sleeper.alive()


def test_a_process_outlives_its_starter_and_is_adopted(tmp_path: Path) -> None:
    starter = (
        f"import os, signal; from pathlib import Path; from test_ray_process import Sleeper\n"
        f"print(Sleeper(Path({str(tmp_path)!r})).start(), flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    ran = ask(starter, environment)
    sleeper = Sleeper(tmp_path)
    try:
        assert sleeper.pid == int(ran.stdout)
    finally:
        sleeper.stop()


def test_on_loopback_nothing_of_ray_listens_beyond_it(
    cluster: tuple[RayHead, Raylet, Raylet], token: Path
) -> None:
    head, *_ = cluster
    code = "@ray.remote\ndef work(): return 1\nprint(ray.get([work.remote() for _ in range(2)]))"
    assert (
        driver(code, head, ray_environment("127.0.0.1", token)).returncode == 0
    )  # so there are workers to look at
    listening = []
    for node in cluster:
        for process in node.family():
            try:
                sockets = process.net_connections("inet")
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            listening += [found.laddr.ip for found in sockets if found.status == psutil.CONN_LISTEN]
    assert len(listening) >= 7  # a control store and two servers of each raylet at least
    for address in listening:
        ip = ipaddress.ip_address(address)
        ip = getattr(ip, "ipv4_mapped", None) or ip
        assert ip.is_loopback, address


def test_the_environment_of_a_loopback_farm_reaches_no_other_address(token: Path, monkeypatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:6379")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    environment = ray_environment("127.0.0.1", token)
    assert "RAY_ADDRESS" not in environment
    assert environment["RAY_AUTH_MODE"] == "token"


@pytest.mark.parametrize("mode", ["no token", "another token"])
def test_a_driver_without_the_token_is_refused(
    cluster: tuple[RayHead, Raylet, Raylet], token: Path, tmp_path: Path, mode: str
) -> None:
    head, *_ = cluster
    other = ray_token_file(tmp_path)
    environment = ray_environment("127.0.0.1", other)
    if mode == "no token":
        environment |= {"RAY_AUTH_MODE": "disabled"}
        environment.pop("RAY_AUTH_TOKEN_PATH")
    # A driver's own first question; ray.init asks it, too, but retries for 20 s.
    question = (
        f"from ray._raylet import GcsClient; print(GcsClient(address={head.address!r}).get_all_node_info())"
    )
    refused = ask(question, environment)
    assert refused.returncode != 0
    assert "AuthenticationError" in refused.stderr
    assert ask(question, ray_environment("127.0.0.1", token)).returncode == 0


def test_each_raylet_has_its_own_node_and_no_driver_is_needed_to_know_it(
    cluster: tuple[RayHead, Raylet, Raylet], token: Path
) -> None:
    head, *_ = cluster
    code = "print(*[node['NodeID'] for node in ray.nodes() if node['Alive']])"
    ran = driver(code, head, ray_environment("127.0.0.1", token))
    ids = {node.node_id() for node in cluster}
    assert len(ids) == 3
    assert set(ran.stdout.split()[-3:]) == ids


def test_the_daemon_s_side_imports_no_ray() -> None:
    script = "import sys, farm.processes.ray_process, scheduler.dispatch.ray.bridge_process; sys.exit('ray' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_missing_token_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="ray.token"):
        RayHead(tmp_path, "127.0.0.1", 0, tmp_path / "ray.token").start()


def test_a_head_that_was_killed_leaves_nothing_and_comes_back_on_its_port(
    tmp_path: Path, token: Path
) -> None:
    head = RayHead(tmp_path, "127.0.0.1", 0, token)
    try:
        head.start()
        head.ready(60)
        before, address = head.family(), head.address
        assert len(before) >= 3
        before[0].kill()
        until(lambda: not running(before))
        assert RayHead(tmp_path, "127.0.0.1", 0, token).address == address
        head.start()
        head.ready(60)
        assert head.temp.exists()
        after = head.family()
    finally:
        head.stop()
    assert not running(after)
    assert not head.temp.exists()
    assert not head.alive()


@pytest.mark.parametrize("port", [8265, 52365])
def test_a_head_may_have_a_port_that_ray_keeps_for_what_is_not_started(
    tmp_path: Path, token: Path, port: int
) -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            pytest.skip(f"something listens on port {port}")
    head = RayHead(tmp_path, "127.0.0.1", port, token)
    try:
        head.start()
        head.ready(60)
    finally:
        head.stop()


def test_what_another_version_has_started_is_told_and_what_this_one_has_is_not(cluster, monkeypatch) -> None:
    assert [node.outdated() for node in cluster] == [[], [], []]
    monkeypatch.setattr("farm.processes.ray_process.__version__", "9.9")
    for node in cluster:
        (difference,) = node.outdated()
        assert difference.startswith("LTX_FARM_VERSION was ") and ", and is 9.9 with Ray " in difference


@pytest.mark.long
def test_what_rays_processes_write_of_themselves_is_cut_while_they_go_on(cluster):
    head = cluster[0]
    out = next(head.temp.glob("session_2*/logs/gcs_server.out"))
    with out.open("ab") as file:
        file.write(b"x" * MAX_BYTES)
    until(lambda: out.stat().st_size < MAX_BYTES, LOGS_SECONDS + 10)
    assert out.with_name("gcs_server.out.1").stat().st_size > MAX_BYTES
    # It says something every minute.
    until(lambda: b"gcs_server" in out.read_bytes(), 70)
    assert out.read_bytes().count(b"\0") == 0
