"""The interface of presence plugins, which tell whether somebody is at a workstation.

This module also reads and writes the file with which an owner claims the machine.
nodeagent.owner.owner decides what the agent does when the owner is present or has claimed the machine.
"""

# The agent and farmctl import this module, so it imports little.

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from farm import damaged_files
from farm.durable import write_whole

AWAY = math.inf
"""Seconds of idleness that mean: nobody is at the machine, for an unknown time."""

_FILE = "mine.json"


class CannotTell(Exception):
    """A plugin can't tell whether the owner is present. The message says why."""


@dataclass(frozen=True)
class Presence:
    """A plugin that tells whether somebody is at a workstation.

    Attributes:
        name: The name by which the setting owner.presence in node.toml selects the plugin.
        description: What the plugin looks at, for people.
        seconds_idle: `seconds_idle(command)` returns the seconds since somebody last used the machine. The result is
            0.0 if the owner is present, and AWAY if nobody is logged in. `command` is the setting owner.command in
            node.toml. The agent calls this function every few seconds in a thread. The function should return within a
            few seconds, or raise CannotTell. After CannotTell the agent takes no work.
    """

    name: str
    description: str
    seconds_idle: Callable[[str], float]


def claim(home: Path, until: float | None) -> None:
    """Take the machine from the farm for its owner.

    Args:
        home: The agent's home folder. Anybody who may write to this folder may claim the machine.
        until: The Unix time at which the farm gets the machine back; None: only `release` gives it back.

    Raises:
        OSError: The file in `home` can't be written.
    """
    write_whole(home / _FILE, json.dumps({"until": until}).encode())


def release(home: Path) -> None:
    """Give the machine back to the farm. Raises OSError."""
    (home / _FILE).unlink(missing_ok=True)


def claimed(home: Path, now: float) -> str:
    """Return why the farm may not use the machine at `now` (Unix seconds); "" if the farm may use it.

    The reason continues a sentence whose subject is the machine: "was claimed by its owner until …".
    """
    file = home / _FILE
    try:
        said = damaged_files.read_object(
            file, "Replace it with `farmctl node claim`, or remove it with `farmctl node release`"
        )
        until = said["until"]
        if until is None:
            return "was claimed by its owner until they release it"
        if isinstance(until, bool) or not isinstance(until, (int, float)):
            raise TypeError("`until` must be null or a Unix time in seconds")
        return "" if now >= until else f"was claimed by its owner until {_at(until)}"
    except FileNotFoundError:
        return ""
    except (damaged_files.DamagedFile, KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        # The file is damaged, but somebody has claimed the machine.
        return f"was claimed by its owner, though {file} can't be read: {error}"


def _at(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
