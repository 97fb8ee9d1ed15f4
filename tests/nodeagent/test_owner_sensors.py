"""The built-in presence plugins, with real processes; loginctl and xprintidle speak from scripts on the path."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time

import pytest

from farm.config import InvalidConfig, OwnerSettings
from farm.plugins import node_plugins, presences
from farm.presence import CannotTell, claim, claimed, release
from nodeagent.owner import sensors
from nodeagent.owner.watch import sensor

DESKTOP = """\
Id=2
Class=user
State=active
Type=wayland
Display=
IdleHint=yes
IdleSinceHintMonotonic=100000000
"""
GREETER = DESKTOP.replace("Class=user", "Class=greeter").replace("IdleHint=yes", "IdleHint=no")
MANAGER = GREETER.replace("greeter", "manager")
CLOSING = DESKTOP.replace("State=active", "State=closing").replace("IdleHint=yes", "IdleHint=no")
TYPING = DESKTOP.replace("Id=2", "Id=7").replace("IdleHint=yes", "IdleHint=no")
X11 = TYPING.replace("Type=wayland", "Type=x11").replace("Display=", "Display=:0")


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Puts a program on the path, before all others."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def put(name: str, text: str) -> None:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    return put


@pytest.fixture
def logind(script, tmp_path):
    """A loginctl that knows these sessions."""

    def knows(*sessions: str) -> None:
        (tmp_path / "sessions").write_text("\n".join(sessions))
        listing = "".join(f"echo '{n} 1000 ann seat0 tty2'; " for n, _ in enumerate(sessions)) or "true"
        script(
            "loginctl",
            f'if [ "$1" = list-sessions ]; then {listing.rstrip("; ")}; else cat {tmp_path}/sessions; fi',
        )

    return knows


@pytest.mark.parametrize(
    ("sessions", "idle"),
    [
        ((DESKTOP,), 23.0),
        ((DESKTOP, TYPING), 0.0),
        ((GREETER, MANAGER, CLOSING), math.inf),
        ((DESKTOP, GREETER), 23.0),
        ((), math.inf),
    ],
)
def test_the_least_idle_of_peoples_sessions_counts(sessions, idle):
    assert sensors.least_idle(sensors.read_sessions("\n".join(sessions)), 123.0) == idle


def test_logind_is_asked_and_its_clock_is_ours(logind):
    since = int((time.monotonic() - 700) * 1e6)
    logind(GREETER, DESKTOP.replace("100000000", str(since)))
    assert sensors.idle() == pytest.approx(700, abs=5)
    logind(TYPING)
    assert sensors.idle() == 0.0
    logind()
    assert sensors.idle() == math.inf


def test_x11_knows_better_than_a_desktop_that_never_says_idle(logind, script):
    logind(X11)
    assert sensors.idle() == 0.0
    script("xprintidle", '[ "$DISPLAY" = :0 ] && echo 91250')
    assert sensors.idle() == 91.25
    script("xprintidle", "echo 'no screen' >&2; exit 1")
    assert sensors.idle() == 0.0


def test_without_logind_a_display_of_our_own_is_asked(script, monkeypatch):
    script("loginctl", "echo 'Failed to connect to bus' >&2; exit 1")
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(
        CannotTell, match="loginctl list-sessions ended with exit code 1: Failed to connect to bus"
    ):
        sensors.idle()
    monkeypatch.setenv("DISPLAY", ":1")
    script("xprintidle", "echo 5000")
    assert sensors.idle() == 5.0


def test_a_session_of_which_logind_says_nothing_can_not_be_told(logind):
    logind(TYPING.replace("IdleHint=no", "IdleHint="))
    with pytest.raises(CannotTell, match="'7'"):
        sensors.idle()


def test_the_real_loginctl_is_understood_or_says_why_not():
    """Whatever this machine is: a number, or a reason."""
    try:
        assert sensors.idle() >= 0
    except CannotTell as error:
        assert "loginctl" in str(error)


@pytest.mark.parametrize(
    ("command", "idle"), [("exit 0", math.inf), ("exit 1", 0.0), ("[ -e /nowhere ]", 0.0)]
)
def test_a_command_says_there_or_away_by_its_exit_code(command, idle):
    assert sensors.answer(command) == idle


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("echo 'no such badge reader' >&2; exit 2", "ended with exit code 2: no such badge reader"),
        ("no-such-program-anywhere", "ended with exit code 127"),
        ("kill -9 $$", "ended with exit code -9: it said nothing"),
    ],
)
def test_any_other_end_of_a_command_can_not_be_told(command, words):
    with pytest.raises(CannotTell, match=words):
        sensors.answer(command)


def test_a_command_that_hangs_can_not_be_told_and_leaves_nothing_running(monkeypatch, tmp_path):
    monkeypatch.setattr(sensors, "_COMMAND_TIMEOUT_SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(CannotTell, match="did not answer"):
        sensors.answer(f"sleep 60 & echo $! > {tmp_path}/pid; wait")
    assert time.monotonic() - began < 5
    pid = (tmp_path / "pid").read_text().strip()
    state = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True, check=False)
    assert state.stdout.strip()[:1] in ("", "Z")


def test_the_built_in_presences_are_plugins_and_others_are_named_in_the_refusal():
    assert set(presences(node_plugins(sensors))) == {"none", "idle", "command"}
    with pytest.raises(InvalidConfig, match=r"named 'idel'.*; did you mean 'idle'\?"):
        sensor(OwnerSettings(presence="idel"))
    with pytest.raises(
        InvalidConfig, match="owner.presence: no presence plugin is named 'badge'.*command, idle, none"
    ):
        sensor(OwnerSettings(presence="badge"))
    assert sensor(OwnerSettings())() == math.inf


def test_presence_is_told_without_torch_ray_or_sql():
    code = "import sys, nodeagent.owner.watch; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "ray", "sqlalchemy"} & set(loaded)


def test_an_owners_word_lasts_until_they_said_and_what_can_not_be_read_counts(tmp_path):
    assert claimed(tmp_path, 1000.0) == ""
    claim(tmp_path, 200_000.0)
    assert claimed(tmp_path, 199_999.0).startswith("was claimed by its owner until 1970-01-0")
    assert claimed(tmp_path, 200_000.0) == ""
    claim(tmp_path, None)
    assert claimed(tmp_path, 1e12) == "was claimed by its owner until they release it"
    release(tmp_path)
    release(tmp_path)
    assert claimed(tmp_path, 1000.0) == ""
    (tmp_path / "mine.json").write_text("yes please")
    assert "can't be read" in claimed(tmp_path, 1000.0)
