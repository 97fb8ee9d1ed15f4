"""The commands where a shell, a system or a locale gives them less than they are used to: a sentence, or it works."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = Path(sys.executable).parent


def run(line: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """`line` in a shell, in which the commands are found, HOME is not set and the farm's home is `home`."""
    kept = {name: value for name, value in os.environ.items() if name not in ("HOME", "FARM_HOME")}
    homes = {"FARM_HOME": str(home), "FARM_NODE_HOME": str(home)}
    environment = kept | {"PATH": f"{COMMANDS}:{os.environ['PATH']}"} | homes | variables
    return subprocess.run(
        ["/bin/sh", "-c", line],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        errors="surrogateescape",
    )


@pytest.mark.parametrize(
    "command", ["farmctl --help", "farmctl config example", "farmctl --version", "farmd --help"]
)
def test_a_full_disk_under_standard_output_is_told_in_a_sentence(tmp_path, command):
    done = run(f"{command} > /dev/full", tmp_path)
    name = command.split()[0]
    assert (done.returncode, done.stderr) == (
        1,
        f"{name}: standard output can't be written: No space left on device\n",
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_descriptors_harm_nothing(tmp_path, closed):
    done = run(f"farmctl config example {closed}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_name_in_letters_that_the_encoding_lacks_is_shown(tmp_path):
    home = tmp_path / "h\u00f6hle-\u6d1e"
    done = run("farmctl node list", home, LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    assert done.returncode == 1 and "Traceback" not in done.stderr and "h" in done.stderr


@pytest.mark.parametrize("command", ["farmctl job list", "farmd", "farm-node", "farmctl up", "farmctl down"])
def test_a_home_whose_name_is_not_utf_8_is_refused_in_words(tmp_path, command):
    home = tmp_path / os.fsdecode(b"caf\xe9")
    done = run(command, home)
    assert "Traceback" not in done.stderr and "caf" in done.stderr
    if "job" not in command and "down" not in command:
        assert done.returncode and "home: must be UTF-8" in done.stderr


@pytest.mark.parametrize("command", ["farmctl job list", "farmctl config example", "farmctl node list"])
def test_what_can_not_be_said_on_a_full_disk_stops_nothing(tmp_path, command):
    told = run(command, tmp_path)
    full = run(f"{command} 2>/dev/full", tmp_path)
    assert (full.returncode, full.stdout) == (told.returncode, told.stdout)


@pytest.mark.parametrize("command", ["farmctl job list", "farmd", "farm-node", "farmctl up", "farmctl down"])
def test_a_user_without_a_home_is_told_what_to_give(tmp_path, command):
    code = (
        f"import os, sys; os.setgroups([]); os.setuid(54321); os.execvp('/bin/sh', ['sh', '-c', {command!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": f"{COMMANDS}:{os.environ['PATH']}"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr
    assert "set HOME, or give an absolute path" in done.stderr


@pytest.mark.parametrize(("wanted", "raw"), [("", False), ("ERROR", True)])
def test_grpcs_own_lines_are_printed_only_to_who_asks_for_them(tmp_path, wanted, raw):
    wish = {"GRPC_VERBOSITY": wanted} if wanted else {}
    taken = socket.create_server(("127.0.0.1", 0))
    with taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run(f"farmd --listen {listen}", tmp_path / "home", HOME=str(tmp_path), **wish)
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and lines[-1].startswith(
        f"farmd: server.listen: port {listen[10:]} is taken by"
    )
    assert any("add_port.cc" in line for line in lines) is raw
