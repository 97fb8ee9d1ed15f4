"""Who has a port, and what to give instead."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from farm.processes.ray_process import RayHead
from farm.wire import ports
from farm.wire.ports import PortTaken
from tests.pipes import out_of

LISTEN = "import socket, sys, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); time.sleep(60)"


@pytest.fixture
def taken():
    """A port at which another program listens, and that program's pid."""
    program = subprocess.Popen([sys.executable, "-c", LISTEN], stdout=subprocess.PIPE, text=True)
    yield int(out_of(program).readline()), program.pid
    program.kill()
    program.communicate()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "[::]", "localhost"])
def test_who_has_a_port_is_told_by_pid_with_a_free_port_to_give(taken, host):
    port, pid = taken
    told = ports.problem(f"{host}:{port}", "--listen")
    assert f"port {port} is taken by python" in told and f"(pid {pid})" in told
    another = told.rpartition("--listen ")[2]
    assert another.startswith(f"{host}:") and ports.problem(another, "--listen") == ""


def test_a_program_at_another_address_of_the_machine_is_not_blamed(taken):
    port, pid = taken
    with socket.create_server(("127.0.0.2", port)):
        assert f"(pid {os.getpid()})" in ports.problem(f"127.0.0.2:{port}", "--listen")
        assert f"(pid {pid})" in ports.problem(f"127.0.0.1:{port}", "--listen")
    assert ports.problem(f"127.0.0.3:{port}", "--listen") == ""


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("192.0.2.77:7433", "192.0.2.77 is not an address of this machine"),
        ("[2001:db8::77]:7433", "2001:db8::77 is not an address of this machine"),
        ("nosuch.invalid:7433", "the name nosuch.invalid can't be resolved"),
    ],
)
def test_an_address_that_is_not_this_machines_is_told_from_a_taken_port(address, words):
    told = ports.problem(address, "--listen")
    assert words in told and "taken" not in told and "--listen" in told


def test_a_user_who_may_not_have_a_port_is_told_so(monkeypatch):
    # Whoever runs the tests may be root, whom the system refuses nothing.
    def refuse(self, place):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    told = ports.problem("127.0.0.1:443", "--listen")
    assert "may not listen on port 443" in told and "--listen 127.0.0.1:7433" in told


def _head(home, port: int) -> RayHead:
    token = home / "token"
    token.write_text("t")
    return RayHead(home, "127.0.0.1", port, token)


def test_rays_port_is_refused_where_a_person_has_named_it(tmp_path, taken):
    port, pid = taken
    with pytest.raises(PortTaken, match=rf"ray\.port: port {port} is taken by .*\(pid {pid}\)"):
        _head(tmp_path, port).start()


def test_a_port_that_rays_head_has_chosen_itself_is_given_up_when_it_is_taken(tmp_path, taken):
    port, _ = taken
    (tmp_path / "ray-head.port").write_text(str(port))
    head = _head(tmp_path, 0)
    head.prepare()
    head.clean_up()
    assert head.address != f"127.0.0.1:{port}" and head.address == head.address
