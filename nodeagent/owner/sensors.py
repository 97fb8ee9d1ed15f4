"""The built-in plugins that find out whether somebody is at a workstation: `none`, `idle` and `command`.

nodeagent.owner.owner decides what the agent does when somebody is there.
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
    """Return the built-in presence plugins, which find out whether somebody is at the workstation.

    `none` doesn't look for anybody, `idle` reads Linux sessions, and `command` runs a command.
    """
    return [
        Presence("none", "nobody is looked for", lambda command: AWAY),
        Presence("idle", "sessions' idle times, from logind and X11", lambda command: idle()),
        Presence("command", "a command's exit code", answer),
    ]


def answer(command: str) -> float:
    """Return the seconds since the owner was last there, according to a shell command.

    Exit code 0 of the command means that the owner is away; the function then returns AWAY. Exit code 1 means that the
    owner is there; it then returns 0.0. Any other exit code raises CannotTell.
    """
    code, said = _run(["/bin/sh", "-c", command])
    if code not in (0, 1):
        last = said.strip().splitlines()[-1:] or ["it said nothing"]
        raise CannotTell(f"owner.command ended with exit code {code}: {last[0]}")
    return 0.0 if code else AWAY


def idle() -> float:
    """Return the seconds since a logged-in person touched the machine; AWAY if nobody is logged in.

    Raises CannotTell if neither logind nor xprintidle gives the time.
    """
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
    """Return a dict for each session in the output of `loginctl show-session`.

    The output has a block of KEY=VALUE lines for each session, with an empty line between two blocks.
    """
    return [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for block in text.strip().split("\n\n")
        if block.strip()
    ]


def least_idle(sessions: Sequence[Mapping[str, str]], now: float) -> float:
    """Return the seconds since somebody last used the machine in a session; AWAY if there is no session.

    Login screens, services and closing sessions don't count. For X11 sessions, the time comes from xprintidle if that
    program is installed, because logind notices an idle desktop only after some minutes.

    Args:
        sessions: The sessions, as `read_sessions` returns them.
        now: The time by CLOCK_MONOTONIC, in seconds.

    Raises:
        CannotTell: logind doesn't say whether a session is idle.
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
    raise CannotTell(f"logind doesn't say whether session {session.get('Id')!r} is idle")


def _touched(display: str) -> float:
    said = _read(["xprintidle"], {**os.environ, "DISPLAY": display}).strip()
    if not said.isdecimal():
        raise CannotTell(f"xprintidle must print a number of milliseconds, got {said!r}")
    return int(said) / 1000


def _read(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    code, said = _run(command, environment)
    if code:
        raise CannotTell(f"{' '.join(command[:2])} ended with exit code {code}: {said.strip()}")
    return said


def _run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Return a command's exit code and output. Raises CannotTell if it can't be run, or takes too long and is killed."""
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
