"""The built-in ways to tell whether somebody is at a workstation, as plugins like any other: none, idle, command.

Thin edges: a program is run, its words are read. What follows is nodeagent.owner.owner's to judge.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence

from farm.hookspecs import hookimpl
from farm.presence import AWAY, CannotTell, Presence

_COMMAND_TIMEOUT_SECONDS = 5.0
_PROPERTIES = ("Id", "Class", "State", "Type", "Display", "IdleHint", "IdleSinceHintMonotonic")


@hookimpl
def farm_presences() -> list[Presence]:
    """Of Linux, and of whatever a command can find out."""
    return [
        Presence("none", "nobody is looked for", lambda command: AWAY),
        Presence("idle", "sessions' idle times, from logind and X11", lambda command: idle()),
        Presence("command", "a command's exit code", answer),
    ]


def answer(command: str) -> float:
    """What a shell command says by its exit code: 0 away, 1 there. Raises CannotTell for any other."""
    code, said = _run(["/bin/sh", "-c", command])
    if code not in (0, 1):
        last = said.strip().splitlines()[-1:] or ["it said nothing"]
        raise CannotTell(f"owner.command ended with {code}: {last[0]}")
    return 0.0 if code else AWAY


def idle() -> float:
    """Seconds since anybody who is logged in touched the machine, AWAY when nobody is. Raises CannotTell."""
    try:
        listed = _read(["loginctl", "list-sessions", "--no-legend"])
        ids = [line.split()[0] for line in listed.splitlines() if line.split()]
        asked = [part for name in _PROPERTIES for part in ("-p", name)]
        sessions = read_sessions(_read(["loginctl", "show-session", *asked, *ids])) if ids else []
    except CannotTell:
        # A machine without logind may have a display all the same.
        if display := os.environ.get("DISPLAY"):
            return _touched(display)
        raise
    return least_idle(sessions, time.monotonic())


def read_sessions(text: str) -> list[dict[str, str]]:
    """What `loginctl show-session` says, a dict a session: blocks of KEY=VALUE with an empty line between."""
    return [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for block in text.strip().split("\n\n")
        if block.strip()
    ]


def least_idle(sessions: Sequence[Mapping[str, str]], now: float) -> float:
    """Seconds since the last touch in any session of a person at `now` (CLOCK_MONOTONIC); AWAY without one.

    Login screens, services and sessions that are being closed are nobody. A desktop tells logind after some minutes
    without a touch; X11 knows to the millisecond, where xprintidle is installed.
    """
    found = AWAY
    for session in sessions:
        if session.get("Class") not in ("user", "user-early") or session.get("State") == "closing":
            continue
        found = min(found, _idle_of(session, now))
    return found


def _idle_of(session: Mapping[str, str], now: float) -> float:
    if session.get("Type") == "x11" and session.get("Display") and shutil.which("xprintidle"):
        try:
            return _touched(session["Display"])
        except CannotTell:
            pass  # another user's display; logind has a word for it too
    match session.get("IdleHint"):
        case "no":
            return 0.0
        case "yes":
            return max(0.0, now - int(session.get("IdleSinceHintMonotonic") or 0) / 1e6)
    raise CannotTell(f"logind says nothing of whether session {session.get('Id')!r} is idle")


def _touched(display: str) -> float:
    said = _read(["xprintidle"], {**os.environ, "DISPLAY": display}).strip()
    if not said.isdecimal():
        raise CannotTell(f"xprintidle said {said!r}, no milliseconds")
    return int(said) / 1000


def _read(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    code, said = _run(command, environment)
    if code:
        raise CannotTell(f"{' '.join(command[:2])} ended with {code}: {said.strip()}")
    return said


def _run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit code and what was printed. Raises CannotTell when it can't be run or takes too long; nothing is left."""
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )
        except OSError as error:
            raise CannotTell(f"{command[0]} can't be run: {error.strerror}") from None
        try:
            code = process.wait(_COMMAND_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise CannotTell(
                f"{' '.join(command[:3])} did not answer within {_COMMAND_TIMEOUT_SECONDS:g} s"
            ) from None
        said.seek(0)
        return code, said.read().decode(errors="replace")
