"""A farm of one machine comes up whole or not at all, and goes without a trace."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys

import pytest

from farm.cli.local import MARK, LocalFarm
from farm.store import Store
from farm.wire import addresses
from farm.wire.profile import Profile
from farm.wire.security import Authority
from tests.farm.cli.runs import PROGRAM, environment, processes, run
from tests.pipes import errors_of, out_of


@pytest.fixture
def own_home(tmp_path_factory):
    home = tmp_path_factory.mktemp("up")
    yield home
    if list(home.glob("run/*.pid")):
        run(home, "down")


def test_ctrl_c_takes_a_farm_in_the_foreground_down_with_all_it_started(own_home):
    up = subprocess.Popen(
        [*PROGRAM, "up", "--nodes", "0"],
        env=environment(own_home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while "Ctrl-C" not in (line := out_of(up).readline()):
        assert line, errors_of(up).read()
    assert len(processes(own_home)) >= 3
    up.send_signal(signal.SIGINT)
    _, said = up.communicate(timeout=60)
    assert up.returncode == 0 and "none of its processes is left" in said
    assert processes(own_home) == []


def test_up_brings_a_farm_back_whose_daemon_was_killed(own_home):
    assert run(own_home, "up", "--detach", "--nodes", "0").returncode == 0
    head = (own_home / "ray" / "ray-head.pid").read_text()
    os.kill(int((own_home / "run" / "farmd.pid").read_text()), signal.SIGKILL)
    # Called in a folder that is gone meanwhile: nothing may ask for the current folder.
    gone = f'cd "$(mktemp -d)" && rmdir "$PWD" && exec {shlex.join([*PROGRAM, "up", "--detach", "--nodes", "0"])}'
    again = subprocess.run(
        ["/bin/sh", "-c", gone],
        env=environment(own_home),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert again.returncode == 0 and "is up" in again.stdout, again.stderr
    assert run(own_home, "node", "list").returncode == 0
    assert (own_home / "ray" / "ray-head.pid").read_text() == head, "the Ray head goes on"


def test_a_node_that_outlived_its_daemon_finds_the_next_one_at_another_port(own_home):
    assert run(own_home, "up", "--detach", "--nodes", "1").returncode == 0
    os.kill(int((own_home / "run" / "farmd.pid").read_text()), signal.SIGKILL)
    again = run(own_home, "up", "--detach", "--nodes", "1")
    assert again.returncode == 0 and "is up" in again.stdout, again.stderr
    assert "online" in run(own_home, "node", "list").stdout


def test_down_ends_what_is_left_of_its_own_and_nothing_else(own_home):
    own_home.joinpath("run").mkdir(parents=True)
    sleep = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"]
    left = subprocess.Popen(sleep, env=os.environ | {"FARM_HOME": str(own_home), MARK: str(own_home)})
    editor = subprocess.Popen(sleep, env=os.environ | {"FARM_HOME": str(own_home)})
    other = subprocess.Popen(sleep, env=os.environ | {MARK: f"{own_home}2"})
    try:
        ended = run(own_home, "down")
        assert ended.returncode == 0 and f"ended what was left: {left.pid}" in ended.stderr
        assert left.wait(5) == -signal.SIGKILL
        assert editor.poll() is None and other.poll() is None
    finally:
        for process in (left, editor, other):
            process.kill()
            process.wait()


def test_down_ends_a_daemon_of_whose_end_its_starter_takes_no_notice(own_home):
    own_home.joinpath("farm.toml").write_text('[server]\nlisten = "127.0.0.1:0"\n')
    farm = LocalFarm(own_home)
    farm.start(0)
    farm.wait_until_ready(0, 60, print)
    ended = run(own_home, "down")
    assert ended.returncode == 0, ended.stderr
    assert "none of its processes is left" in ended.stderr and "ended what was left" not in ended.stderr


def test_a_farm_that_cannot_start_says_why_and_leaves_nothing(own_home):
    (own_home / "farm.toml").write_text('[store]\nurl = "nosuchdatabase://x/y"\n')
    failed = run(own_home, "up", "--detach", "--nodes", "0")
    assert failed.returncode == 1 and "farmd ended" in failed.stderr and "nosuchdatabase" in failed.stderr
    assert processes(own_home) == []


PASSWORD = "Sup3rS3cret"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            f'[store]\nurl = "postgresql+psycopg://u:{PASSWORD}@127.0.0.1:x/y"',
            "store.url: must be sqlite:///FILE",
        ),
        (f'[store]\nurl = "postgresql+psycopg://u:{PASSWORD}@127.0.0.1:1/y"', "database: can't be used now"),
        (f'[store]\nurl = "{PASSWORD}"', "store.url: must be sqlite:///FILE"),
        ('[store]\nurl = "sqlite:////nowhere/farm.db"', "/nowhere/farm.db"),
        (
            f'[artifacts]\nurl = "nosuch://u:{PASSWORD}@host/x"',
            "artifacts.url: must be a folder or an fsspec URL",
        ),
    ],
)
def test_the_cause_of_a_failed_start_is_one_line_without_a_secret(own_home, settings, words):
    (own_home / "farm.toml").write_text(settings)
    failed = run(own_home, "up", "--detach", "--nodes", "0")
    (told,) = [line for line in failed.stderr.splitlines() if line.startswith("farmctl: ")]
    assert failed.returncode == 1 and told.startswith("farmctl: farmd ended: ") and words in told
    assert failed.stderr.endswith(told + "\n") and "Traceback" not in failed.stderr
    assert processes(own_home) == [] and not (own_home / "client.json").exists()
    assert PASSWORD not in failed.stderr + (own_home / "run" / "farmd.log").read_text()


@pytest.mark.parametrize("whose", ["a program's", "another farm's", "the port of Ray"])
def test_a_taken_port_is_the_cause_that_is_told_and_nothing_is_left(own_home, home, whose):
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        listen = f"127.0.0.1:{foreign.getsockname()[1]}"
        wanted = f"(pid {os.getpid()})"
        if whose == "another farm's":
            # It speaks TLS: this farm's agents, which get there first, find a certificate that isn't their farm's.
            listen, wanted = Profile.load(home / "client.json").server, f" of the farm at {home}; "
        port = listen.rpartition(":")[2]
        words = ["--listen", listen]
        if whose == "the port of Ray":
            (own_home / "farm.toml").write_text(f"[ray]\nport = {port}\n")
            words = []
        failed = run(own_home, "up", "--detach", "--nodes", "2", *words)
    (told,) = [line for line in failed.stderr.splitlines() if line.startswith("farmctl: ")]
    setting = "ray.port" if whose == "the port of Ray" else "server.listen"
    assert (
        failed.returncode == 1
        and f"farmd ended: {setting}: port {port} is taken by" in told
        and wanted in told
    )
    assert "token" not in failed.stderr and "clock" not in failed.stderr
    assert processes(own_home) == [] and not (own_home / "client.json").exists()


def test_up_listens_where_it_is_told_to(own_home):
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    up = run(own_home, "up", "--detach", "--nodes", "1", "--listen", listen)
    assert up.returncode == 0, up.stderr
    assert Profile.load(own_home / "client.json").server == listen
    refused = run(own_home, "up", "--listen", "7433")
    assert refused.returncode == 1 and "is already running" in refused.stderr
    assert run(own_home, "down").returncode == 0
    refused = run(own_home, "up", "--listen", "7433")
    assert refused.returncode == 2 and "--listen: server.listen: must be HOST:PORT" in refused.stderr


def test_a_copied_profile_of_a_farm_for_other_machines_names_an_address_that_they_reach(own_home, tmp_path):
    address = addresses.look().best
    if address == addresses.LOOPBACK:
        pytest.skip("this machine has no network")
    up = run(own_home, "up", "--detach", "--nodes", "0", "--listen", "0.0.0.0:0")
    assert up.returncode == 0, up.stderr
    at_home = Profile.load(own_home / "client.json").server
    port = at_home.rpartition(":")[2]
    assert at_home == f"127.0.0.1:{port}"
    exported = run(own_home, "client", "export", tmp_path / "laptop.json")
    assert exported.returncode == 0 and "can't reach" not in exported.stderr, exported.stderr
    for name in ("client.json", "tls/ca.pem", "tls/client.token"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((own_home / name).read_bytes())
    for name in ("client.json", "laptop.json"):
        assert Profile.load(tmp_path / name).server == f"{address}:{port}"
        listed = run(tmp_path / "nothing", "--profile", tmp_path / name, "node", "list")
        assert listed.returncode == 0, listed.stderr


@pytest.mark.parametrize("name", ["farm.db", "tls/server.key"])
def test_up_tells_which_file_of_its_home_is_damaged_and_leaves_nothing(own_home, name):
    Authority.open(own_home)
    file = own_home / name
    file.write_bytes(b"\xff" * 5000)
    (own_home / "run").mkdir(exist_ok=True)
    (own_home / "run" / "farmd.log").write_text("an old cause\n")
    failed = run(own_home, "up", "--detach", "--nodes", "0")
    assert failed.returncode == 1 and f"{file} is damaged" in failed.stderr
    assert "Traceback" not in failed.stderr and "an old cause" not in failed.stderr
    assert processes(own_home) == []


def test_a_node_that_was_there_before_and_can_not_start_now_is_not_taken_for_up(own_home):
    name = f"{socket.gethostname()}-1"
    with Store.lead(f"sqlite:///{own_home}/farm.db", "an earlier farmd") as store:
        store.nodes.hello("n1", name, "127.0.0.1", "0.1.0", "b1", [], [("ltx-tiny", "w1")])
    own_home.joinpath("farm.toml").write_text('[server]\nlisten = "127.0.0.1:0"\n')
    (own_home / "nodes").mkdir()
    (own_home / "nodes" / "1").touch()
    failed = run(own_home, "up", "--detach", "--nodes", "1")
    assert failed.returncode == 1 and "node-1 ended" in failed.stderr
    assert f"{own_home / 'nodes' / '1'}: a file lies where a folder should be; move it away" in failed.stderr
    assert "Traceback" not in failed.stderr and processes(own_home) == []


@pytest.mark.parametrize("name", ["run", "nodes", "tls", "farmd.lock", "run/farmd.lock"])
def test_up_and_down_tell_what_lies_in_the_place_of_a_folder_or_a_file(own_home, name):
    place = own_home / name
    place.parent.mkdir(exist_ok=True)
    place.mkdir() if name.endswith(".lock") else place.touch()
    for command in (["up", "--detach", "--nodes", "0"], ["down"]):
        asked = run(own_home, *command)
        assert "Traceback" not in asked.stderr and processes(own_home) == []
        if asked.returncode or command[0] == "up":
            assert asked.returncode == 1 and str(place) in asked.stderr and "ove " in asked.stderr


def test_a_mistake_in_farm_toml_is_told_before_anything_starts(own_home):
    (own_home / "farm.toml").write_text("[server]\nlisen = 'x'\n")
    failed = run(own_home, "up")
    assert failed.returncode == 2 and "did you mean 'listen'" in failed.stderr
    assert not (own_home / "run" / "farmd.log").exists()


def test_down_does_not_say_it_is_down_when_ray_could_not_be_stopped(own_home):
    (own_home / "ray").mkdir()
    (own_home / "farm.toml").write_text("[server]\nlisen = 'x'\n")
    failed = run(own_home, "down")
    assert failed.returncode == 1 and "is down" not in failed.stderr
    assert "`farmd --stop` failed (exit code 2)" in failed.stderr and "did you mean 'listen'" in failed.stderr
    assert "none of its processes is left" in failed.stderr


def test_down_names_what_it_could_not_end(own_home):
    (own_home / "ray").mkdir()
    (own_home / "farm.toml").write_text("[server]\nlisen = 'x'\n")
    hold = "import fcntl, sys, time; lock = open(sys.argv[1], 'w'); fcntl.flock(lock, 2); print(flush=True); time.sleep(60)"
    head = subprocess.Popen(
        [sys.executable, "-c", hold, own_home / "ray" / "ray-head.lock"], stdout=subprocess.PIPE
    )
    try:
        out_of(head).readline()
        (own_home / "ray" / "ray-head.pid").write_text(str(head.pid))
        failed = run(own_home, "down")
        assert failed.returncode == 1 and "is down" not in failed.stderr
        assert f"still running: ray-head (pid {head.pid})" in failed.stderr
    finally:
        head.kill()
        head.communicate()


def test_one_farm_is_found_under_every_way_to_write_its_home(own_home):
    (own_home / "deep").mkdir()
    assert LocalFarm(own_home / "deep" / "..").home == own_home


def test_down_where_there_is_no_farm_says_so(tmp_path):
    asked = run(tmp_path / "none", "down")
    assert asked.returncode == 0 and "there is no farm" in asked.stderr
    assert not (tmp_path / "none").exists()
